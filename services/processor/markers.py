"""Beginning a term: a marker in every partition of the rankings log, before the first effect.

The marker says how much of every rankings log the new term accepts. What stands behind that and carries a smaller epoch
is stale for every reader, in any order. The ends are known before they are needed: they are looked at every so often,
so that a promotion has to read only what was written since.
"""

from __future__ import annotations

import asyncio

from confluent_kafka import Consumer

from services.common.clock import Clock
from services.common.logging import get_logger
from services.processor.logs import KnownLogs
from streams.asks import Epoch
from streams.broker_probe import BrokerProbe
from streams.delivery import Delivery
from streams.epochs import EpochMarker, encode_marker
from streams.locate import records_at
from streams.logs import consumer_settings, rankings_log, record_key
from streams.truncation import LogUnreachableError, Place

log = get_logger(__name__)

LOOK_SECONDS = 2.0
"""How often the ends are looked at while nothing begins: a promotion reads what was written since."""


class RankingsEnds:
    """How far each rankings log goes here, as offsets of its origin. One caller at a time; blocks."""

    def __init__(self, bootstrap: str, group: str, logs: KnownLogs, timeout_seconds: float) -> None:
        self._probe = BrokerProbe(bootstrap, f"{group}.probe", timeout_seconds)
        self._settings = {
            **consumer_settings(bootstrap, group),
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
            "log_level": 2,
        }
        self._consumer: Consumer | None = None
        self._logs = logs
        self._timeout_seconds = timeout_seconds
        self._known: dict[Place, tuple[int, int]] = {}

    def look(self) -> list[tuple[str, int, int]]:
        """Rows `[log, partition, next offset]`. Raises LogUnreachableError."""
        logs = self._logs.now
        ends = {place: end.next_offset for place, end in self._probe.ends(logs.rankings_places).items()}
        moved = {
            place: end - 1
            for place, end in ends.items()
            if end > 0 and logs.is_copy(place[0]) and self._known.get(place, (0, 0))[0] != end
        }
        if moved:
            if self._consumer is None:
                self._consumer = Consumer(self._settings)
            for place, last in records_at(self._consumer, moved, self._timeout_seconds).items():
                self._known[place] = (ends[place], last.end)
        rows = []
        for place, end in sorted(ends.items()):
            rows.append((*place, self._known.get(place, (0, 0))[1] if end > 0 and logs.is_copy(place[0]) else end))
        return rows

    def close(self) -> None:
        """Let the consumer go."""
        if self._consumer is not None:
            self._consumer.close()


class Markers:
    """Writes the markers of this region's terms."""

    def __init__(
        self,
        region: str,
        delivery: Delivery,
        ends: RankingsEnds,
        logs: KnownLogs,
        clock: Clock,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._region = region
        self._delivery = delivery
        self._ends = ends
        self._logs = logs
        self._clock = clock
        self._look_seconds = look_seconds
        self._looking = asyncio.Lock()

    async def keep_ready(self) -> None:
        """Look at the ends every so often, for ever."""
        while True:
            try:
                await self._look()
            except LogUnreachableError as problem:
                log.debug("the ends of the rankings logs are not known", reason=str(problem))
            await self._clock.sleep(self._look_seconds)

    async def write(self, epoch: Epoch) -> None:
        """Write the markers of `epoch` and wait for all acknowledgements. Raises LogUnreachableError, DeliveryError."""
        logs = self._logs.now
        marker = EpochMarker(
            region=self._region,
            incarnation=logs.own,
            epoch=epoch,
            written_ms=self._clock.unix_ms(),
            accepted=await self._look(),
        )
        value, headers = encode_marker(marker)
        await asyncio.gather(
            *(
                self._delivery.deliver(
                    rankings_log(logs.own), value, key=record_key(partition), headers=headers, partition=partition
                )
                for partition in range(logs.partitions)
            )
        )

    async def _look(self) -> list[tuple[str, int, int]]:
        async with self._looking:
            return await asyncio.to_thread(self._ends.look)
