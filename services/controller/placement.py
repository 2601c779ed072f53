"""Where etcd's own leader is: outside the active region, so that one loss does not cost two elections.

When a region dies that holds both the lease and etcd's lead, etcd elects first and then gives every lease its whole
time again: measured, that costs more than a second on top. The witness is the best place, as it never is active.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from services.common.clock import Clock
from services.common.deployment import Deployment
from services.common.logging import get_logger
from services.coordination.base import CoordinationError

EVERY_SECONDS_MIN: Final = 0.5

log = get_logger(__name__)


class Cluster(Protocol):
    """The part of `services.coordination.cluster.EtcdCluster` that is needed here. All raise StoreUnavailable."""

    async def leader(self) -> str | None:
        """The site whose member leads; None when nobody says so."""

    async def move_leader(self, site: str) -> bool:
        """Let the member of a site lead; False when it cannot."""

    async def promote_ready_learners(self) -> Sequence[str]:
        """Give a vote to members that have caught up; returns their sites."""


def wanted_sites(deployment: Deployment, active: str) -> list[str]:
    """Return where etcd's leader may be, the best place first."""
    witnesses = [site.name for site in deployment.sites if site.kind == "witness"]
    return [*witnesses, *(site.name for site in deployment.regions if site.name != active)]


class Placement:
    """`run` is its task; it acts only while this region holds the lease."""

    def __init__(
        self,
        cluster: Cluster,
        deployment: Deployment,
        region: str,
        clock: Clock,
        *,
        holds: Callable[[], bool],
        nobody_holds: Callable[[], bool],
        interval_seconds: float,
    ) -> None:
        self._cluster = cluster
        self._deployment = deployment
        self._region = region
        self._clock = clock
        self._holds = holds
        self._nobody_holds = nobody_holds
        self._interval_seconds = max(EVERY_SECONDS_MIN, interval_seconds)
        self.leader_site: str | None = None

    async def run(self) -> None:
        """Look and move, for ever."""
        while True:
            await self._clock.sleep(self._interval_seconds)
            try:
                await self.look()
            except CoordinationError as problem:
                log.debug("etcd's leader is looked at later", reason=str(problem))

    async def look(self) -> None:
        """Promote learners that have caught up, and move etcd's leader out of this region if it is active."""
        self.leader_site = await self._cluster.leader()
        if self._holds() or self._nobody_holds():
            for site in await self._cluster.promote_ready_learners():
                log.info("an etcd member that was taken in again has a vote now", site=site)
        if not self._holds() or self.leader_site != self._region:
            return
        for site in wanted_sites(self._deployment, self._region):
            if await self._cluster.move_leader(site):
                log.info("moved etcd's leader out of the active region", to=site)
                self.leader_site = site
                return
        log.warning("etcd's leader stays in the active region: no other member can lead")
