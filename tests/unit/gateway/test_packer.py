"""When frames close: at once while it is quiet, fuller under load, at once for somebody who waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.packer import CloseReason, Frame, FrameLimits, Packer
from streams.asks import Ask
from streams.frame import EventRow
from streams.kinds import Kind

LIMITS = FrameLimits(events_target=3, events_max=6, bytes_max=10_000, age_seconds=0.005, in_flight_max=2)
ASK = Ask(ask_id="a", reply_to="g", kind="search", deadline_unix_ms=0, at_ms=0)


def row(body: bytes = b"") -> EventRow:
    """Some event."""
    return EventRow(identity=bytes(16), time_ms=0, user=1, session=1, kind=Kind.VIEW, body=body)


def packer(limits: FrameLimits = LIMITS) -> Packer[int]:
    """A packer whose tickets are numbers."""
    return Packer(limits)


def add(packed: Packer[int], count: int, now: float = 0.0, partition: int = 0) -> list[Frame[int]]:
    """Add events; the frames that were full."""
    frames = [packed.add(partition, 7, row(), number, now) for number in range(count)]
    return [frame for frame in frames if frame is not None]


def reasons(frames: list[Frame[int]]) -> list[CloseReason]:
    """Why frames were closed."""
    return [frame.reason for frame in frames]


def test_a_quiet_partition_waits_for_nothing() -> None:
    """With nothing in flight, what a request brought goes out as one frame at once."""
    packed = packer()
    assert add(packed, 2) == []
    (frame,) = packed.settle(0.0)
    assert (frame.reason, frame.tickets, frame.key) == (CloseReason.IDLE, [0, 1], 7)
    assert packed.settle(1.0) == []


def test_behind_a_frame_in_flight_events_gather_until_the_target() -> None:
    """A third event fills the frame; the first frame is not acknowledged yet."""
    packed = packer()
    add(packed, 1)
    packed.settle(0.0)
    add(packed, 2)
    assert packed.settle(0.001) == []
    assert reasons(add(packed, 1)) == [CloseReason.EVENTS]


def test_an_acknowledgement_lets_what_gathered_go() -> None:
    """Like Nagle: the ack of the only frame in flight closes the next."""
    packed = packer()
    add(packed, 1)
    packed.settle(0.0)
    add(packed, 1)
    assert packed.settle(0.0) == []
    packed.done(0)
    assert reasons(packed.settle(0.0)) == [CloseReason.IDLE]


def test_age_closes_a_frame_behind_another() -> None:
    """Nobody waits longer than the age while the log may take more, and `next_due` says when that is."""
    packed = packer()
    add(packed, 1)
    packed.settle(0.0)
    add(packed, 1, now=1.0)
    assert packed.next_due() == pytest.approx(1.005)
    assert packed.settle(1.004) == []
    assert reasons(packed.settle(1.0051)) == [CloseReason.AGE]
    assert packed.next_due() is None


def test_under_load_frames_grow_to_their_hard_bound() -> None:
    """With all flights taken neither target nor age closes a frame; the hard bound does."""
    packed = packer()
    for _ in range(LIMITS.in_flight_max):
        add(packed, LIMITS.events_target)
    assert packed.in_flight == 2
    assert add(packed, 5, now=1.0) == []
    assert packed.settle(9.0) == []
    assert packed.next_due() is None
    assert reasons(add(packed, 1)) == [CloseReason.EVENTS]
    add(packed, 4)
    packed.done(0)
    packed.done(0)
    (frame,) = packed.settle(9.0)
    assert (frame.reason, len(frame.rows)) == (CloseReason.EVENTS, 4)


def test_bytes_close_a_frame_whatever_the_load() -> None:
    """Bodies count, so that no record outgrows what the broker takes."""
    packed = packer()
    for _ in range(LIMITS.in_flight_max):
        add(packed, LIMITS.events_target)
    full = packed.add(0, 7, row(b"x" * 10_000), 1, 0.0)
    assert full is not None
    assert full.reason is CloseReason.BYTES


def test_a_waiting_ranking_closes_at_once_behind_earlier_events() -> None:
    """The ask rides behind the user's events, in the same frame, even with all flights taken."""
    packed = packer()
    for _ in range(LIMITS.in_flight_max):
        add(packed, LIMITS.events_target)
    add(packed, 2)
    frame = packed.ask(0, 7, ASK, 0.0, 99)
    assert (frame.reason, len(frame.rows), frame.asks, frame.riders) == (CloseReason.ASK, 2, [ASK], [99])
    alone = packed.ask(1, 8, ASK, 0.0)
    assert (alone.rows, alone.key, alone.partition) == ([], 8, 1)


