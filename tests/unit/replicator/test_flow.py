"""What a flow takes, what it drops, and what ends it."""

from __future__ import annotations

import pytest

from services.replicator.flow import Flow, Sent, Why
from services.replicator.positions import Bounds, CopyState
from streams.copies import Origin, hole_headers, origin_header

PLACE = ("east-1.events", 3)


def held(count: int) -> CopyState:
    """A copy of `count` records, each with its number as checksum, all of leader epoch 1."""
    state = CopyState()
    for offset in range(count):
        state.read(offset, offset, offset + 1, offset, 1)
    return state


def original(state: CopyState, **options: object) -> Flow:
    """A flow from the origin."""
    return Flow(PLACE, state, source="east", from_origin=True, **options)  # type: ignore[arg-type]


def copied(state: CopyState, **options: object) -> Flow:
    """A flow from another region's copy."""
    return Flow(PLACE, state, source="south", from_origin=False, **options)  # type: ignore[arg-type]


def from_copy(offset: int, epoch: int = 1) -> list[tuple[str, bytes]]:
    """Headers of a copied record."""
    return [("n", b"1"), origin_header(Origin(offset, epoch))]


def why(flow: Flow) -> Why | None:
    """Why it ended."""
    return flow.ended.why if flow.ended else None


def test_the_last_record_must_be_shown_before_anything_is_taken() -> None:
    """It is read again, held against what is known, and not sent again."""
    flow = original(held(5))
    assert flow.start_offset == 4
    assert not flow.proved
    assert flow.take(4, 1, [], 4) is None
    assert flow.proved
    assert flow.take(5, 1, [], 55) == Sent(5, 6, 55, 1)


@pytest.mark.parametrize(("offset", "checksum"), [(4, 99), (5, 4), (3, 4)])
def test_another_record_in_the_place_of_the_last_one_ends_it(offset: int, checksum: int) -> None:
    """Whether its content or its offset differs; nothing after it is taken."""
    flow = original(held(5))
    assert flow.take(offset, 1, [], checksum) is None
    assert why(flow) is Why.NOT_SHOWN
    assert flow.take(5, 1, [], 5) is None


def test_a_missing_record_ends_it_and_a_known_one_is_dropped() -> None:
    """The reader rule, at the source."""
    flow = original(held(0))
    assert flow.take(0, 1, [], 0) is not None
    assert flow.take(0, 1, [], 0) is None
    assert flow.ended is None
    assert flow.take(2, 1, [], 2) is None
    assert why(flow) is Why.NOT_THERE


def test_another_leader_epoch_in_the_middle_is_a_doubt() -> None:
    """The source must show the last record again under it."""
    flow = original(held(0))
    assert flow.take(0, 1, [], 0) is not None
    assert flow.take(1, 2, [], 1) is None
    assert why(flow) is Why.DOUBT


def test_a_record_written_later_below_an_end_that_was_seen_is_never_taken() -> None:
    """The log reached 8 under epoch 1; a record at 5 of epoch 2 took the place of another."""
    flow = original(held(5), bounds=Bounds().saw(1, 8))
    flow.take(4, 1, [], 4)
    assert flow.take(5, 2, [], 5) is None
    assert why(flow) is Why.REPLACED
    later = original(held(5), bounds=Bounds().saw(1, 5))
    later.take(4, 1, [], 4)
    assert later.take(5, 2, [], 5) is None
    assert why(later) is Why.DOUBT


def test_a_doubt_about_a_leader_epoch_is_settled_by_showing_the_last_record_again() -> None:
    """A broker that was restarted leads under another epoch: behind that place there is more to copy."""
    first = original(held(5), bounds=Bounds().saw(1, 5))
    first.take(4, 1, [], 4)
    assert first.take(5, 2, [], 5) is None
    assert first.ended is not None and first.ended.leader_epoch == 2
    again = original(held(5), bounds=Bounds().saw(1, 5), doubted_epoch=2)
    assert again.take(4, 1, [], 4) is None
    assert again.take(5, 2, [], 5) == Sent(5, 6, 5, 2)
    assert again.take(6, 3, [], 6) is None
    assert why(again) is Why.DOUBT


