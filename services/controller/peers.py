"""What the regions' replicators report: the own one and every other that answers, asked at the same time."""

from __future__ import annotations

import asyncio

import aiohttp

from services.common.deployment import Deployment
from services.controller.observe import ASK_FAILED
from services.replicator import client as replicator_client
from services.replicator.client import ReplicationReport


async def reports_of_all(session: aiohttp.ClientSession, deployment: Deployment) -> dict[str, ReplicationReport]:
    """Return the report of each region that answered now; those out of reach are left out."""

    async def ask(url: str) -> ReplicationReport | None:
        try:
            return await replicator_client.replication(session, url)
        except ASK_FAILED:
            return None

    names = [site.name for site in deployment.regions]
    found = await asyncio.gather(*(ask(site.url("replicator")) for site in deployment.regions))
    return {name: report for name, report in zip(names, found, strict=True) if report is not None}
