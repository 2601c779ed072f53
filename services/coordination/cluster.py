"""The etcd cluster itself: which sites vote, which of them leads it, and moving that lead out of the active region.

Losing the active region and etcd's own leader at once costs an election of etcd's before the lease can run out: 1.2 to
2 s more. So the controller keeps the lead elsewhere. It also makes learners (replaced members) full members.
"""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp
import msgspec

from services.coordination.etcd import WRITE_PATIENCE
from services.coordination.etcd_transport import GatewayTransport, Refused
from services.coordination.etcd_wire import LearnerBehind, MemberEntry, MembersAnswer, PlainAnswer, StatusAnswer


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """One member; its name is its site's."""

    member_id: int
    site: str
    """Empty for a learner that was taken in and has never started."""
    client_url: str
    is_learner: bool


class EtcdCluster:
    """Asks and changes what the cluster is. Shares the transport of a store: `EtcdCluster(store.transport)`."""

    def __init__(self, transport: GatewayTransport) -> None:
        self._transport = transport

    async def members(self) -> list[ClusterMember]:
        """Return all members, by site. Raises StoreUnavailable."""
        answer = await self._transport.ask("/v3/cluster/member/list", {"linearizable": True}, MembersAnswer)
        return sorted((_member(entry) for entry in answer.members), key=lambda member: member.site)

    async def leader(self) -> str | None:
        """Return the site whose member leads the cluster, None during an election. Raises StoreUnavailable."""
        status = await self._transport.ask("/v3/maintenance/status", {}, StatusAnswer)
        return next((member.site for member in await self.members() if member.member_id == status.leader), None)

    async def move_leader(self, site: str) -> bool:
        """Make the member of `site` lead, and say whether it does; no when it cannot (away, learner, behind).

        Raises StoreUnavailable when the cluster does not answer.
        """
        members = await self.members()
        status = await self._transport.ask("/v3/maintenance/status", {}, StatusAnswer)
        target = next((member for member in members if member.site == site and not member.is_learner), None)
        leader = next((member for member in members if member.member_id == status.leader), None)
        if target is None or leader is None:
            return False
        if target == leader:
            return True
        # Only the leader itself can hand its lead over.
        body = {"targetID": str(target.member_id)}
        try:
            await self._transport.ask_one(
                leader.client_url, "/v3/maintenance/transfer-leadership", body, PlainAnswer, timeout_seconds=3.0
            )
        except (Refused, aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
            return False
        return True

    async def promote_ready_learners(self) -> list[str]:
        """Give a vote to every learner that has caught up, and return their sites. Raises StoreUnavailable."""
        promoted: list[str] = []
        for member in await self.members():
            if not member.is_learner or not member.site:
                continue
            body = {"ID": str(member.member_id)}
            try:
                await self._transport.ask("/v3/cluster/member/promote", body, PlainAnswer, patience=WRITE_PATIENCE)
            except LearnerBehind:
                continue
            promoted.append(member.site)
        return promoted


def _member(entry: MemberEntry) -> ClusterMember:
    return ClusterMember(entry.ID, entry.name, entry.clientURLs[0] if entry.clientURLs else "", entry.isLearner)
