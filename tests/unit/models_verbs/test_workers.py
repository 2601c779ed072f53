"""What the regions' workers say of a promoted version: served, refused with their reason, or not known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from services.common.clock import SystemClock
from services.common.http import serving
from services.common.region_settings import RegionSettings
from services.inference.report import ChampionReport, NamedVersion, ServingVersion
from services.models.workers import SILENT, RegionSays, wait_until_served

OLD, NEW = "a" * 64, "b" * 64


def report(serving: str, *, sha256: str, named: str = "2", blocker: str | None = None) -> ChampionReport:
    """What a worker says that serves one version while the alias names another."""
    served = ServingVersion(version=serving, sha256=sha256, golden_rows=6, device="cpu")
    return ChampionReport(
        model="ranker",
        blocker=blocker,
        named=NamedVersion(version=named, sha256=NEW if named == "2" else OLD),
        heard=True,
        serving=served,
        standby=None,
        challenger=None,
        shadow=None,
    )


@asynccontextmanager
async def worker(*reports: ChampionReport, index: list[dict[str, str]] | None = None) -> AsyncIterator[RegionSettings]:
    """A region whose worker says these things one after the other, the last one for ever."""
    left = list(reports)

    async def champion(_: web.Request) -> web.Response:
        said = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(body=msgspec.json.encode(said), content_type="application/json")

    async def listed(_: web.Request) -> web.Response:
        return web.json_response(index or [])

    app = web.Application()
    app.router.add_get("/v2/repository/models/ranker/champion", champion)
    app.router.add_post("/v2/repository/index", listed)
    async with serving(app, "127.0.0.1", 0) as port:
        yield RegionSettings(name="east", inference_port=port)


async def waited(*regions: RegionSettings, seconds: float = 5.0) -> tuple[list[RegionSays], list[str]]:
    """What they say in the end, and what was said on the way."""
    said: list[str] = []
    found = await wait_until_served(regions, "ranker", "2", NEW, SystemClock(), seconds, said.append)
    return found, said


async def test_a_worker_that_is_loading_is_waited_for() -> None:
    """The reason that it gives meanwhile is progress; the version and its content must be the promoted ones."""
    loading = report("1", sha256=OLD, blocker="it is being loaded")
    async with worker(loading, report("2", sha256=OLD), report("2", sha256=NEW)) as region:
        (says,), said = await waited(region)
    assert (says.serves, says.says) == (True, "serves it on cpu")
    assert said[0] == "east: it is being loaded"


async def test_a_refusal_is_final_and_carries_its_reason() -> None:
    """Once the worker knows of the alias; what it said of that version before does not count."""
    refused: list[dict[str, Any]] = [
        {"name": "ranker", "version": "2", "state": "UNAVAILABLE", "reason": "golden row 3"},
        {"name": "ranker", "version": "1", "state": "READY", "reason": ""},
    ]
    unheard = report("1", sha256=OLD, named="1")
    async with worker(unheard, report("1", sha256=OLD), index=refused) as region:
        (says,), said = await waited(region)
    assert says == RegionSays(region="east", serves=False, says="golden row 3", known=True)
    assert said == ["east: has not heard of it yet"]


async def test_silence_and_lateness_are_not_known() -> None:
    """Neither is taken for a success or a refusal, and one region does not hold up what is said of another."""
    gone = RegionSettings(name="west", inference_port=1)
    async with worker(report("1", sha256=OLD, blocker="it is being fetched")) as region:
        found, _ = await waited(region, gone, seconds=0.3)
    assert [(says.known, says.says) for says in found] == [(False, "it is being fetched"), (False, SILENT)]
