"""Counting the raw log: what is lost, what is distinct, with frames made by hand."""

from collections.abc import Sequence

import pytest

from services.ledger.acks import Ack
from services.ledger.count import LogCount, LogCounter
from services.ledger.identity import identity_of
from services.ledger.rawlog import RawRecord
from streams.events import Content, identity
from streams.frame import EventRow, encode_frame, frame_headers
from streams.kinds import Kind

LOG = "east-1.events"
SOURCE = "/apps/test"


def row(event_id: str, kind: Kind = Kind.CLICK, time_ms: int = 1_000, query: str = "q", item: str = "a") -> EventRow:
    """An event as the gateway writes it."""
    content = Content(kind=kind, time_ms=time_ms, user=7, session=3, query=query, item=item, body=b'{"price":2}')
    return content.row(SOURCE, event_id)


def record(rows: Sequence[EventRow], offset: int = 0, partition: int = 0) -> RawRecord:
    """A frame in the log."""
    return RawRecord(LOG, partition, offset, encode_frame(rows), frame_headers(len(rows), "0" * 16))


def ack(event_id: str, offset: int = 0, index: int = 0, **said: object) -> Ack:
    """What the app was promised."""
    fields: dict[str, object] = {"time_ms": 1_000, "kind": "click", "query": "q", "item": "a", "partition": 0}
    fields.update(said)
    return Ack(source=SOURCE, id=event_id, log=LOG, offset=offset, index=index, **fields)  # type: ignore[arg-type]


def count(acks: Sequence[Ack], *records: RawRecord) -> LogCount:
    """The result over these records."""
    counter = LogCounter([LOG], acks)
    for one in records:
        counter.take(one)
    return counter.result()


@pytest.mark.parametrize("kind", [Kind.SEARCH, Kind.CLICK, Kind.ITEM, Kind.FEEDBACK])
@pytest.mark.parametrize("text", ["", "plain", "köttbullar 🍝"])
def test_the_identity_is_the_one_that_the_gateway_computes(kind: Kind, text: str) -> None:
    """Two implementations of one formula."""
    content = Content(
        kind=kind,
        time_ms=-5,
        user=2**64 - 1,
        session=9,
        query=text,
        item="i" + text,
        ranking=b"r" * 16,
        position=65_535,
        body=text.encode(),
    )
    assert identity_of("/a", "id-" + text, content.row("/a", "id-" + text)) == identity("/a", "id-" + text, content)


def test_everything_acknowledged_and_in_its_place() -> None:
    """Two frames, three events, nothing lost; a served event that nobody acknowledged counts in the log."""
    result = count(
        [ack("1"), ack("2", index=1), ack("3", offset=1)],
        record([row("1"), row("2")]),
        record([row("3"), row("s", Kind.SERVED)], offset=1),
    )
    assert (result.acknowledged, result.lost, result.distinct_events, result.frames) == (3, 0, 4, 2)
    assert result.distinct_by_kind == {"click": 3, "served": 1}


def test_repetitions_and_catalogue_are_told_apart() -> None:
    """The same event in three frames is one; items are counted by themselves."""
    entry = row("i", Kind.ITEM)
    result = count([], record([row("1"), row("1")]), record([row("1"), entry], offset=1), record([entry], offset=2))
    assert (result.rows, result.distinct_events, result.distinct_items, result.item_rows) == (5, 1, 1, 2)


@pytest.mark.parametrize(
    ("promised", "reason"),
    [
        (ack("1", offset=5), "not in the log"),
        (ack("1", partition=3), "not in the log"),
        (ack("1", index=1), "holds only 1"),
        (ack("1", item="b"), "another event lies there"),
        (ack("1", time_ms=1_001), "another event lies there"),
        (ack("1", kind="cart"), "another event lies there"),
        (ack("2"), "another identity"),
    ],
)
def test_an_event_that_is_not_where_it_was_promised_is_lost(promised: Ack, reason: str) -> None:
    """Each way of not being there, with its reason."""
    result = count([promised], record([row("1")]))
    assert result.lost == 1
    assert reason in result.lost_examples[0]


def test_another_source_with_the_same_id_is_another_event() -> None:
    """Two apps that both number from 1: the ack of one is not met by the other's event."""
    foreign = Ack(
        source="/apps/other",
        id="1",
        time_ms=1_000,
        kind="click",
        log=LOG,
        partition=0,
        offset=0,
        query="q",
        item="a",
    )
    result = count([ack("1"), foreign], record([row("1")]))
    assert (result.acknowledged, result.lost) == (2, 1)


def test_an_acknowledgement_in_a_log_that_was_not_read_is_not_met() -> None:
    """An incarnation that is gone cannot be vouched for by another one's log."""
    elsewhere = Ack(
        source=SOURCE,
        id="1",
        time_ms=1_000,
        kind="click",
        log="west-1.events",
        partition=0,
        offset=0,
        query="q",
        item="a",
    )
    result = count([elsewhere], record([row("1")]))
    assert result.lost == 1 and "west-1.events" in result.lost_examples[0]


def test_an_event_in_a_corrupt_frame_is_lost() -> None:
    """It lies there, but nobody can read it."""
    broken = RawRecord(LOG, 0, 0, b"\x00garbage", frame_headers(1, "0" * 16))
    result = count([ack("1")], broken)
    assert (result.lost, result.corrupt_frames, result.frames) == (1, 1, 0)
    assert "cannot be read" in result.lost_examples[0]


def test_an_event_acknowledged_twice_is_one_and_needs_one_good_place() -> None:
    """A retry was acknowledged again elsewhere; both places hold it, and it counts once."""
    result = count([ack("1"), ack("1", offset=1)], record([row("1")]), record([row("1")], offset=1))
    assert (result.acknowledged, result.lost, result.distinct_events) == (1, 0, 1)


def test_beyond_the_frontier_only_acknowledgements_are_cleared() -> None:
    """What the region has not taken in yet is not held against its counts."""
    counter = LogCounter([LOG], [ack("1"), ack("2", offset=1)])
    counter.take(record([row("1")]))
    counter.take(record([row("2")], offset=1), counted=False)
    result = counter.result()
    assert (result.lost, result.distinct_events) == (0, 1)
    assert counter.newest_acknowledged() == {(LOG, 0): 2}


def test_no_acknowledgements_and_no_log_is_nothing() -> None:
    """Empty in, zeros out."""
    result = count([])
    assert (result.acknowledged, result.lost, result.distinct_events, result.rows) == (0, 0, 0, 0)
