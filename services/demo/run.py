"""The demonstration, step by step: replay, lose the active region in the middle, bring it back from nothing, prove.

Everything goes through what a user has too: `meridian up`, the public API, the acknowledgements file, the raw logs. The
proof needs independent witnesses: the ledger counts without the fold, the regions' states must hash to the same, and
that hash must be the one of all logs replayed from zero by another process.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from models.quality import QualityFigures
from models.records import Source
from services.client import Accepted, MeridianClient
from services.common.clock import Clock, SystemClock
from services.demo.deployment import DemoDeployment, running_deployment
from services.demo.errors import DemoError
from services.demo.reference import reference_digest
from services.demo.summary import RegionProof, Summary, number_or_none
from services.ledger.acks import AckWriter, read_acks
from services.ledger.deployment import DeploymentLedger, RegionAddress, examine_deployment
from services.processor.client import StateSummary
from services.receipts.model import Receipt
from services.replay.player import Player
from services.replay.progress import ProgressBoard
from services.replay.report import ReplayReport
from services.replay.run import Replay, ReplayOptions


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Sizes of a demonstration."""

    home: Path
    bulk_searches: int = 30_000
    ranked_searches: int = 3_000
    rate: float = 50.0
    proof_wait_seconds: float = 120.0


@dataclass(slots=True)
class Loss:
    """Loses the active region when the ranked search number `at` is about to be asked."""

    deployment: DemoDeployment
    victim: str
    at: int
    say: Callable[[str], None]
    clock: Clock
    happened_at: float | None = field(default=None, init=False)
    """On the clock that goes on through suspends, like the client's."""
    thread: threading.Thread | None = field(default=None, init=False)

    def __call__(self, number: int) -> None:
        """Hear about a ranked search. Deleting a disk takes time that the asking must not wait for."""
        if number == self.at:
            self.happened_at = self.clock.boottime()
            self.thread = threading.Thread(target=self.deployment.lose, args=(self.victim,), name="loss")
            self.thread.start()
            self.say(
                f"killed all of {self.victim} with signal 9 and deleted its disk, in the middle of the ranked part"
            )


@dataclass(slots=True)
class Recovery:
    """What happens when everything was said: the lost region comes back, and its receipt is used."""

    deployment: DemoDeployment
    loss: Loss
    incarnation: str
    say: Callable[[str], None]
    clock: Clock
    wait_seconds: float
    receipt: Receipt | None = field(default=None, init=False)
    republished: list[Accepted] = field(default_factory=list, init=False)
    rto_seconds: float | None = field(default=None, init=False)
    took_over: str = field(default="", init=False)
    rebuild_seconds: float | None = field(default=None, init=False)
    agreed: dict[str, StateSummary] | None = field(default=None, init=False)

    async def __call__(self, client: MeridianClient, player: Player) -> None:
        """Bring the region back; send again what the receipt names."""
        self._measure(player)
        if self.loss.thread is None:
            raise DemoError("the active region was never lost: there were too few ranked searches")
        await asyncio.to_thread(self.loss.thread.join)
        started = self.clock.monotonic()
        self.say(f"starting {self.loss.victim} again, on an empty disk")
        await asyncio.to_thread(self.deployment.heal, self.loss.victim)
        self.receipt = await self.deployment.receipt_about(self.incarnation, self.wait_seconds, self.clock)
        if self.receipt is not None:
            outcomes = await client.republish(msgspec.json.encode(self.receipt))
            self.republished = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
        self.agreed = await self.deployment.agreed(self.wait_seconds, self.clock)
        if self.agreed is not None:
            self.rebuild_seconds = self.clock.monotonic() - started
            self.say(f"{self.loss.victim} holds the same as the others again, after {self.rebuild_seconds:.0f} s")

    def _measure(self, player: Player) -> None:
        happened_at = self.loss.happened_at
        if happened_at is None:
            return
        others = [a for a in player.answers if a.finished > happened_at and a.region != self.loss.victim]
        if others:
            first = min(others, key=lambda answer: answer.finished)
            self.rto_seconds, self.took_over = first.finished - happened_at, first.region


def run_demo(source: Source, options: DemoOptions, board: ProgressBoard, clock: Clock | None = None) -> Summary:
    """Run it all; the regions are down when this returns or raises. Raises DemoError and what its parts raise."""
    clock = clock or SystemClock()
    started = clock.monotonic()
    wanted = options.bulk_searches + options.ranked_searches
    if len(source.searches) < wanted:
        raise DemoError(f"{source.name} has {len(source.searches):,} searches, the demonstration needs {wanted:,}")
    acks = options.home / "acks.jsonl"
    options.home.mkdir(parents=True, exist_ok=True)
    acks.unlink(missing_ok=True)
    board.say("starting two regions and a witness: etcd, Kafka, inference, processor, gateway, replicator, controller")
    with running_deployment(options.home / "deployment") as deployment:
        report, recovery = asyncio.run(_replay(source, options, deployment, acks, board, clock))
        board.say("counting: acknowledgements against the raw logs of both regions, and all logs replayed from zero")
        ledger = asyncio.run(_examine(deployment, acks, recovery.receipt, options))
        survivor = (recovery.agreed or {}).get(recovery.took_over)
        reference = None if survivor is None else reference_digest(deployment, recovery.took_over, survivor)
        restarts = deployment.processor_starts(recovery.loss.victim)
    seconds = clock.monotonic() - started
    return summarise(report, ledger, recovery, reference, restarts=restarts, seconds=seconds)


