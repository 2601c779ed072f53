"""Logs that lose or gain records, disks that are full, models that are not what they were."""

from __future__ import annotations

import asyncio

from region_sim.errors import DrillBroken
from region_sim.faults.poison import garbage
from region_sim.memory.hands import Hands, MemoryPlay
from region_sim.memory.logs import Loss
from region_sim.memory.plays_processes import alive
from region_sim.spec import Cut, Model, Poison, TopicLoss
from streams.logs import events_log


class LogPlay(MemoryPlay):
    """A fault of a region's own events log; one that another fault has wiped has none that could lose anything."""

    def __init__(self, hands: Hands, target: str, incarnation: str) -> None:
        if not incarnation and hands.is_alone:
            raise DrillBroken(f"nobody says which life {target} is in: its log has no name")
        self._hands = hands
        self._target = target
        self._site = hands.world.sites[target]
        self._log = events_log(incarnation) if incarnation else ""

    def largest(self, many: int) -> list[int]:
        """The partitions that hold most."""
        broker = self._site.broker
        count = broker.partition_counts().get(self._log, 0)
        ends = broker.ends([(self._log, number) for number in range(count)])
        ranked = sorted((place[1] for place in ends), key=lambda number: (-ends[self._log, number].next_offset, number))
        return [number for number in ranked if ends[self._log, number].next_offset][:many]

    def told(self, losses: list[Loss]) -> str:
        """What is gone, in words."""
        lost = ", ".join(f"{loss.partition} [{loss.start}, {loss.end})" for loss in losses if loss.start < loss.end)
        return f"{self._log or 'no log'} lost {lost or 'nothing'}"


class CutPlay(LogPlay):
    """The broker dies and comes back without its newest records; other copiers were behind."""

    def __init__(self, hands: Hands, fault: Cut, target: str, incarnation: str) -> None:
        super().__init__(hands, target, incarnation)
        self._fault = fault
        self.region_lost = fault.whole_site

    async def inject(self) -> str:
        """See FaultPlay."""
        world = self._hands.world
        peers = [region for region in world.regions if region != self._target]
        # Only those that run: what another fault has stopped stays as it is.
        stopped = [
            peer
            for peer in peers
            if alive(self._hands, peer, ["replicator"]) and not world.sites[peer].processes["replicator"].is_paused
        ]
        for peer in stopped:
            world.sites[peer].pause(["replicator"])
        await asyncio.sleep(self._fault.peers_behind_seconds)
        self._site.kill([] if self._fault.whole_site else ["kafka"])
        broker = self._site.broker
        losses = [broker.cut(self._log, number, self._fault.records) for number in self.largest(self._fault.partitions)]
        for peer in stopped:
            world.sites[peer].resume(["replicator"])
        what = "all of it" if self._fault.whole_site else "the broker"
        return f"SIGKILL to {what} of {self._target}; {self.told(losses)}"

    async def heal(self) -> None:
        """See FaultPlay."""
        if self._fault.whole_site:
            self._site.start()


class TopicLossPlay(LogPlay):
    """The broker dies and comes back with empty partitions."""

    def __init__(self, hands: Hands, fault: TopicLoss, target: str, incarnation: str) -> None:
        super().__init__(hands, target, incarnation)
        self._fault = fault

    async def inject(self) -> str:
        """See FaultPlay."""
        self._site.kill(["kafka"])
        losses = [self._site.broker.empty(self._log, number) for number in self.largest(self._fault.partitions)]
        return f"SIGKILL to the broker of {self._target}; {self.told(losses)}"


class DiskFullPlay(MemoryPlay):
    """Nothing more can be appended to a site's logs."""

    def __init__(self, hands: Hands, target: str) -> None:
        self._hands = hands
        self._target = target

    async def inject(self) -> str:
        """See FaultPlay."""
        self._hands.fill(self._target)
        return f"the disk of {self._target} is full"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        return None if self._hands.world.sites[self._target].broker.disk_full else "there is room again"

    async def heal(self) -> None:
        """See FaultPlay."""
        self._hands.drain(self._target)


class ModelPlay(MemoryPlay):
    """The inference worker is killed, and finds another model when it starts: its golden set refuses it."""

    def __init__(self, hands: Hands, fault: Model, target: str) -> None:
        self._hands = hands
        self._fault = fault
        self._target = target
        self._site = hands.world.sites[target]

    async def inject(self) -> str:
        """See FaultPlay."""
        self._hands.spoil(self._target, self._fault.how)
        self._site.kill(["inference"])
        return f"SIGKILL to the inference worker of {self._target}, whose model is {self._fault.how} now"

    async def heal(self) -> None:
        """See FaultPlay."""
        if self._hands.restore(self._target):
            self._site.kill(["inference"])


class PoisonPlay(LogPlay):
    """Records that are no frames, past the gateway. They stay in the log for ever."""

    def __init__(self, hands: Hands, fault: Poison, target: str, incarnation: str) -> None:
        super().__init__(hands, target, incarnation)
        self._fault = fault

    async def inject(self) -> str:
        """See FaultPlay. A broker that is down or full takes nothing, and that is no failure of the drill."""
        broker = self._site.broker
        count = broker.partition_counts().get(self._log, 0)
        if not alive(self._hands, self._target, ["kafka"]) or broker.disk_full or not count:
            return f"{self._target}'s broker takes no records now"
        for number in range(self._fault.records):
            record = garbage(number)
            broker.append(self._log, number % count, record.value, list(record.headers))
        return f"{self._fault.records} records that are no frames in {self._log}"
