"""The replicator of a simulated region: the shipped one, with other hands on Kafka, and the tasks of its process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import web
from confluent_kafka import Consumer, TopicPartition

from region_sim.memory.kafka import OwnSide, PeerSide, SimMessage, as_messages, fetched
from region_sim.memory.logs import Broker
from region_sim.memory.network import Answer, settle
from region_sim.memory.producer import SimProducer
from region_sim.memory.session import RouteBook
from region_sim.memory.together import run_all
from services.common.health import Health
from services.coordination.lease import LeaseStore
from services.replicator.checkpoint import Checkpoints, LogPoint, PartitionPoint
from services.replicator.errors import KafkaSilent
from services.replicator.flow import Flow, Sent
from services.replicator.held import tell
from services.replicator.kafka import KafkaSide
from services.replicator.lives_feed import watch_lives
from services.replicator.pump import Pump
from services.replicator.replicator import Machinery, Replicator
from services.replicator.settings import ReplicatorSettings
from services.replicator.target import Target
from streams.truncation import Place

if TYPE_CHECKING:
    from region_sim.memory.site import MemorySite

Report = Callable[[str | None, int], None]


class DiskCheckpoints(Checkpoints):
    """Positions on the site's disk, without files."""

    def __init__(self, disk: dict[str, Any]) -> None:
        self._points: dict[str, LogPoint] = disk.setdefault("checkpoints", {})
        self._blocks: dict[tuple[str, int], dict[int, int]] = disk.setdefault("blocks", {})

    def _read(self, name: str) -> LogPoint:
        return self._points.get(name) or LogPoint(name, [])

    def load_blocks(self, name: str, partition: int, before: int) -> dict[int, int]:
        """See Checkpoints."""
        found = self._blocks.get((name, partition), {})
        return {number: checksum for number, checksum in found.items() if number < before}

    def save(
        self,
        name: str,
        points: Iterable[PartitionPoint],
        fresh: Iterable[tuple[int, int, int]],
        last_contact_ms: int = 0,
    ) -> None:
        """See Checkpoints."""
        for partition, number, checksum in fresh:
            self._blocks.setdefault((name, partition), {})[number] = checksum
        self._points[name] = LogPoint(name, list(points), last_contact_ms)


class SimTarget:
    """The own broker as a sink, shaped like Target."""

    def __init__(self, site: MemorySite, settings: ReplicatorSettings, on_advance: Callable[[], None]) -> None:
        self.broken = ""
        self._on_advance = on_advance
        self._producer = SimProducer(site.kafka, settings.delivery_timeout_ms / 1000)

    def reporter(self, flow: Flow) -> Report:
        """See Target."""

        def report(error: str | None, offset: int) -> None:
            grown = flow.delivered(error, offset)
            if grown or not flow.pending:
                self._on_advance()

        return report

    def send(
        self,
        flow: Flow,
        record: Sent,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
        report: Report,
    ) -> None:
        """See Target."""
        if flow.sent(record, len(value or b"")):
            self._producer.produce(*flow.place, value, headers, key, report)

    def close(self, flush_seconds: float) -> None:
        """See Target."""

    def drop(self) -> None:
        """See Target."""


class PeerConsumer:
    """Reads another site's logs over the network, shaped like the part of Consumer that a pump uses."""

    def __init__(self, side: PeerSide, wait_seconds: float) -> None:
        self._side = side
        self._wait_seconds = wait_seconds
        self._answer: Answer | None = None
        self._at: dict[Place, int] = {}
        self._ended: dict[Place, int] = {}

    def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        """See Consumer."""
        for where in places:
            place = where.topic, where.partition
            self._at[place] = where.offset
            self._ended.pop(place, None)

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        """See Consumer."""
        for where in places:
            self._at.pop((where.topic, where.partition), None)

    def close(self) -> None:
        """See Consumer."""

    def interrupt(self) -> None:
        """Let a fetch that waits return with nothing."""
        if self._answer is not None:
            settle(self._answer, (True, None))

    def _begun(self, answer: Answer) -> None:
        self._answer = answer

    async def fetch(self) -> list[SimMessage]:
        """What comes next, or nothing for a while. Raises KafkaSilent."""
        asked, ended = dict(self._at), dict(self._ended)
        began = dict(asked)

        def read(broker: Broker) -> list[SimMessage] | Coroutine[Any, Any, list[SimMessage]]:
            return fetched(broker, asked, ended) or wait_for_more(broker)

        async def wait_for_more(broker: Broker) -> list[SimMessage]:
            loop = asyncio.get_running_loop()
            until = loop.time() + self._wait_seconds
            while (left := until - loop.time()) > 0:
                await broker.changed.wait(left)
                if found := fetched(broker, asked, ended):
                    return found
            return []

        try:
            found: list[SimMessage] | None = await self._side.ask(read, self._wait_seconds, self._begun)
        finally:
            self._answer = None
        if found is None:
            return []
        # What was asked for anew meanwhile is read from where it was asked for, and told of its end again.
        same = {place for place, at in began.items() if self._at.get(place) == at}
        for place in began:
            if place in same:
                self._at[place] = asked[place]
                if place in ended:
                    self._ended[place] = ended[place]
        return [message for message in found if (message.topic(), message.partition()) in same]


