"""What the thread that carries records decides, without Kafka."""

from __future__ import annotations

from services.common.clock import SystemClock
from services.replicator.flow import Flow
from services.replicator.positions import CopyState
from services.replicator.progress import TokenBucket
from services.replicator.pump import _SILENT_SECONDS, Pump, _Lane
from services.replicator.settings import ReplicatorSettings

PLACE = ("east-1.events", 0)


class TurnedClock(SystemClock):
    """Stands where the test puts it."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_a_throttle_is_not_taken_for_silence_of_the_source() -> None:
    """A partition whose records wait behind those of others, for a throttle, would be read again and again."""
    clock, per_second = TurnedClock(), 1 << 30
    throttle = TokenBucket(per_second, clock.now)
    pump = Pump(
        "east",
        "127.0.0.1:9",
        ReplicatorSettings(),
        clock,
        is_fresh=lambda _: True,
        on_end=lambda: None,
        throttle=throttle,
    )
    flow = Flow(PLACE, CopyState(), source="east", from_origin=True)
    lane = _Lane(flow, lambda *_: None, clock.now)
    pump._lanes[PLACE] = lane
    clock.now += _SILENT_SECONDS
    pump._pace(per_second // 4 + per_second // 20)
    clock.now += 0.04
    assert not pump._must_renew()
    assert flow.ended is None
    clock.now += 0.1
    assert pump._must_renew()