def test_nothing_beyond_the_cut_of_a_sealed_life_is_taken() -> None:
    """Everything below is."""
    flow = original(held(0), limit=2)
    assert [flow.take(offset, 1, [], offset) is not None for offset in range(4)] == [True, True, False, False]
    assert flow.ended is None


def test_an_origin_that_shows_copies_is_none() -> None:
    """A wiped region's Kafka has topics of the same name."""
    flow = original(held(0))
    assert flow.take(0, 1, from_copy(0), 0) is None
    assert why(flow) is Why.IS_COPY


def test_a_copy_is_read_by_its_headers() -> None:
    """Its own offsets say nothing; what is doubled or known is dropped; a hole counts for what it stands for."""
    flow = copied(held(2), step_back=1000)
    assert flow.start_offset == 0
    assert flow.take(0, 7, from_copy(0), 0) is None
    assert flow.take(1, 7, from_copy(1), 1) is None
    assert flow.proved
    assert flow.take(2, 7, from_copy(2, 5), 2) == Sent(2, 3, 2, 5)
    assert flow.take(3, 7, from_copy(2, 5), 2) is None
    assert flow.take(4, 7, hole_headers(3, 10), 0) == Sent(3, 10, 0, -1, is_hole=True)
    assert flow.take(5, 7, from_copy(10), 10) == Sent(10, 11, 10, 1)


def test_a_hole_that_begins_in_what_is_held_is_shortened() -> None:
    """Only what is missing is written as a hole."""
    flow = copied(held(5), step_back=1000)
    flow.take(0, 7, from_copy(4), 4)
    assert flow.take(1, 7, hole_headers(2, 9), 0) == Sent(5, 9, 0, -1, is_hole=True)


def test_a_reading_that_begins_too_late_is_begun_again() -> None:
    """The copy has fewer records than offsets, because of a hole."""
    flow = copied(held(50))
    assert flow.start_offset == 49
    assert flow.take(49, 7, from_copy(80), 80) is None
    assert why(flow) is Why.TOO_FAR


def test_a_copy_with_a_gap_gives_nothing_after_it() -> None:
    """What is missing may still come; at the end of that copy it is known that it will not."""
    flow = copied(held(0))
    assert flow.take(0, 7, from_copy(0), 0) is not None
    assert flow.take(1, 7, from_copy(2), 2) is None
    assert flow.ended is None
    flow.at_source_end()
    assert why(flow) is Why.NOT_THERE


def test_a_delivery_elsewhere_ends_it_and_says_who_it_was() -> None:
    """Beyond the expected place somebody else writes; before it the copy lost records."""
    for where, reason in ((6, Why.FOREIGN), (4, Why.LOST)):
        flow = original(held(5))
        flow.take(4, 1, [], 4)
        for offset in (5, 6):
            sent = flow.take(offset, 1, [], offset)
            assert sent is not None
            flow.sent(sent, 1)
        assert not flow.delivered(None, where)
        assert why(flow) is reason
        assert not flow.delivered(None, where + 1)
        assert not flow.pending
        assert flow.state.next_offset == 5


def test_a_record_that_was_not_acknowledged_ends_it() -> None:
    """Nothing that was sent after it counts either: where the copy stands is found out by walking it."""
    flow = original(held(0))
    for offset in range(3):
        sent = flow.take(offset, 1, [], offset)
        assert sent is not None
        flow.sent(sent, 1)
    assert flow.delivered(None, 0)
    assert not flow.delivered("timed out", -1)
    assert not flow.delivered(None, 1)
    assert why(flow) is Why.UNDELIVERED
    assert flow.state.next_offset == 1


def test_a_flow_that_ended_lets_nothing_out() -> None:
    """Also what it had decided to send before somebody ended it."""
    flow = original(held(0))
    sent = flow.take(0, 1, [], 0)
    assert sent is not None
    flow.end(Why.MOVED)
    assert not flow.sent(sent, 1)
    assert not flow.pending
