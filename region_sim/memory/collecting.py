"""The shared collector over a simulated world: the logs are read where they lie, everything else is asked over HTTP.

Nothing is asked of a log's owner: its disk is read as it stands, as an auditor would read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from region_sim.asking import Asking
from region_sim.collect import Collector, RawRecords
from region_sim.evidence import CountsSeen, Prediction, PredictionsSeen
from region_sim.history import HistoryWriter
from region_sim.memory.inference import FEATURES
from region_sim.memory.logs import Broker
from region_sim.memory.network import OUTSIDE, Unreachable
from services.common.deployment import Site
from services.inference.client import InferenceFailed
from services.ledger.errors import LogUnreadable
from services.ledger.rawlog import RawRecord
from services.ledger.verdict import Claims
from services.processor.ladder import Tensors
from streams.copies import hole_end, origin_of
from streams.dead_letter import DeadLetter, header_pairs, letter_of

if TYPE_CHECKING:
    from region_sim.memory.world import World

WHO = "collector"
ANSWER_SECONDS = 5.0
QUESTIONS: Final = tuple(
    np.array([[(7 * row + 3 * question) % 11, (5 * row + question) % 7] for row in range(12)], np.float32)
    for question in range(4)
)
"""float32[12, 2] each: twelve candidates' features, made so that no two predictions are alike."""


class DiskLog:
    """One log of a simulated broker, or the names of all of them."""

    def __init__(self, broker: Broker, log: str) -> None:
        self._broker = broker
        self._log = log

    def names(self) -> list[str]:
        """See RawRecords."""
        return sorted(self._broker.partition_counts())

    def ends(self) -> dict[int, int]:
        """See RawRecords."""
        count = self._broker.partition_counts().get(self._log, 0)
        ends = self._broker.ends([(self._log, number) for number in range(count)])
        return {place[1]: found.next_offset for place, found in ends.items()}

    def read(self, until: dict[int, int]) -> Iterator[RawRecord]:
        """See RawRecords."""
        lows = self._broker.lows([(self._log, partition) for partition in until])
        for partition, end in sorted(until.items()):
            low = lows[self._log, partition]
            if low:
                raise LogUnreadable(f"{self._log}/{partition} begins at {low} instead of 0")
            for record in self._broker.read(self._log, partition, 0, end):
                headers = [(name, value) for name, value in header_pairs(record.headers)]
                origin = origin_of(headers)
                offset = record.offset if origin is None else origin.offset
                yield RawRecord(self._log, partition, offset, record.value, headers)


class MemoryCollector(Collector):
    """Writes evidence into a history."""

    def __init__(self, asking: Asking, history: HistoryWriter, world: World) -> None:
        super().__init__(asking, history, world.clock)
        self._world = world
        self.decode = world.decode

    def raw(self, site: Site, log: str) -> RawRecords:
        """See Collector."""
        return DiskLog(self._world.sites[site.name].broker, log)

    def origin_ends(self, site: Site, log: str) -> dict[int, int]:
        """See Collector."""
        broker = self._world.sites[site.name].broker
        ends = DiskLog(broker, log).ends()
        return {partition: _origin_end(broker, log, partition, end) for partition, end in ends.items()}

    def dead_letters(self, site: Site, log: str) -> list[DeadLetter]:
        """See Collector."""
        raw = self.raw(site, log)
        letters = [letter_of(header_pairs(record.headers), record.value or b"") for record in raw.read(raw.ends())]
        return [letter for letter in letters if letter is not None]

    async def predictions(self, when: Literal["before", "after"]) -> None:
        """See Collector. The questions are rows of features; a model of a world has no golden set on a disk."""
        for site in self._asking.deployment.regions:
            try:
                seen = await self._ask_model(site.name, when)
            except (InferenceFailed, Unreachable, TimeoutError) as error:
                problem = f"predictions {when}: {type(error).__name__} {error}"
                self._history.add("fail", "collect", WHO, region=site.name, error=problem)
                continue
            self._history.add("info", "collect", WHO, region=site.name, evidence=seen)

    async def _ask_model(self, region: str, when: Literal["before", "after"]) -> PredictionsSeen:
        world = self._world
        site = world.sites[region]
        predictions: list[Prediction] = []
        model = ""
        for number, features in enumerate(QUESTIONS):
            tensors: Tensors = {FEATURES: features}
            scored = await world.network.call(
                OUTSIDE,
                region,
                world.finder(region, "inference"),
                lambda tensors=tensors: site.worker().infer(tensors),  # type: ignore[misc]
                limit_seconds=ANSWER_SECONDS,
            )
            model, scores = scored.model_version, scored.scores[0]
            order = np.argsort(-scores, kind="stable")
            items = [f"candidate-{place}" for place in order]
            said = [round(float(scores[place]), 7) for place in order]
            predictions.append(Prediction(question=f"features-{number}", items=items, scores=said))
        return PredictionsSeen(region=region, when=when, model=model, predictions=predictions)

    def counts(self, counts: dict[str, int]) -> None:
        """What the parts of the world counted of themselves."""
        self._history.add("info", "collect", WHO, evidence=CountsSeen(counts=counts))


@dataclass(frozen=True, slots=True)
class MemoryAsking(Asking):
    """Questions of somebody outside."""

    world: World

    async def claims(self, site: Site) -> Claims | None:
        """See Asking."""
        return await self._get(f"{site.url('processor')}/v1/state", Claims)

    async def etcd_leader(self) -> str:
        """See Asking."""
        return self.world.etcd.leader


def _origin_end(broker: Broker, log: str, partition: int, end: int) -> int:
    if not end:
        return 0
    (record,) = broker.read(log, partition, end - 1, 1)
    headers = list(header_pairs(record.headers))
    origin = origin_of(headers)
    return hole_end(headers) or (end if origin is None else origin.offset + 1)
