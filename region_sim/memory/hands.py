"""What all plays of a simulated world share: the world, what they hold on to, and a play that does nothing yet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from region_sim.history import HistoryWriter
from region_sim.load.script import Script
from region_sim.memory.inference import CORRUPT, GOOD, WRONG
from region_sim.memory.network import DirectedLink
from region_sim.spec import Link, Load

if TYPE_CHECKING:
    from region_sim.memory.world import World

Cuts = Literal["is_cut", "etcd_cut", "data_cut"]


@dataclass(slots=True)
class Hands:
    """The hands of a drill in one world."""

    world: World
    script: Script
    history: HistoryWriter
    load: Load
    is_alone: bool
    """Whether the drill has one fault only: then it must take."""
    _cuts: Counter[tuple[str, str, Cuts]] = field(default_factory=Counter)
    _slow: list[tuple[str, Link]] = field(default_factory=list)
    _disks: Counter[str] = field(default_factory=Counter)
    _models: Counter[str] = field(default_factory=Counter)
    herds: int = 0
    """How many there were: their clients bear different names."""
    operations: int = 0
    """How many operators have asked for: each has an id of its own."""

    def cut(self, source: str, target: str, what: Cuts) -> None:
        """Drop what one site sends to another, until as many `mend` as have cut."""
        self._cuts[source, target, what] += 1
        setattr(self.world.network.link(source, target), what, True)

    def mend(self, source: str, target: str, what: Cuts) -> None:
        """End one cut."""
        self._cuts[source, target, what] -= 1
        if self._cuts[source, target, what] <= 0:
            setattr(self.world.network.link(source, target), what, False)

    def slow(self, site: str, fault: Link) -> None:
        """Make what a site and the others say late and lossy."""
        self._slow.append((site, fault))
        self._weather()

    def calm(self, site: str, fault: Link) -> None:
        """End that."""
        self._slow.remove((site, fault))
        self._weather()

    def fill(self, site: str) -> None:
        """Let nothing more be written at a site."""
        self._disks[site] += 1
        self.world.sites[site].broker.disk_full = True

    def drain(self, site: str) -> None:
        """End one filling."""
        self._disks[site] -= 1
        self.world.sites[site].broker.disk_full = self._disks[site] > 0

    def spoil(self, site: str, how: Literal["corrupt", "wrong"]) -> None:
        """Put another model where a site's ranking model was."""
        self._models[site] += 1
        self.world.sites[site].model = CORRUPT if how == "corrupt" else WRONG

    def restore(self, site: str) -> bool:
        """Take one such back; True when the model is good again."""
        self._models[site] -= 1
        if self._models[site] <= 0:
            self.world.sites[site].model = GOOD
        return self._models[site] <= 0

    def others(self, site: str) -> list[str]:
        """All other sites."""
        return [name for name in self.world.site_names if name != site]

    def _weather(self) -> None:
        """Of several troubles on one link the worst of each kind counts."""
        plain = DirectedLink()
        for source in self.world.site_names:
            for target in self.others(source):
                link = self.world.network.link(source, target)
                found = [fault for site, fault in self._slow if site in (source, target)]
                link.delay_seconds = plain.delay_seconds + max((f.delay_ms for f in found), default=0.0) / 1000
                link.jitter_seconds = max((f.jitter_ms for f in found), default=0.0) / 1000
                link.loss_share = max((f.loss_share for f in found), default=0.0)


class MemoryPlay(ABC):
    """A play with nothing to heal and nothing to verify; see FaultPlay."""

    region_lost = False

    @abstractmethod
    async def inject(self) -> str:
        """See FaultPlay."""

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        return None

    async def heal(self) -> None:  # noqa: B027 - most plays have nothing to heal
        """See FaultPlay."""

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        return None
