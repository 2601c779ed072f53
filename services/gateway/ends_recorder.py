"""Records acknowledged ends outside the log, often enough to notice a cut, seldom enough to cost nothing."""

import asyncio

from services.common.logging import get_logger
from services.coordination import CoordinationError, KeyValueStore
from services.coordination.region_record import raise_acknowledged_ends
from services.gateway.acked_ends import AckedEnds
from services.gateway.metrics import GatewayMetrics

log = get_logger(__name__)


class EndsRecorder:
    """Writes what changed to the coordination store, at most once an interval. An idle gateway writes nothing."""

    def __init__(
        self, store: KeyValueStore, name: str, ends: AckedEnds, interval_seconds: float, metrics: GatewayMetrics
    ) -> None:
        self._store = store
        self._name = name
        self._ends = ends
        self._interval_seconds = interval_seconds
        self._metrics = metrics
        self._recording = asyncio.Lock()

    async def run(self) -> None:
        """Record until cancelled."""
        while True:
            await self._ends.changed.wait()
            await self.record()
            await asyncio.sleep(self._interval_seconds)

    async def record(self) -> bool:
        """Record what changed since the last time; a failure is logged, counted and tried again.

        Returns whether all that was acknowledged when it was called is recorded: by this call or by another one, for
        which it waits.
        """
        async with self._recording:
            changes = self._ends.take_changes()
            if changes is None:
                return True
            self._metrics.ends_records.inc()
            try:
                await raise_acknowledged_ends(self._store, self._name, changes)
            except CoordinationError as error:
                self._ends.give_back()
                self._metrics.ends_not_recorded.inc()
                log.warning("acknowledged ends were not recorded", reason=str(error))
                return False
            return True
