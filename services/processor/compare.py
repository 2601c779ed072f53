"""`meridian digest --regions`: do all regions that are up hold the same state?"""

from __future__ import annotations

import aiohttp
import msgspec

from services.common.deployment import Deployment
from services.processor.client import FrontierPassed, HeldDigest, digests_at_one_frontier

TRIES = 3
WAIT_MS = 3_000
_FAILED = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError, FrontierPassed)


class Comparison(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    equal: bool | None
    """None when it could not be found out."""
    digests: dict[str, str]
    """By region."""
    frontier: list[tuple[str, int, int]]
    reason: str
    """Why it could not be found out."""


async def compare(deployment: Deployment) -> Comparison:
    """Let every region stand still at one frontier for a moment, and compare their digests."""
    urls = {site.name: site.url("processor") for site in deployment.regions}
    reason = ""
    async with aiohttp.ClientSession() as session:
        for _ in range(TRIES):
            try:
                return judged(await digests_at_one_frontier(session, urls, WAIT_MS))
            except _FAILED as problem:
                reason = str(problem) or type(problem).__name__
    return Comparison(equal=None, digests={}, frontier=[], reason=reason)


def judged(found: dict[str, HeldDigest]) -> Comparison:
    """Compare what was found at one frontier."""
    digests = {region: held.digest for region, held in found.items()}
    frontier = next(iter(found.values())).frontier
    return Comparison(equal=len(set(digests.values())) == 1, digests=digests, frontier=frontier, reason="")
