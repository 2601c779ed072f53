"""Questions that anybody outside can ask a running deployment: who is active, in which life, has it caught up?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import msgspec

from services.common.deployment import Deployment, Site
from services.controller.answers import StatusAnswer
from services.controller.client import Leader, LeaseAnswer
from services.ledger.errors import ClaimsUnavailable
from services.ledger.region import fetch_claims
from services.ledger.verdict import Claims
from services.replicator.client import ReplicationReport, replication

T = TypeVar("T")
ANSWER_SECONDS = 2.0
STATUS_SECONDS = 0.5
"""A fault that is due waits no longer than that for what was forecast before it."""
CATCH_UP_SECONDS = 2.0
"""A copy that is no further behind than this, under load, has caught up."""
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError)


@dataclass(frozen=True, slots=True)
class Asking:
    """One session's questions to one deployment."""

    session: aiohttp.ClientSession
    deployment: Deployment

    async def lease(self, site: Site) -> LeaseAnswer | None:
        """What a region's controller says; None when it says nothing."""
        return await self._get(f"{site.url('control')}/v1/lease", LeaseAnswer)

    async def status(self, site: Site) -> StatusAnswer | None:
        """What a region's controller says of all regions; None when it says nothing soon."""
        return await self._get(f"{site.url('control')}/v1/status", StatusAnswer, STATUS_SECONDS)

    async def leader(self) -> Leader | None:
        """Who is active, by the largest epoch that any controller knows of; None when nobody is."""
        known = [answer.leader for site in self.deployment.regions if (answer := await self.lease(site))]
        found = [leader for leader in known if leader is not None]
        return max(found, key=lambda leader: leader.epoch, default=None)

    async def claims(self, site: Site) -> Claims | None:
        """What a region's processor says of its state; None when it says nothing."""
        try:
            return await fetch_claims(site.url("processor"))
        except ClaimsUnavailable:
            return None

    async def incarnation(self, region: str) -> str:
        """The life that a region is in; empty when nobody says so."""
        claims = await self.claims(self.deployment.site(region))
        return "" if claims is None else claims.incarnation

    async def etcd_leader(self) -> str:
        """The site whose etcd member leads; empty when none says so."""
        for site in self.deployment.sites:
            url = f"{site.url('etcd_client')}/v3/maintenance/status"
            status = await self._post(url, _EtcdStatus)
            if status is not None and status.leader and status.leader == status.header.member_id:
                return site.name
        return ""

    async def not_serving(self) -> str | None:
        """Why no region is known to be active with an open gate, by all controllers alike; None when one is."""
        answers = {site.name: await self.lease(site) for site in self.deployment.regions}
        for region, answer in answers.items():
            if answer is None:
                return f"the controller of {region} is silent"
            if answer.leader is None or not answer.leader.serving:
                return f"the controller of {region} knows of no region that serves"
        if len({answer.leader.epoch for answer in answers.values() if answer and answer.leader}) > 1:
            return "the controllers do not agree on who is active"
        return None

    async def not_caught_up(self) -> str | None:
        """Why some copy is behind; None when all of them have caught up, as far as load lets them."""
        for site in self.deployment.regions:
            report = await self._replication(site)
            if report is None:
                return f"the replicator of {site.name} is silent"
            if report.alarms:
                return f"the replicator of {site.name} has an alarm: {report.alarms[0]}"
            for log in report.logs:
                if not log.caught_up and log.lag_seconds > CATCH_UP_SECONDS:
                    return f"{site.name} is {log.lag_seconds:.1f} s behind in {log.log}"
        return None

    async def _replication(self, site: Site) -> ReplicationReport | None:
        try:
            return await replication(self.session, site.url("replicator"), ANSWER_SECONDS)
        except _FAILURES:
            return None

    async def _get(self, url: str, shape: type[T], seconds_max: float = ANSWER_SECONDS) -> T | None:
        try:
            async with self.session.get(url, timeout=aiohttp.ClientTimeout(total=seconds_max)) as response:
                response.raise_for_status()
                return msgspec.json.decode(await response.read(), type=shape)
        except _FAILURES:
            return None

    async def _post(self, url: str, shape: type[T]) -> T | None:
        try:
            limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
            async with self.session.post(url, data=b"{}", timeout=limit) as response:
                response.raise_for_status()
                return msgspec.json.decode(await response.read(), type=shape)
        except _FAILURES:
            return None


class _EtcdHeader(msgspec.Struct, frozen=True):
    member_id: str = ""


class _EtcdStatus(msgspec.Struct, frozen=True):
    """The parts of etcd's status that say who leads."""

    header: _EtcdHeader = _EtcdHeader()
    leader: str = ""
