"""From ask to ranking: whatever happens, each ask ends once, is counted, and nothing leaves a shut gate."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter

import msgspec
import numpy as np

from services.inference.client import InferenceUnavailable
from services.processor.admission import AskLimits
from services.processor.answering import Answerer, Prepared, ranked
from services.processor.gate import Gate
from services.processor.ladder import Ladder, Outcome, Scored, StepDown, Tensors
from streams.asks import Ask, Ranking, RankingId
from streams.delivery import DeliveryError
from streams.kinds import Rung
from streams.position import Frontier, Position
from tests.support.poll import wait_until_async

LOG = "east-1.events"
LIMITS = AskLimits(
    scoring_max=2, waiting_max=2, overflow_age_ms_max=100, margin_ms=30, infer_ms_max=150, catalogue_wait_ms_max=100
)
ASK = Ask(ask_id="a1", reply_to="g1", kind="search", deadline_unix_ms=10_500, at_ms=9_000, query="lamp", size=2)


class StillClock:
    """Time stands still unless the test moves it."""

    def __init__(self) -> None:
        self.now_ms = 10_000

    def unix_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1000

    def boottime(self) -> float:
        return self.now_ms / 1000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@dataclasses.dataclass
class Answer:
    """What the worker says."""

    scores: np.ndarray
    model_version: str = "ranker/1"


class World:
    """An answerer over fakes; `infer` is held back until `let_go`."""

    def __init__(self, limits: AskLimits = LIMITS) -> None:
        self.clock = StillClock()
        self.gate = Gate((0, 1))
        self.published: list[Ranking] = []
        self.publish_error: DeliveryError | None = None
        self.ended: Counter[tuple[str, str, str]] = Counter()
        self.failures: list[BaseException] = []
        self.step_downs: Counter[StepDown] = Counter()
        self.next_offset = 5
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.worker: Answer | Exception = Answer(np.array([[0.1, 0.9, 0.5]], np.float32))
        self.prepare_error: Exception | None = None
        self.items: list[str] = []
        self.level_waits: list[float] = []
        self.answerer = Answerer(
            region="east",
            featurizer=self,
            ladder=Ladder(
                self._infer, lambda _: np.array([3.0, 2.0, 1.0], np.float32), lambda _: np.zeros(3, np.float32)
            ),
            gate=self.gate,
            publish=self._publish,
            frontier=lambda: Frontier({(LOG, 0): self.next_offset}),
            clock=self.clock,
            limits=limits,
            observer=self,
            changes=self,
            similar=Ladder(self._similar, lambda _: np.zeros(3, np.float32), lambda _: np.zeros(3, np.float32)),
        )

    async def level(self, timeout_seconds: float) -> bool:
        self.level_waits.append(timeout_seconds)
        self.items = ["x", "y", "z"]
        return True

    def prepare(self, ask: Ask) -> Prepared:
        if self.prepare_error is not None:
            raise self.prepare_error
        return Prepared(items=self.items, unknown=["never seen"], tensors={})

    async def _infer(self, _tensors: Tensors, _deadline_ms: int) -> Scored:
        await self.let_go.wait()
        if isinstance(self.worker, Exception):
            raise self.worker
        return self.worker

    async def _similar(self, _tensors: Tensors, _deadline_ms: int) -> Scored:
        return Answer(np.array([[0.9, 0.1, 0.5]], np.float32), "similar/1")

    def _publish(self, ranking: Ranking) -> None:
        if self.publish_error is not None:
            raise self.publish_error
        self.published.append(ranking)

    def ask_ended(self, kind: str, outcome: str, rung: str) -> None:
        self.ended[kind, outcome, rung] += 1

    def ask_failed(self, kind: str, bug: BaseException) -> None:
        self.failures.append(bug)

    def stepped_down(self, why: StepDown) -> None:
        self.step_downs[why] += 1

    def stage(self, name: str, seconds: float) -> None:
        assert seconds >= 0

    async def settle(self) -> None:
        """Let every ask that can end, end."""
        for _ in range(20):
            await asyncio.sleep(0)


async def test_an_ask_becomes_a_ranking_with_all_that_the_gateway_shows() -> None:
    """Items by score, the id that tells where a click counts, epoch, frontier, age and validity."""
    world = World()
    world.answerer.submit(ASK, appended_ms=9_990)
    await world.settle()
    (ranking,) = world.published
    assert (ranking.items, [round(s, 2) for s in ranking.scores]) == (["y", "z"], [0.9, 0.5])
    assert (ranking.ask_id, ranking.reply_to, ranking.rung, ranking.reason) == ("a1", "g1", "model", "")
    assert (ranking.model_version, ranking.region, ranking.epoch) == ("ranker/1", "east", (0, 1))
    assert (ranking.feature_age_ms, ranking.valid_until_ms, ranking.after_reached) == (10, 10_500, True)
    assert ranking.frontier == [(LOG, 0, 5)]
    place = RankingId.from_bytes(bytes.fromhex(ranking.ranking_id))
    assert (place.served_ms, place.arm, place.rung) == (9_000, 0, Rung.MODEL)
    assert world.ended == {("search", "answered", "model"): 1}


async def test_similar_items_have_a_ladder_of_their_own() -> None:
    """The model of similar items ranks them, and the answer names it."""
    world = World()
    world.answerer.submit(msgspec.structs.replace(ASK, kind="similar", item="w", query=""), appended_ms=9_990)
    await world.settle()
    (ranking,) = world.published
    assert (ranking.model_version, ranking.items) == ("similar/1", ["x", "z"])


async def test_a_dead_worker_is_answered_from_the_counters_and_says_so() -> None:
    """The rung is in the answer, in its id and in the metric."""
    world = World()
    world.worker = InferenceUnavailable("connection refused")
    world.answerer.submit(ASK, appended_ms=9_990)
    await world.settle()
    (ranking,) = world.published
    assert (ranking.rung, ranking.items, ranking.reason) == ("counters", ["x", "y"], "connection refused")
    assert RankingId.from_bytes(bytes.fromhex(ranking.ranking_id)).rung == Rung.COUNTERS
    assert world.step_downs == {StepDown.UNAVAILABLE: 1}
    assert world.answerer.model_problem == world.published[-1].reason != ""
    world.worker = Answer(np.array([[0.1, 0.9, 0.5]], np.float32))
    world.answerer.submit(ASK, appended_ms=9_990)
    await world.settle()
    assert world.answerer.model_problem is None, "readiness shows the newest answer, not an old one"


async def test_a_gate_that_shuts_while_the_model_thinks_keeps_the_answer_inside() -> None:
    """The gate is asked immediately before the effect."""
    world = World()
    world.let_go.clear()
    world.answerer.submit(ASK, appended_ms=9_990)
    await world.settle()
    world.gate.shut("the lease is gone")
    world.let_go.set()
    await world.settle()
    assert world.published == []
    assert world.ended == {("search", "gate", "none"): 1}


async def test_a_read_token_is_waited_for_and_the_answer_knows_it() -> None:
    """Nothing is prepared before the position is folded."""
    world = World()
    world.answerer.submit(msgspec.structs.replace(ASK, after=[Position(LOG, 0, 5)]), appended_ms=9_990)
    await world.settle()
    assert world.published == []
    assert world.answerer.waiting == 1
    world.next_offset = 6
    world.answerer.advanced()
    await world.settle()
    (ranking,) = world.published
    assert ranking.after_reached
    assert ranking.frontier == [(LOG, 0, 6)]


async def test_a_read_token_that_never_comes_is_answered_without_it_and_says_so() -> None:
    """Bounded by the deadline, with enough left for the other rungs."""
    world = World()
    late = msgspec.structs.replace(ASK, after=[Position("gone.events", 0, 0)], deadline_unix_ms=10_000 + 61)
    world.answerer.submit(late, appended_ms=9_990)
    await wait_until_async(lambda: world.published, what="the answer")
    assert world.published[0].after_reached is False


async def test_overflow_is_answered_from_the_counters_at_once() -> None:
    """Two are being scored; the third does not wait, an old fourth is dropped."""
    world = World()
    world.let_go.clear()
    for number in range(3):
        world.answerer.submit(msgspec.structs.replace(ASK, ask_id=str(number)), appended_ms=9_990)
    await world.settle()
    assert [(r.ask_id, r.rung) for r in world.published] == [("2", "counters")]
    world.answerer.submit(ASK, appended_ms=9_000)
    await world.settle()
    assert world.ended["search", "overflow", "none"] == 1
    world.let_go.set()
    await world.settle()
    assert len(world.published) == 3
    assert world.answerer.scoring == 0


async def test_an_expired_ask_is_dropped_and_counted() -> None:
    """Nobody waits for it any more."""
    world = World()
    world.answerer.submit(msgspec.structs.replace(ASK, deadline_unix_ms=10_010), appended_ms=9_990)
    await world.settle()
    assert world.ended == {("search", "expired", "none"): 1}


async def test_a_full_queue_to_the_broker_is_counted() -> None:
    """The answer is lost, the process goes on."""
    world = World()
    world.publish_error = DeliveryError("full")
    world.answerer.submit(ASK, appended_ms=9_990)
    await world.settle()
    assert world.ended == {("search", "unpublished", "none"): 1}


async def test_a_bug_in_one_answer_does_not_touch_the_next() -> None:
    """It is reported, with its cause."""
    world = World()
    world.prepare_error = KeyError("row 7 holds no item")
    world.answerer.submit(ASK, appended_ms=9_990)
    await world.settle()
    world.prepare_error = None
    world.answerer.submit(ASK, appended_ms=9_990)
    await world.settle()
    assert [type(f) for f in world.failures] == [KeyError]
    assert len(world.published) == 1


def test_unknown_candidates_come_last_and_ties_keep_the_candidates_order() -> None:
    """A shop that names its own candidates gets all of them back, as many as it asked for."""
    prepared = Prepared(items=["a", "b", "c"], unknown=["u", "v"], tensors={})
    outcome = Outcome(np.array([1.0, 2.0, 1.0], np.float32), Rung.MODEL, StepDown.NONE, "", "ranker/1")
    assert ranked(prepared, outcome, 4) == (["b", "a", "c", "u"], [2.0, 1.0, 1.0, 1.0])
    assert ranked(prepared, outcome, 2) == (["b", "a"], [2.0, 1.0])


CANARY = msgspec.structs.replace(ASK, ask_id="c1", canary=True)


async def test_a_canary_goes_up_to_the_shut_gate_and_nothing_leaves() -> None:
    """Features are read and the worker is asked; no effect, no fenced effect, and the way is told."""
    world = World()
    world.gate.shut("west holds the lease")
    world.answerer.submit(CANARY, appended_ms=9_990)
    await world.settle()
    assert world.published == []
    assert world.ended == {("canary", "gate", "none"): 1}
    trail = await world.answerer.canaries.ended("c1", 0)
    assert (trail.outcome, trail.detail, trail.rung) == ("gate", "west holds the lease", "model")
    assert list(trail.stages_ms) == ["log", "features", "score"]
    assert trail.stages_ms["log"] == 10


async def test_a_canary_of_an_open_gate_is_published_and_says_who_scored_it() -> None:
    """A dead worker shows in its trail; the notice of readiness and the count of step-downs are for users' asks."""
    world = World()
    world.worker = InferenceUnavailable("connection refused")
    world.answerer.submit(CANARY, appended_ms=9_990)
    await world.settle()
    assert [ranking.ask_id for ranking in world.published] == ["c1"]
    trail = await world.answerer.canaries.ended("c1", 0)
    assert (trail.outcome, trail.rung, trail.reason) == ("answered", "counters", "connection refused")
    assert world.ended == {("canary", "answered", "counters"): 1}
    assert (world.answerer.model_problem, world.step_downs) == (None, {})


