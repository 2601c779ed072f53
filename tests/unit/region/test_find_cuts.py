"""Whether a region's log was cut, as told by everybody who knows how far it reached."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from services.common.clock import SystemClock
from services.common.deployment import PORT_OFFSETS, Deployment, Site
from services.common.own_ends import OwnEnds
from services.common.region_settings import RegionSettings
from services.coordination import MemoryStore
from services.coordination.lives import open_life
from services.region import life as region_life
from services.region import premises
from services.region.life import ask_peers, find_cuts
from services.region.premises import SitePremises
from services.replicator.client import LogReport, PartitionReport, ReplicationReport

LOG = "east-1.events"


def report(held: int, origin_end: int) -> ReplicationReport:
    """West's, about one partition of east's log."""
    part = PartitionReport(
        partition=0, held=held, origin_end=origin_end, lag_events=None, leader_epoch=0, checksum="", alarm=""
    )
    found = LogReport(
        log=LOG,
        origin="east",
        incarnation="east-1",
        source="east",
        reachable=False,
        last_contact_ms=1,
        sealed=False,
        caught_up=False,
        lag_records=origin_end - held,
        lag_events=None,
        lag_seconds=0.0,
        partitions=[part],
    )
    return ReplicationReport(
        region="west", incarnation="west-1", at_ms=1, logs=[found], alarms=[], records_per_second=0.0, eta_seconds=None
    )


async def serve_report(said: ReplicationReport) -> tuple[web.AppRunner, int]:
    """West's replicator, as far as it is asked; returns its port."""

    async def replication(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(said), content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/replication", replication)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, runner.addresses[0][1]


async def test_an_end_that_a_peer_only_saw_is_known_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """West holds 60 records and had seen 100; after a power loss east's log ends at 80: it must not be gone on with.

    The coordination store was away and knows of nothing. Whatever is drained to peers is what they hold, not what they
    saw.
    """
    monkeypatch.setattr(region_life, "CUT_CONFIRMED_SECONDS", 0.0)
    monkeypatch.setattr(premises, "log_ends", lambda *_: {LOG: {0: 80}})
    runner, port = await serve_report(report(held=60, origin_end=100))
    try:
        east = Site(name="east", kind="region", host="127.0.0.1", base_port=2000)
        west = Site(name="west", kind="region", host="127.0.0.1", base_port=port - PORT_OFFSETS["replicator"])
        deployment = Deployment(deployment_id="test", network="loopback", sites=[east, west], directory=str(tmp_path))
        region = RegionSettings(name="east", data_dir=tmp_path / "east", deployment=deployment.save())
        site = SitePremises(region)
        store = MemoryStore()
        life = await open_life(store, "east", "cluster", 1)
        cuts = await find_cuts(site, store, life, SystemClock())
        assert [(cut.partition, cut.found, cut.known_end, cut.known_by) for cut in cuts] == [(0, 80, 100, "west")]
        assert await ask_peers(site, {LOG}) == {"west": {LOG: {0: 60}}}
    finally:
        await runner.cleanup()


async def test_the_own_disk_knows_what_nobody_else_had_been_told_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last record was acknowledged a moment before the power went: neither store nor peer had heard of it."""
    monkeypatch.setattr(region_life, "CUT_CONFIRMED_SECONDS", 0.0)
    monkeypatch.setattr(premises, "log_ends", lambda *_: {LOG: {0: 80}})
    east = Site(name="east", kind="region", host="127.0.0.1", base_port=2000)
    deployment = Deployment(deployment_id="test", network="loopback", sites=[east], directory=str(tmp_path))
    region = RegionSettings(name="east", data_dir=tmp_path / "east", deployment=deployment.save())
    own = OwnEnds(region.data_dir, LOG, 1)
    store = MemoryStore()
    life = await open_life(store, "east", "cluster", 1)
    own.write({0: 80})
    assert await find_cuts(SitePremises(region), store, life, SystemClock()) == []
    own.write({0: 81})
    (cut,) = await find_cuts(SitePremises(region), store, life, SystemClock())
    assert (cut.partition, cut.found, cut.known_end, cut.known_by) == (0, 80, 81, "its own disk")
    own.close()
