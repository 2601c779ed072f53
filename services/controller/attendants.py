"""What a controller does besides deciding: receipts, the proof after a rebuild, etcd's own leader, canaries."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.common.deployment import Deployment
from services.controller.board import leader_of
from services.controller.canary_sender import CanarySender
from services.controller.controller import Controller
from services.controller.perform import Acquired
from services.controller.placement import Placement
from services.controller.proof import MISMATCH_RETRY_SECONDS, RETRY_SECONDS, Prover
from services.controller.receipts_desk import ReceiptsDesk

WATCH_SECONDS = 0.05


@dataclass
class Attendants:
    """`run` is their task."""

    controller: Controller
    deployment: Deployment
    desk: ReceiptsDesk
    prover: Prover
    placement: Placement | None
    watch_seconds: float = WATCH_SECONDS
    """How often is looked whether a term began, or began to serve."""
    prove_seconds: float = RETRY_SECONDS
    """How often is looked whether this region is in another life, which has to be proven anew."""
    serving_ms: int = 0
    """Unix ms at which this region first served in its present term; 0 before."""
    canary: CanarySender | None = None
    """None: they are switched off."""

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.desk.run())
            tasks.create_task(self._watch_terms())
            tasks.create_task(self._prove())
            if self.placement is not None:
                tasks.create_task(self.placement.run())
            if self.canary is not None:
                tasks.create_task(self.canary.run())

    async def _watch_terms(self) -> None:
        """Notice a new term, and the moment in which it serves."""
        known: Acquired | None = None
        while True:
            acquired = self.controller.performer.acquired
            if acquired is not known and acquired is not None:
                known, self.serving_ms = acquired, 0
                self.desk.took_over(acquired, self.controller.mirror.former)
            if known is not None and self.serving_ms == 0 and self.controller.is_serving():
                self.serving_ms = self.controller.clock.unix_ms()
            await self.controller.clock.sleep(self.watch_seconds)

    async def _prove(self) -> None:
        """Keep a region that was rebuilt from being promoted until its state is proven equal to another's."""
        controller = self.controller
        proven = ""
        while True:
            own = [life for life in controller.mirror.lives() if life.region == controller.region]
            life = own[-1] if own else None
            if life is not None and life.incarnation != proven:
                reason = None
                if life.number > 1 and self.prover.known(life.incarnation) is None:
                    reason = f"{life.incarnation} was rebuilt and its state was not compared with another region's yet"
                    if controller.observer.data.unproven is None:
                        controller.observer.set_unproven(reason)
                    reason = await self.prover.prove(life.incarnation, *self._processors())
                controller.observer.set_unproven(reason)
                proven = life.incarnation if reason is None else ""
                differs = reason is not None and "differs" in reason
                await controller.clock.sleep(MISMATCH_RETRY_SECONDS if differs else self.prover.retry_seconds)
            else:
                await controller.clock.sleep(WATCH_SECONDS if life is None else self.prove_seconds)

    def _processors(self) -> tuple[str, dict[str, str]]:
        """The own processor, and those of the other regions, the active one first."""
        own = self.deployment.site(self.controller.region).url("processor")
        leader = leader_of(self.controller.view())
        active = leader.region if leader is not None else ""
        peers = sorted(self.deployment.peers_of(self.controller.region), key=lambda site: site.name != active)
        return own, {site.name: site.url("processor") for site in peers}