def test_what_nobody_waits_for_rides_on_the_next_frame() -> None:
    """A patient event closes no frame but by its greater age; whoever comes next takes it along at once."""
    packed = packer()
    assert packed.add(0, 7, row(), 1, 0.0, patient=True) is None
    assert packed.settle(0.05) == []
    assert packed.next_due() == pytest.approx(LIMITS.patient_age_seconds)
    assert reasons(packed.settle(LIMITS.patient_age_seconds)) == [CloseReason.AGE]
    packed.add(1, 7, row(), 2, 0.0, patient=True)
    packed.add(1, 7, row(), 3, 0.05)
    assert packed.next_due() == pytest.approx(0.055)
    (frame,) = packed.settle(0.05)
    assert (frame.reason, frame.tickets) == (CloseReason.IDLE, [2, 3])
    packed.add(2, 7, row(), 4, 0.0, patient=True)
    assert packed.ask(2, 7, ASK, 0.0).tickets == [4]


def test_partitions_do_not_wait_for_each_other() -> None:
    """A busy partition leaves a quiet one alone."""
    packed = packer()
    add(packed, 1, partition=0)
    packed.settle(0.0)
    add(packed, 1, partition=0)
    add(packed, 1, partition=1)
    assert [frame.partition for frame in packed.settle(0.0)] == [1]


def test_flush_closes_everything() -> None:
    """At the end nothing is left behind."""
    packed = packer()
    add(packed, 1)
    packed.settle(0.0)
    add(packed, 1, partition=0)
    assert reasons(packed.flush()) == [CloseReason.SHUTDOWN]
    assert packed.flush() == []


def test_more_done_than_closed_is_a_bug_that_is_said() -> None:
    """The count of flights never goes below zero in silence."""
    with pytest.raises(AssertionError, match="partition 3"):
        packer().done(3)


@pytest.mark.parametrize(
    "bad", [{"events_target": 0}, {"events_target": 5000}, {"events_max": 40_000}, {"bytes_max": 4 << 20}]
)
def test_limits_that_contradict_each_other_are_refused(bad: dict[str, int]) -> None:
    """A frame must fit dictionary indices and the largest message."""
    with pytest.raises(ValueError, match=r"bytes_max|events_target"):
        FrameLimits(**bad)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2)),
        st.tuples(st.just("add patiently"), st.integers(0, 2)),
        st.tuples(st.just("ask"), st.integers(0, 2)),
        st.tuples(st.just("done"), st.integers(0, 2)),
        st.tuples(st.just("settle"), st.just(0)),
    ),
    max_size=80,
)


@given(STEPS)
def test_every_event_goes_out_once_in_order_and_in_bounds(steps: list[tuple[str, int]]) -> None:
    """Whatever the order of events, asks, acknowledgements and timers."""
    packed, out, flying = packer(), [], {0: 0, 1: 0, 2: 0}
    given_in: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for number, (step, partition) in enumerate(steps):
        closed: list[Frame[int] | None] = []
        if step.startswith("add"):
            given_in[partition].append(number)
            patient = step != "add"
            closed = [packed.add(partition, partition, row(), number, number / 1000, patient=patient)]
        elif step == "ask":
            closed = [packed.ask(partition, partition, ASK, number / 1000)]
        elif step == "settle":
            closed = [*packed.settle(number / 1000)]
        elif flying[partition]:
            packed.done(partition)
            flying[partition] -= 1
        for frame in closed:
            if frame is not None:
                out.append(frame)
                flying[frame.partition] += 1
    out += packed.flush()
    for partition, numbers in given_in.items():
        assert [ticket for frame in out if frame.partition == partition for ticket in frame.tickets] == numbers
    assert all(len(frame.rows) <= LIMITS.events_max and (frame.rows or frame.asks) for frame in out)
