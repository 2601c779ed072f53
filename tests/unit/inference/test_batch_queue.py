"""The batching rule, with a clock moved by hand."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from services.inference.batch_queue import BatchLimits, BatchQueue, Flush, Key, Pace, Refusal, Ticket

ROWS_MAX = 4
LIMITS = BatchLimits(delay_seconds=0.010, queue_rows_max=8, slack_margin_seconds=0.001)
KEY: Key = ("ranker", "1", 64)
OTHER: Key = ("ranker", "1", 256)


def ticket(arrived: float, *, key: Key = KEY, rows: int = 1, deadline: float = math.inf, name: str = "") -> Ticket[str]:
    """A request."""
    return Ticket(key, rows, arrived, deadline, name)


def pace_of(_: Key) -> Pace:
    """Four rows a run, 5 ms each."""
    return Pace(ROWS_MAX, 0.005)


def test_a_request_that_finds_the_engine_free_runs_at_once() -> None:
    """No waiting for company that nobody promised."""
    queue: BatchQueue[str] = BatchQueue(LIMITS)
    assert queue.offer(ticket(1.0), 1.0) is None
    decision = queue.decide(1.0, 0.5, pace_of)
    assert decision.batch is not None
    assert decision.batch.flush is Flush.IDLE


def test_requests_that_came_during_a_run_wait_for_the_delay_counted_from_arrival() -> None:
    """The wake-up time is exact, and all of them go together."""
    queue: BatchQueue[str] = BatchQueue(LIMITS)
    queue.offer(ticket(1.000), 1.000)
    queue.offer(ticket(1.004), 1.004)
    early = queue.decide(1.005, 1.005, pace_of)
    assert early.batch is None
    assert early.wake_seconds == 1.010
    late = queue.decide(1.010, 1.005, pace_of)
    assert late.batch is not None
    assert (late.batch.flush, late.batch.rows) == (Flush.DELAY, 2)


def test_a_full_batch_does_not_wait_and_takes_no_more_than_its_size() -> None:
    """Five rows: four go, one stays."""
    queue: BatchQueue[str] = BatchQueue(LIMITS)
    for _ in range(5):
        queue.offer(ticket(1.0), 1.0)
    decision = queue.decide(1.001, 1.001, pace_of)
    assert decision.batch is not None
    assert (decision.batch.flush, decision.batch.rows) == (Flush.SIZE, 4)
    assert queue.rows_waiting == 1


def test_a_near_deadline_flushes_before_the_delay() -> None:
    """Due one run and a margin before the earliest deadline, whoever has it."""
    queue: BatchQueue[str] = BatchQueue(LIMITS)
    queue.offer(ticket(1.000), 1.000)
    queue.offer(ticket(1.001, deadline=1.010), 1.001)
    waiting = queue.decide(1.002, 1.002, pace_of)
    assert waiting.batch is None
    assert math.isclose(waiting.wake_seconds, 1.004)
    due = queue.decide(1.0041, 1.002, pace_of)
    assert due.batch is not None
    assert (due.batch.flush, due.batch.rows) == (Flush.SLACK, 2)


def test_what_has_expired_is_refused_on_arrival_and_dropped_in_the_queue() -> None:
    """Also while the engine runs: the caller hears it at its deadline, not after the run."""
    queue: BatchQueue[str] = BatchQueue(LIMITS)
    assert queue.offer(ticket(1.0, deadline=1.0), 1.0) is Refusal.EXPIRED
    queue.offer(ticket(1.0, deadline=1.5, name="late"), 1.0)
    queue.offer(ticket(1.0, deadline=9.0, name="kept"), 1.0)
    running = queue.decide(1.2, None, pace_of)
    assert (running.batch, running.expired, running.wake_seconds) == (None, (), 1.5)
    expired = queue.decide(1.5, None, pace_of).expired
    assert [found.work for found in expired] == ["late"]
    assert queue.rows_waiting == 1


def test_the_queue_is_bounded_in_rows() -> None:
    """Eight rows fit; a ninth is refused, and fits again after a batch left."""
    queue: BatchQueue[str] = BatchQueue(LIMITS)
    assert queue.offer(ticket(1.0, rows=4), 1.0) is None
    assert queue.offer(ticket(1.0, rows=4), 1.0) is None
    assert queue.offer(ticket(1.0), 1.0) is Refusal.FULL
    queue.decide(1.0, 0.0, pace_of)
    assert queue.offer(ticket(1.0), 1.0) is None


def test_keys_never_share_a_batch_and_the_oldest_goes_first() -> None:
    """Two candidate buckets: two batches, in the order of their oldest requests."""
    queue: BatchQueue[str] = BatchQueue(LIMITS)
    queue.offer(ticket(1.000, key=OTHER), 1.000)
    queue.offer(ticket(1.001), 1.001)
    queue.offer(ticket(1.002, key=OTHER), 1.002)
    first = queue.decide(1.020, 1.010, pace_of).batch
    second = queue.decide(1.020, 1.010, pace_of).batch
    assert first is not None
    assert second is not None
    assert (first.key, first.rows, second.key, second.rows) == (OTHER, 2, KEY, 1)


def test_a_withdrawn_request_leaves_once() -> None:
    """Its rows are free again; withdrawing it again, or after its batch left, says so."""
    queue: BatchQueue[str] = BatchQueue(LIMITS)
    left = ticket(1.0)
    queue.offer(left, 1.0)
    assert queue.withdraw(left)
    assert not queue.withdraw(left)
    assert queue.rows_waiting == 0
    assert queue.decide(1.0, 0.0, pace_of).batch is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["offer", "decide", "busy", "withdraw"]),
            st.integers(1, 4),
            st.sampled_from([KEY, OTHER]),
            st.floats(0, 0.02),
            st.floats(-0.005, 0.03),
        ),
        max_size=80,
    )
)
def test_every_request_leaves_exactly_one_way(steps: list[tuple[str, int, Key, float, float]]) -> None:
    """Any order of calls: the invariant holds, nothing is lost, doubled, late, or in too large a batch."""
    queue: BatchQueue[int] = BatchQueue(LIMITS)
    now, idle_since = 0.0, 0.0
    waiting: dict[int, Ticket[int]] = {}
    for number, (what, rows, key, pause, budget) in enumerate(steps):
        now += pause
        if what == "offer":
            offered = Ticket(key, rows, now, now + budget, number)
            if queue.offer(offered, now) is None:
                waiting[number] = offered
        elif what == "withdraw" and waiting:
            assert queue.withdraw(waiting.pop(min(waiting)))
        elif what in ("decide", "busy"):
            decision = queue.decide(now, idle_since if what == "decide" else None, pace_of)
            for gone in decision.expired:
                assert waiting.pop(gone.work).deadline_seconds <= now
            if decision.batch is not None:
                assert what == "decide"
                assert decision.batch.rows <= ROWS_MAX
                for gone in decision.batch.tickets:
                    assert waiting.pop(gone.work).deadline_seconds > now
                    assert gone.key == decision.batch.key
            assert decision.wake_seconds > now or decision.batch is not None
        assert queue.check() is None
    assert queue.rows_waiting == sum(left.rows for left in waiting.values())
