"""How an empty region is rebuilt: the quicker way, and when the copies are here."""

from __future__ import annotations

import msgspec
import pytest

from services.processor.client import SnapshotOffer
from services.processor.rebuild import Copying, Peer, choose
from services.processor.settings import ProcessorSettings
from streams.position import Frontier

LOG = "east-1.events"


def offer(events: int, *, size_bytes: int, events_now: int | None = None) -> SnapshotOffer:
    """What a peer says."""
    rows = [(LOG, 0, 10), ("west-2.events", 0, 4)]
    now = events if events_now is None else events_now
    return SnapshotOffer(digest="d", frontier=rows, events=events, size_bytes=size_bytes, now=rows, events_now=now)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (offer(1_000_000, size_bytes=100_000_000), "snapshot"),
        (offer(1_000, size_bytes=100_000), "replay"),
        (offer(1_000, size_bytes=100_000, events_now=1_000_000), "replay"),
        (offer(200_000, size_bytes=2_000_000_000), "replay"),
    ],
)
def test_the_way_with_the_lower_estimate_is_taken(found: SnapshotOffer, wanted: str) -> None:
    """A small state is replayed; so is one whose snapshot is old, or larger than its events deserve."""
    how, why = choose(found, ProcessorSettings())
    assert how == wanted
    assert " s, the replay " in why


def test_a_setting_decides() -> None:
    """Whatever the estimate says."""
    forced = msgspec.structs.replace(ProcessorSettings(), rebuild="snapshot")
    assert choose(offer(10, size_bytes=10**9), forced)[0] == "snapshot"


def test_the_own_log_is_no_copy_to_wait_for() -> None:
    """What a peer has of it was written here."""
    peer = Peer("east", "http://", offer(1, size_bytes=1))
    assert peer.target("west-2.events") == Frontier({(LOG, 0): 10})


def test_progress_is_said_with_the_time_that_is_left() -> None:
    """From the rate so far; records beyond the target do not count."""
    copying = Copying(Frontier({(LOG, 0): 60, (LOG, 1): 40}), patience_seconds=10)
    assert not copying.done(0.0, {(LOG, 0): 10})
    assert copying.sentence(0.0) == ("rebuilding: 10 % of the copies are here (10 of 100 records), time left unknown")
    assert not copying.done(2.0, {(LOG, 0): 500, (LOG, 1): 0})
    assert copying.sentence(2.0) == ("rebuilding: 60 % of the copies are here (60 of 100 records), about 2 s left")
    assert copying.done(3.0, {(LOG, 0): 60, (LOG, 1): 40})
    assert not copying.stuck(1_000.0)


def test_waiting_ends_when_nothing_comes_any_more() -> None:
    """The peer may be gone for good: the region goes on with what is here."""
    copying = Copying(Frontier({(LOG, 0): 60}), patience_seconds=10)
    assert not copying.done(0.0, {})
    assert not copying.done(9.0, {(LOG, 0): 1})
    assert not copying.done(18.0, {(LOG, 0): 1})
    assert copying.done(19.0, {(LOG, 0): 1})
    assert copying.stuck(19.0)