async def test_a_canary_that_hangs_leaves_every_place_to_users() -> None:
    """Asks are turned away by the number that is being scored; a canary is not counted there."""
    world = World()
    world.let_go.clear()
    world.answerer.submit(CANARY, appended_ms=9_990)
    await world.settle()
    assert world.answerer.scoring == 0
    for number in range(2):
        world.answerer.submit(msgspec.structs.replace(ASK, ask_id=str(number)), appended_ms=9_990)
    await world.settle()
    assert (world.answerer.scoring, world.published) == (2, [])
    assert list((await world.answerer.canaries.ended("c1", 0)).stages_ms) == ["log", "features"]
    world.let_go.set()
    await world.settle()
    assert len(world.published) == 3


async def test_whoever_asks_about_a_canary_is_told_when_it_ends() -> None:
    """Before it was folded, too; and one that is not known is told apart from one that was."""
    world = World()
    asked = asyncio.ensure_future(world.answerer.canaries.ended("c1", 5))
    await world.settle()
    assert not asked.done()
    world.answerer.submit(CANARY, appended_ms=9_990)
    assert (await asked).outcome == "answered"
    assert (await world.answerer.canaries.ended("c2", 0)).stages_ms == {}
    for number in range(64):
        world.answerer.submit(msgspec.structs.replace(CANARY, ask_id=f"later-{number}"), appended_ms=9_990)
    await world.settle()
    assert (await world.answerer.canaries.ended("c1", 0)).outcome == "", "only the last ones are kept"
