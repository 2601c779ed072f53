"""A region of a deployment after its log lost records: sealed, handed on to the peers, and begun anew as the next life.

Kafka is real, the peer is a replicator's report over HTTP, the store is the contract-tested one in memory.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from confluent_kafka import Producer

from infra.runtime.kafka import KafkaBroker, free_ports
from services.common.clock import SystemClock
from services.common.deployment import PORT_OFFSETS, Deployment, Site
from services.common.http import serving
from services.common.region_settings import RegionSettings
from services.coordination import MemoryStore
from services.coordination.lives import Life, all_lives, seal_life
from services.coordination.region_record import raise_acknowledged_ends
from services.region import life as lives
from services.region import run_file
from services.region.broker import admin_of, cluster_id_of, log_ends, make_topics
from services.region.life import LifeDrained, LifeOver, PeersMissing, continue_life, topics_wanted
from services.region.premises import SitePremises
from services.region.renewal import begin_anew
from services.region.run_file import ProcessRecord, RunRecord, identify
from services.replicator.client import LogReport, PartitionReport, ReplicationReport
from streams.logs import producer_settings, topics_of

pytestmark = pytest.mark.integration

PARTITIONS = 2


class Peer:
    """The replicator of west, as far as others ask it; `held` is what it says, None: it does not run."""

    def __init__(self) -> None:
        self.held: dict[str, dict[int, int]] | None = {}

    async def report(self, _: web.Request) -> web.Response:
        """`GET /v1/replication`."""
        if self.held is None:
            return web.Response(status=503)
        logs = [
            LogReport(
                log=log, origin="east", incarnation="east-1", source="east", reachable=True, last_contact_ms=1,
                sealed=False, caught_up=True, lag_records=0, lag_events=0, lag_seconds=0.0,
                partitions=[
                    PartitionReport(partition=p, held=held, origin_end=held, lag_events=0, leader_epoch=0, checksum="")
                    for p, held in partitions.items()
                ],
            )
            for log, partitions in self.held.items()
        ]  # fmt: skip
        said = ReplicationReport(
            region="west", incarnation="west-1", at_ms=1, logs=logs, alarms=[], records_per_second=0.0, eta_seconds=0.0
        )
        from msgspec.json import encode

        return web.Response(body=encode(said), content_type="application/json")


@pytest.fixture
async def peer() -> AsyncIterator[tuple[Peer, int]]:
    """West's replicator and its port."""
    found = Peer()
    app = web.Application()
    app.router.add_get("/v1/replication", found.report)
    async with serving(app, "127.0.0.1", free_ports(1)[0]) as port:
        yield found, port


class East:
    """The region under test."""

    def __init__(self, broker: KafkaBroker, directory: Path, replicator_port: int) -> None:
        sites = [
            Site(name="east", kind="region", host="127.0.0.1", base_port=23000),
            Site(name="west", kind="region", host="127.0.0.1", base_port=replicator_port - PORT_OFFSETS["replicator"]),
        ]
        deployment = Deployment(deployment_id="d", network="loopback", sites=sites, directory=str(directory))
        self.broker = broker
        self.store = MemoryStore()
        self.region = RegionSettings(
            name="east", deployment=deployment.save(), data_dir=directory / "east", bootstrap=broker.bootstrap,
            partitions=PARTITIONS,
        )  # fmt: skip
        self.region.data_dir.mkdir(exist_ok=True)
        self.admin = admin_of(broker.bootstrap)

    async def judge(self) -> Life:
        """What the preparing step asks."""
        cluster_id = cluster_id_of(self.admin, self.broker.bootstrap)
        return await continue_life(SitePremises(self.region), self.store, cluster_id, SystemClock())

    async def begin(self, records: int) -> Life:
        """Open the first life, and write so many records to each partition of its events log."""
        life = await self.judge()
        make_topics(self.admin, await topics_wanted(SitePremises(self.region), self.store), PARTITIONS)
        producer = Producer(producer_settings(self.broker.bootstrap))
        for partition in range(PARTITIONS):
            for _ in range(records):
                producer.produce(f"{life.incarnation}.events", b"event", partition=partition)
        assert producer.flush(30) == 0
        return life