class SimPump(Pump):
    """A pump that is a task instead of a thread."""

    def __init__(
        self, site: MemorySite, answer_seconds: float, region: str, bootstrap: str, *rest: Any, **named: Any
    ) -> None:
        super().__init__(region, bootstrap, *rest, **named)
        self._side = PeerSide(site.world, site.name, region, answer_seconds)
        self._wait_seconds = site.world.settings.fetch_wait
        self._wanted = asyncio.Event()
        self._consumer = self._new_peer()
        self._task: asyncio.Task[None] | None = None

    def attach(self, flow: Flow, target: Target) -> None:
        """See Pump."""
        self._commands.append(("attach", flow, target))
        self._want()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._follow())

    def detach(self, flow: Flow) -> None:
        """See Pump."""
        super().detach(flow)
        self._want()

    def close(self) -> None:
        """See Pump."""
        if self._task is not None:
            self._task.cancel()

    async def _follow(self) -> None:
        try:
            await self._carry_on()
        except Exception as failure:  # noqa: BLE001 - as in the thread: its owner raises it
            self.failure = failure
            self._on_end()

    async def _carry_on(self) -> None:
        while True:
            if self._must_renew():
                self._consumer = self._new_peer()
            self._obey(cast("Consumer", self._consumer))
            self._wanted.clear()
            if not self._lanes:
                await self._wanted.wait()
                continue
            self.take(as_messages(await self._fetch()))

    async def _fetch(self) -> list[SimMessage]:
        """What comes next; nothing as soon as somebody wants something else to be read."""
        try:
            return await self._consumer.fetch()
        except KafkaSilent:
            await self._clock.sleep(0.1)
            return []

    def _want(self) -> None:
        self._wanted.set()
        self._consumer.interrupt()

    def _new_peer(self) -> PeerConsumer:
        return PeerConsumer(self._side, self._wait_seconds)


class ReplicatorPart:
    """One start of a replicator process."""

    def __init__(self, site: MemorySite, store: LeaseStore) -> None:
        world = site.world
        self._site = site
        self._store = store
        self._clock = site.clock
        self._settings = settings = world.settings.replicator()
        machinery = Machinery(
            own=lambda bootstrap, _: OwnSide(site.kafka, bootstrap),
            peer=lambda bootstrap, answer_seconds: cast(
                "KafkaSide", PeerSide(world, site.name, bootstrap.partition(":")[0], answer_seconds)
            ),
            target=lambda _, found, on_advance: cast("Target", SimTarget(site, found, on_advance)),
            pump=partial(SimPump, site, settings.answer_seconds),
            checkpoints=lambda _: DiskCheckpoints(site.disk),
        )
        self.replicator = Replicator(site.region, world.deployment, settings, site.clock, machinery)
        self.replicator.incarnation = site.incarnation
        site.world.books[site.name, "replicator"] = self._book()

    async def run(self) -> None:
        """Work until it is killed. Raises what a task failed with."""
        replicator, settings = self.replicator, self._settings
        session = self._site.world.session(self._site.name)
        feed = watch_lives(self._store, replicator.set_lives, self._clock, settings.lives_interval_ms / 1000)
        works = [feed, replicator.run(), self._look_at_own()]
        events = []
        for peer in replicator.peers.values():
            advanced = asyncio.Event()
            events.append(advanced)
            told = tell(replicator, self._site.name, peer, settings, self._clock, session, advanced)
            works += [peer.poll(), peer.ask(session), told]
        await run_all(*works, self._spread(events))

    def blocker(self) -> str | None:
        """See Part."""
        return self.replicator.phase or self.replicator.walk_blocker()

    async def _spread(self, targets: list[asyncio.Event]) -> None:
        while True:
            await self.replicator.advanced.wait()
            self.replicator.advanced.clear()
            for target in targets:
                target.set()

    async def _look_at_own(self) -> None:
        """Hold the copies against what was written to them, and keep where they are, every so often."""
        while True:
            await self._clock.sleep(self._settings.own_interval_ms / 1000)
            try:
                await self.replicator.look_at_own()
            except KafkaSilent:
                continue
            self.replicator.save()

    def _book(self) -> RouteBook:
        replicator, book = self.replicator, RouteBook()

        async def replication(_: web.Request) -> web.Response:
            return web.Response(body=msgspec.json.encode(replicator.report()), content_type="application/json")

        book.add_get("/v1/replication", replication)
        health = Health()
        health.add("lives", lambda: replicator.phase or None)
        health.add("copies", replicator.walk_blocker)
        health.add_routes(book.as_application())
        return book
