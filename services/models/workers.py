"""What the workers of the regions say of a version: whether they serve it, and if not, why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.region_settings import RegionSettings
from services.inference.report import ChampionReport

CONNECT_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.2
SILENT: Final = "no worker answers"

_T = TypeVar("_T")
Say = Callable[[str], None]


class IndexLine(msgspec.Struct, frozen=True):
    """One version in a worker's answer to `POST /v2/repository/index`."""

    name: str
    version: str
    state: str = ""
    """READY, LOADING or UNAVAILABLE."""
    reason: str = ""


class RegionSays(msgspec.Struct, frozen=True, kw_only=True):
    """What one region's worker says of the version that an alias was pointed at."""

    region: str
    serves: bool
    says: str
    """Why it does not serve it, in the worker's words; which device it serves it on otherwise."""
    known: bool = True
    """False: nobody answered, or it is still under way."""


async def champion_report(region: RegionSettings, model: str) -> ChampionReport | None:
    """Return what the region's worker says of its champion, None when none answers."""
    return await _asked(region, "GET", f"/v2/repository/models/{model}/champion", ChampionReport)


async def index(region: RegionSettings) -> list[IndexLine] | None:
    """Return the versions that the region's worker knows, None when none answers."""
    return await _asked(region, "POST", "/v2/repository/index", list[IndexLine])


async def wait_until_served(
    regions: tuple[RegionSettings, ...], model: str, version: str, sha256: str, clock: Clock, seconds: float, say: Say
) -> list[RegionSays]:
    """Ask every region's worker until each serves the version or refuses it, or the time is over."""
    deadline = clock.monotonic() + seconds
    return list(
        await asyncio.gather(
            *(_until_settled(region, model, version, sha256, clock, deadline, say) for region in regions)
        )
    )


async def _until_settled(
    region: RegionSettings, model: str, version: str, sha256: str, clock: Clock, deadline: float, say: Say
) -> RegionSays:
    said = ""
    while True:
        now = await _says(region, model, version, sha256)
        if now.known or clock.monotonic() >= deadline:
            return now
        if now.says != said:
            say(f"{region.name}: {now.says}")
            said = now.says
        await clock.sleep(POLL_SECONDS)


async def _says(region: RegionSettings, model: str, version: str, sha256: str) -> RegionSays:
    report = await champion_report(region, model)
    if report is None:
        return RegionSays(region=region.name, serves=False, says=SILENT, known=False)
    serving = report.serving
    if serving is not None and (serving.version, serving.sha256) == (version, sha256):
        return RegionSays(region=region.name, serves=True, says=f"serves it on {serving.device}")
    heard = report.named is not None and report.named.version == version
    lines = await index(region) or []
    line = next((found for found in lines if (found.name, found.version) == (model, version)), None)
    if heard and line is not None and line.state == "UNAVAILABLE" and line.reason:
        return RegionSays(region=region.name, serves=False, says=line.reason)
    return RegionSays(region=region.name, serves=False, says=report.blocker or "has not heard of it yet", known=False)


async def _asked(region: RegionSettings, method: str, path: str, shape: type[_T]) -> _T | None:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.request(method, f"{region.inference_url}{path}") as answer,
        ):
            if answer.status != 200:
                return None
            return msgspec.json.decode(await answer.read(), type=shape)
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
        return None