@pytest.fixture
def east(fresh_broker: KafkaBroker, tmp_path: Path, peer: tuple[Peer, int], monkeypatch: pytest.MonkeyPatch) -> East:
    """East on a broker of its own; waiting for peers is cut short."""
    monkeypatch.setattr(lives, "DRAIN_SECONDS", 1.0)
    monkeypatch.setattr(lives, "CUT_CONFIRMED_SECONDS", 0.5)
    return East(fresh_broker, tmp_path, peer[1])


async def test_a_whole_log_goes_on(east: East, peer: tuple[Peer, int]) -> None:
    """What the store and the peers know is there; topics of all lives and of the next ones are made."""
    await east.begin(3)
    await raise_acknowledged_ends(east.store, "east-1.events", {0: 3, 1: 2})
    peer[0].held = {"east-1.events": {0: 1, 1: 3}}
    assert (await east.judge()).incarnation == "east-1"
    topics = east.admin.list_topics(timeout=20).topics
    assert set(topics) >= {*topics_of("east-1"), *topics_of("east-2"), *topics_of("west-1")}


async def test_a_log_shorter_than_a_peers_copy_is_a_cut_also_where_the_store_does_not_know(
    east: East, peer: tuple[Peer, int]
) -> None:
    """Acknowledged ends are written late; the copy is the better witness. Kafka begins anew, the next life is open."""
    await east.begin(3)
    await raise_acknowledged_ends(east.store, "east-1.events", {0: 3})
    peer[0].held = {"east-1.events": {0: 3, 1: 5}}
    with pytest.raises(LifeDrained, match=r"partition 1 ends at 3, but west knows it up to 5"):
        await east.judge()
    (sealed,) = [life for life in await all_lives(east.store) if life.incarnation == "east-1"]
    assert sealed.sealed
    assert [(cut.log, cut.partition, cut.found, cut.acknowledged_end) for cut in sealed.cuts] == [
        ("east-1.events", 1, 3, 5)
    ]

    (east.region.data_dir / "kafka").symlink_to(east.broker.data_dir)
    east.broker.stop()
    assert begin_anew(east.region) == east.region.data_dir / "kafka.east-1"
    east.broker.data_dir = east.region.data_dir / "kafka"
    east.broker.start()
    assert (await east.judge()).incarnation == "east-2"
    assert log_ends(east.broker.bootstrap, [("east-1.events", 0)]) == {"east-1.events": {0: 0}}, "an empty broker"


async def test_a_sealed_life_waits_for_a_peer_that_holds_its_genuine_part(east: East, peer: tuple[Peer, int]) -> None:
    """Silent peers and short copies keep it down with the reason; nothing is given up by itself."""
    await east.begin(3)
    await seal_life(east.store, "east-1", "the gateway found a cut", 1)
    peer[0].held = None
    with pytest.raises(PeersMissing, match=r"6 records of it are in no other region yet; no peer answers"):
        await east.judge()
    peer[0].held = {"east-1.events": {0: 3, 1: 2}}
    with pytest.raises(PeersMissing, match=r"1 records of it are in no other region yet; west copies"):
        await east.judge()
    assert begin_anew(east.region) is None, "no wish was left"
    peer[0].held = {"east-1.events": {0: 3, 1: 3}}
    with pytest.raises(LifeDrained):
        await east.judge()


async def test_a_life_is_not_handed_on_while_somebody_writes_it(east: East, peer: tuple[Peer, int]) -> None:
    """The supervisor ends the gateway first, and asks again."""
    await east.begin(1)
    await seal_life(east.store, "east-1", "the gateway found a cut", 1)
    peer[0].held = {"east-1.events": {0: 1, 1: 1}}
    own = identify(os.getpid())
    assert own is not None
    gateway = ProcessRecord(
        name="gateway", phase="ready", is_step=False, identity=own, started_at_ms=0, restarts=0, exit_code=None,
        reason="", port=1, ready_path=None, log="",
    )  # fmt: skip
    run_file.write(
        east.region.data_dir,
        RunRecord(region="east", supervisor=own, started_at_ms=0, ready=True, addresses={}, processes=[gateway]),
    )
    with pytest.raises(LifeOver, match="gateway must end before it is handed on"):
        await east.judge()
    run_file.remove(east.region.data_dir)
    with pytest.raises(LifeDrained):
        await east.judge()