async def _replay(
    source: Source,
    options: DemoOptions,
    deployment: DemoDeployment,
    acks: Path,
    board: ProgressBoard,
    clock: Clock,
) -> tuple[ReplayReport, Recovery]:
    victim = await deployment.leader()
    if victim is None:
        raise DemoError("no region is active; `meridian explain` would say why")
    incarnation = (await deployment.states())[victim].incarnation
    board.say(f"{victim} is active; events and questions go to {' and '.join(deployment.gateways)}")
    loss = Loss(deployment, victim, options.ranked_searches // 2, board.say, clock)
    recovery = Recovery(deployment, loss, incarnation, board.say, clock, options.proof_wait_seconds)
    replay = ReplayOptions(
        gateways=deployment.gateways,
        limit=options.bulk_searches + options.ranked_searches,
        bulk_searches=options.bulk_searches,
        rank=True,
        rate=options.rate,
        acks=acks,
    )
    report = await Replay(source, replay, board).run(loss, recovery)
    add_acks(acks, recovery.republished, clock.unix_ms())
    return report, recovery


def add_acks(acks: Path, republished: Sequence[Accepted], now_ms: int) -> None:
    """Write down where events lie that were acknowledged once more: they may be in either place."""
    again = {outcome.id: outcome.coordinates for outcome in republished}
    known = [ack for ack in read_acks(acks) if ack.id in again] if again else []
    with AckWriter(acks) as lines:
        for ack in known:
            where = again[ack.id]
            lines.write(
                msgspec.structs.replace(
                    ack,
                    log=where.log,
                    partition=where.partition,
                    offset=where.offset,
                    index=where.index,
                    acknowledged_ms=now_ms,
                )
            )


async def _examine(
    deployment: DemoDeployment, acks: Path, receipt: Receipt | None, options: DemoOptions
) -> DeploymentLedger:
    regions = [
        RegionAddress(region=site.name, bootstrap=site.bootstrap, processor_url=site.url("processor"))
        for site in deployment.sites.regions
    ]
    receipts = [receipt] if receipt is not None else []
    return await examine_deployment(acks, regions, receipts, wait_seconds=options.proof_wait_seconds)


def summarise(
    report: ReplayReport,
    ledger: DeploymentLedger,
    recovery: Recovery,
    reference: str | None,
    *,
    restarts: int,
    seconds: float,
) -> Summary:
    """Put the numbers together."""
    rankings, latency, quality = report.rankings, report.latency, report.quality
    nothing = QualityFigures(0, 0.0, 0.0, 0.0, 0.0)
    figures = {} if quality is None else {name: method.overall for name, method in quality.methods.items()}
    ours, popularity, table = (figures.get(name, nothing) for name in ("ours", "popularity", "query_table"))
    live = (recovery.agreed or {}).get(recovery.took_over)
    return Summary(
        source=report.source,
        seconds=round(seconds, 1),
        events_acknowledged=ledger.events_acknowledged,
        events_refused=report.published.refused,
        events_unknown=report.published.unknown,
        events_in_log=max((found.events_in_logs for found in ledger.regions), default=0),
        repetitions_in_log=max((found.copies_in_logs for found in ledger.regions), default=0),
        events_folded=_worst([found.events_folded for found in ledger.regions], min),
        events_lost=ledger.events_lost,
        events_listed=ledger.events_listed,
        events_republished=len(recovery.republished),
        events_counted_twice=_worst([found.events_counted_twice for found in ledger.regions], max),
        events_not_folded=_worst([found.events_not_folded for found in ledger.regions], max),
        ledger_verdict=ledger.verdict,
        ledger_sentence=ledger.sentence,
        rankings_asked=rankings.asked if rankings else 0,
        rankings_served=rankings.served if rankings else 0,
        rankings_failed=rankings.failed if rankings else 0,
        rankings_stale=rankings.stale if rankings else 0,
        rungs=rankings.rungs if rankings else {},
        processor_killed=recovery.loss.happened_at is not None,
        processor_restarts=restarts,
        outage_seconds=latency.outage_seconds if latency else 0.0,
        ranking_latency_p50_ms=number_or_none(latency.p50_ms if latency else None),
        ranking_latency_p99_ms=number_or_none(latency.p99_ms if latency else None),
        searches_judged=quality.judged if quality else 0,
        online_mrr_at_5=ours.mrr_at_5,
        popularity_mrr_at_5=popularity.mrr_at_5,
        query_table_mrr_at_5=table.mrr_at_5,
        online_ndcg_at_10=ours.ndcg_at_10,
        popularity_ndcg_at_10=popularity.ndcg_at_10,
        query_table_ndcg_at_10=table.ndcg_at_10,
        digest_live=live.digest if live else None,
        digest_reference=reference,
        digests_equal=ledger.digests_equal is True,
        regions=[
            RegionProof(
                region=found.region,
                incarnation=recovery.agreed[found.region].incarnation if recovery.agreed else "",
                digest=found.digest,
                events_folded=found.events_folded,
            )
            for found in ledger.regions
        ],
        region_lost=recovery.loss.victim,
        region_took_over=recovery.took_over,
        rto_seconds=recovery.rto_seconds,
        rebuild_seconds=recovery.rebuild_seconds,
        receipt=recovery.receipt,
    )


def _worst(counts: list[int | None], pick: Callable[[list[int]], int]) -> int | None:
    """The least favourable count; unknown as soon as one is."""
    known = [count for count in counts if count is not None]
    return pick(known) if known and len(known) == len(counts) else None
