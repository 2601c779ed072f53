"""The processor of a simulated region: the shipped fold, reader rule, watch, gate, markers and answerer.

What Faust does in a real region, bringing records in order to the intake, is one task here. Start-up is the shipped one
in small: a snapshot or nothing, the shipped replay, and after a rebuild waiting until the copies hold what the peers
know. Volatile state is lost with the process; the snapshot lies on the site's disk.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np
from aiohttp import web
from prometheus_client import CollectorRegistry

from region_sim.evidence import Prediction
from region_sim.memory.features import StateFeaturizer, by_counters, by_popularity
from region_sim.memory.inference import FEATURES, asks_worker
from region_sim.memory.kafka import SimProbe
from region_sim.memory.processor_parts import AlwaysLevel, Heard, SimDelivery, SimEpochsSeen, SimRankingsEnds, Tallies
from region_sim.memory.session import RouteBook
from region_sim.memory.together import run_all
from services.controller.client import LeaseFollower
from services.controller.observe import ASK_FAILED
from services.coordination.lease import LeaseStore
from services.processor import client
from services.processor.answering import Answerer
from services.processor.client import SnapshotOffer
from services.processor.cuts import acknowledged, examine_with, seal
from services.processor.fold_meter import FoldMeter
from services.processor.gate import LeasedGate
from services.processor.held_digests import HeldDigests
from services.processor.identity import Identity
from services.processor.ladder import Ladder
from services.processor.live import marks_of
from services.processor.logs import KnownLogs, Logs, lives_among
from services.processor.markers import Markers
from services.processor.rebuild import Copying, Peer
from services.processor.surface import Shown, Surface
from services.processor.terms import TermKeeper
from streams.asks import Ask, Ranking, encode_ranking
from streams.dead_letter import DeadLetter, bury
from streams.delivery import Delivery
from streams.epochs import epoch_header
from streams.errors import LogTruncated
from streams.fold import Fold
from streams.intake import Intake, LogRecord
from streams.logs import events_log, rankings_log
from streams.replay import ReplayResult, replay
from streams.state import State
from streams.truncation import EpochsSeen, LogUnreachableError, Place, Watch

if TYPE_CHECKING:
    from region_sim.memory.site import MemorySite

READ_MAX = 200
COPIES_SECONDS = 0.5
_encode = msgspec.json.Encoder().encode


class ProcessorPart:
    """One start of a processor process."""

    def __init__(self, site: MemorySite, store: LeaseStore) -> None:
        self._site = site
        self._store = store
        self._clock = site.clock
        self._settings = site.world.settings.processor()
        self._session = site.world.session(site.name)
        self.tallies = Tallies(site.world.counts)
        self.gate: LeasedGate | None = None
        """Set once the state is there."""
        self.state = State(self._settings.parameters)
        self.logs = KnownLogs(Logs(site.incarnation, (site.incarnation,), site.world.settings.partitions))
        self._counts: dict[str, int] = {}
        """The logs that stood here when they were last looked at."""
        self._surface = Surface(CollectorRegistry())
        self._heard: Heard
        """Made with the intake."""
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        book = RouteBook()
        self._surface.add_routes(book.as_application())
        book.add_get("/v1/snapshots/latest", self._offer)
        site.world.books[site.name, "processor"] = book

    async def run(self) -> None:
        """Work until it is killed. Raises LogTruncated once the life is sealed, and what else ends a processor."""
        try:
            await self._restore()
            await self._work()
        except LogTruncated as cut:
            await self._end_life(str(cut))
            raise

    def blocker(self) -> str | None:
        """See Part."""
        return self._surface.health.blocker()

    # From the disk and the logs to a state that is up to date.

    async def _restore(self) -> None:
        self._surface.phase.sentence = "reading the snapshot"
        saved = self._site.disk.get("snapshot")
        copying = None
        if saved is not None:
            self.state = pickle.loads(saved)  # noqa: S301 - written by this very world
        else:
            copying = await self._begin_rebuild()
        self.fold = Fold(self.state)
        undelivered: list[DeadLetter] = []
        while True:
            result = await self._replay(undelivered)
            now = self._clock.monotonic()
            if copying is None or copying.done(now, result.held):
                break
            self._surface.phase.sentence = copying.sentence(now)
            await self._clock.sleep(COPIES_SECONDS)
        self._site.world.counts["replays"] += result.records > 0
        self._read_to = dict(result.resume)
        self._dead = SimDelivery(self._site.kafka, self._settings.delivery_timeout_seconds)
        for letter in undelivered:
            await self._bury(letter)

    async def _begin_rebuild(self) -> Copying | None:
        """What the copies must hold before the rebuild is done: what the best peer that answers knows."""
        self._surface.phase.sentence = "asking the other regions for what they know"
        found: list[Peer] = []
        for site in self._site.world.deployment.peers_of(self._site.name):
            try:
                offer = await client.snapshot_offer(self._session, site.url("processor"))
            except ASK_FAILED:
                continue
            if offer is not None and offer.events_now + len(offer.now) > 0:
                found.append(Peer(site.name, site.url("processor"), offer))
        best = max(found, key=lambda peer: peer.offer.events_now, default=None)
        if best is None:
            return None
        own = events_log(self._site.incarnation)
        return Copying(best.target(own), self._settings.rebuild_patience_seconds)

    async def _replay(self, undelivered: list[DeadLetter]) -> ReplayResult:
        """The shipped replay; waits for the broker, and looks again before it believes in a cut."""
        looks = 0
        while True:
            self._find_logs()
            logs = self.logs.now
            try:
                return replay(
                    self._site.name,
                    self.fold,
                    logs.events,
                    None,
                    None,
                    undelivered.append,
                    is_copy=logs.is_copy,
                    new_consumer=self._site.kafka.consumer,
                    decode=self._site.world.decode,
                )
            except LogUnreachableError as problem:
                self._surface.phase.sentence = f"waiting for the broker: {problem}"
            except LogTruncated:
                looks += 1
                if looks > 3:
                    raise
            await self._clock.sleep(0.5)

    def _find_logs(self) -> list[str]:
        """Learn of the logs that stand here; returns the lives that are new."""
        if not self._site.kafka.is_up():
            return []
        counts = self._site.broker.partition_counts()
        if counts == self._counts:
            return []
        now, self._counts = self.logs.now, counts
        topics = [name for name, count in counts.items() if count == now.partitions]
        lives = lives_among(topics, self._site.world.regions)
        new = [name for name in lives if name not in now.incarnations]
        if new:
            self.logs.now = Logs(now.own, (*now.incarnations, *new), now.partitions)
        return new

    def _is_copy(self, log: str) -> bool:
        return self.logs.now.is_copy(log)

    # Live.

    async def _work(self) -> None:
        site, clock = self._site, self._clock
        seen = SimEpochsSeen(self._settings.silence_ms / 1000)
        self.watch = Watch(
            SimProbe(site.kafka),
            seen,
            lambda: marks_of(self.state),
            lambda _: None,
            sleep=clock.sleep,
            places=self.logs.now.places,
            is_copy=self._is_copy,
        )
        rankings = SimDelivery(site.kafka, self._settings.rankings_timeout_ms / 1000)
        news = asyncio.Event()
        url = site.region.control_url
        self.follower = LeaseFollower(url, self._session, clock, lambda _: news.set(), site.world.settings.pace())
        self.gate = gate = LeasedGate(self.follower.term, lambda: self.follower.largest_epoch, clock)
        ends = SimRankingsEnds(site.kafka, self.logs)
        times = site.world.settings
        markers = Markers(site.name, cast("Delivery", rankings), ends, self.logs, clock, times.markers_look)
        keeper = TermKeeper(gate, markers, self.follower, news, clock, times.term_check)
        self.intake = self._make_intake(seen, self._make_answerer(gate, rankings))
        fold = self._heard.fold = FoldMeter(
            self.state, lambda: self.intake.read_to, lambda: self.watch.ends, clock.monotonic
        )
        held = HeldDigests(self.intake, self.state, clock, self._fail)
        identity = Identity(site.name, site.incarnation, "")
        self._surface.show(
            Shown(
                identity,
                self.state,
                lambda: gate.report(clock.unix_ms()),
                held,
                self,
                site.region.snapshot_dir,
                fold=fold.report,
            )
        )
        self._surface.health.add("log", lambda: None if self.watch.cut is None else str(self.watch.cut))
        self._surface.health.add("broker", lambda: None if site.kafka.is_up() else "the broker does not answer")
        self._surface.phase.sentence = None
        await run_all(
            self._read(seen),
            self.follower.run(),
            keeper.run(),
            markers.keep_ready(),
            self._look(),
            self._save(),
            self._raise_failure(),
        )

    def _make_answerer(self, gate: LeasedGate, rankings: SimDelivery) -> Answerer:
        topic = rankings_log(self._site.incarnation)

        def publish(ranking: Ranking) -> None:
            key, headers = ranking.reply_to.encode(), [epoch_header(ranking.epoch)]
            rankings.send(topic, encode_ranking(ranking), key=key, headers=headers)

        self.featurizer = StateFeaturizer(self.state)
        return Answerer(
            region=self._site.name,
            featurizer=self.featurizer,
            ladder=Ladder(asks_worker(self._site), by_counters, by_popularity),
            gate=gate,
            publish=publish,
            frontier=lambda: self.state.frontier,
            clock=self._clock,
            limits=self._settings.ask_limits,
            observer=self.tallies,
            changes=AlwaysLevel(),
        )

    def _make_intake(self, seen: EpochsSeen, answerer: Answerer) -> Intake:
        self._heard = Heard(answerer, events_log(self._site.incarnation))
        return Intake(
            fold=self.fold,
            watch=self.watch,
            seen=seen,
            bury=self._bury,
            observer=self._heard,
            sleep=self._clock.sleep,
            monotonic=self._clock.monotonic,
            is_copy=self._is_copy,
            read_to=self._read_to,
            decode=self._site.world.decode,
        )

    async def _bury(self, letter: DeadLetter) -> None:
        await bury(self._dead, self._site.incarnation, letter)

    async def _read(self, seen: SimEpochsSeen) -> None:
        """Bring the records of every log to the intake, in order, for ever."""
        site, broker = self._site, self._site.broker
        changed = broker.changed_of("events")
        # Not `read_to` itself: what a hold keeps back was delivered, and would be read again and again.
        at = dict(self.intake.read_to)
        while True:
            if site.kafka.is_up():
                took = False
                ends = broker.ends(self.logs.now.places)
                # Before the records are handed on: a broker that was silent must first show what was taken.
                seen.answered(self._clock.monotonic())
                for place, end in ends.items():
                    start = at.get(place, 0)
                    if start > end.next_offset and self.logs.now.is_copy(place[0]):
                        # A copy that lost records is filled again from where it ends now.
                        start = at[place] = self.intake.read_to[place] = end.next_offset
                    if start < end.next_offset:
                        took = True
                        at[place] = await self._take(seen, place, start)
                if took:
                    continue
            # A fetch with nothing to bring takes so long: well within the silence that asks for a proof.
            await changed.wait(self._settings.fetch_wait_ms / 1000)

    async def _take(self, seen: SimEpochsSeen, place: Place, start: int) -> int:
        """Hand on what stands there; returns where the next record stands."""
        for found in self._site.broker.read(*place, start, READ_MAX):
            seen.took(place, found.offset, found.leader_epoch)
            record = LogRecord(*place, found.offset, found.appended_ms, found.value, found.headers)
            await self.intake.take(record)
            start = found.offset + 1
        return start

    async def _look(self) -> None:
        """Look at the logs' ends and for new logs, every so often. Raises LogTruncated."""
        while True:
            await self._clock.sleep(self._settings.watch_interval_seconds)
            if self._find_logs():
                self.watch.places = tuple(self.logs.now.places)
            try:
                await self.watch.look()
            except LogUnreachableError:
                continue

    async def _save(self) -> None:
        while True:
            await self._clock.sleep(self._settings.snapshot_interval_seconds)
            await self.save_now()

    async def save_now(self) -> bool:
        """Keep the state on the disk, unless a log was found cut."""
        if self.watch.cut is not None:
            return False
        async with self.intake.paused():
            self._site.disk["snapshot"] = pickle.dumps(self.state, protocol=pickle.HIGHEST_PROTOCOL)
        return True

    def _fail(self, failure: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_result(failure)

    def predictions(self, questions: Sequence[str], at_ms: int) -> list[Prediction]:
        """What the model that is served here says to these queries, with the features of this state."""
        found = []
        for question in questions:
            ask = Ask(ask_id="", reply_to="", kind="search", deadline_unix_ms=0, at_ms=at_ms, query=question)
            prepared = self.featurizer.prepare(ask)
            scores = self._site.worker().model.scores(np.asarray(prepared.tensors[FEATURES], np.float32))
            order = np.argsort(-scores, kind="stable")[:10]
            items = [prepared.items[row] for row in order.tolist()]
            found.append(Prediction(question=question, items=items, scores=[float(scores[row]) for row in order]))
        return found

    async def _raise_failure(self) -> None:
        raise await self.failure

    async def _end_life(self, because: str) -> None:
        """Seal the life whose log was cut, with what is left of it."""
        site = self._site
        ends = await acknowledged(self._store, site.incarnation)
        probe, consumer, log = SimProbe(site.kafka), site.kafka.consumer(), events_log(site.incarnation)
        try:
            cuts = examine_with(probe, consumer, marks_of(self.state), log, ends, 1.0)
        except LogUnreachableError:
            return
        if cuts:
            await seal(self._store, site.incarnation, because, cuts, self._clock)

    async def _offer(self, _: web.Request) -> web.Response:
        """What the newest snapshot is, and where the state stands: for a region that is rebuilt."""
        if self._surface.phase.sentence is not None:
            return web.Response(status=503)
        rows, events = self.state.frontier.to_rows(), self.state.tally.events
        offer = SnapshotOffer(digest="", frontier=rows, events=events, size_bytes=0, now=rows, events_now=events)
        return web.Response(body=_encode(offer), content_type="application/json")
