"""The demonstration, step by step: replay, kill in the middle, come back, prove.

Everything goes through what a user has too: `meridian up`, the public API, the acknowledgements file, the raw log. The
proof needs two independent witnesses: the ledger counts without the fold, and the digest of the running state must be
that of the whole log replayed from zero by another process.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from models.quality import QualityFigures
from models.records import Source
from services.common.clock import Clock, SystemClock
from services.demo.errors import DemoError
from services.demo.region import DemoRegion, running_region
from services.demo.summary import Summary, number_or_none
from services.ledger.rawlog import RawLog
from services.ledger.region import claims_covering, examine
from services.ledger.verdict import Claims, Ledger
from services.replay.progress import ProgressBoard
from services.replay.report import ReplayReport
from services.replay.run import Replay, ReplayOptions

VICTIM = "processor"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Sizes of a demonstration."""

    home: Path
    bulk_searches: int = 30_000
    ranked_searches: int = 3_000
    rate: float = 50.0
    proof_wait_seconds: float = 60.0


@dataclass(slots=True)
class Kill:
    """Kills the victim when the ranked search number `at` is about to be asked."""

    region: DemoRegion
    at: int
    say: Callable[[str], None]
    pid: int | None = field(default=None, init=False)

    def __call__(self, number: int) -> None:
        """Hear about a ranked search."""
        if number == self.at:
            self.pid = self.region.kill(VICTIM)
            self.say(f"killed the {VICTIM} (process {self.pid}) with signal 9, in the middle of the ranked part")


def run_demo(source: Source, options: DemoOptions, board: ProgressBoard, clock: Clock | None = None) -> Summary:
    """Run it all; the region is down when this returns or raises. Raises DemoError and what its parts raise."""
    clock = clock or SystemClock()
    started = clock.monotonic()
    wanted = options.bulk_searches + options.ranked_searches
    if len(source.searches) < wanted:
        raise DemoError(f"{source.name} has {len(source.searches):,} searches, the demonstration needs {wanted:,}")
    acks = options.home / "acks.jsonl"
    options.home.mkdir(parents=True, exist_ok=True)
    acks.unlink(missing_ok=True)
    board.say("starting a region: Kafka, inference worker, processor, gateway")
    with running_region(options.home / "region") as region:
        board.say(f"the region is up: {region.addresses['gateway']}")
        kill = Kill(region, options.ranked_searches // 2, board.say)
        report = asyncio.run(_replay(source, options, region, acks, board, kill))
        board.say("counting: acknowledgements against the raw log, and the log replayed from zero")
        ledger = asyncio.run(_examine(region, acks, options, clock))
        live = asyncio.run(at_rest(region, options.proof_wait_seconds, clock))
        reference = None if live is None else reference_digest(region, live)
        restarts = region.process(VICTIM).restarts
    seconds = clock.monotonic() - started
    return summarise(report, ledger, live, reference, killed=kill.pid is not None, restarts=restarts, seconds=seconds)


async def _replay(
    source: Source, options: DemoOptions, region: DemoRegion, acks: Path, board: ProgressBoard, kill: Kill
) -> ReplayReport:
    replay = ReplayOptions(
        gateways=[region.addresses["gateway"]],
        limit=options.bulk_searches + options.ranked_searches,
        bulk_searches=options.bulk_searches,
        rank=True,
        rate=options.rate,
        acks=acks,
    )
    return await Replay(source, replay, board).run(kill)


async def _examine(region: DemoRegion, acks: Path, options: DemoOptions, clock: Clock) -> Ledger:
    return await examine(
        acks,
        region.addresses["kafka"],
        region.log,
        region.addresses["processor"],
        wait_seconds=options.proof_wait_seconds,
        clock=clock,
    )


async def at_rest(region: DemoRegion, wait_seconds: float, clock: Clock) -> Claims | None:
    """The region's claims once it has taken in its whole log and nothing is written any more; None when that fails."""
    raw = RawLog(region.addresses["kafka"], region.log)
    deadline = clock.monotonic() + wait_seconds
    while clock.monotonic() < deadline:
        ends = await asyncio.to_thread(raw.ends)
        left = deadline - clock.monotonic()
        claims, missing = await claims_covering(
            region.addresses["processor"], {(region.log, p): end for p, end in ends.items()}, left, clock
        )
        if missing is None and claims is not None and claims.next_offsets(region.log) == await _ends(raw):
            return claims
    return None


async def _ends(raw: RawLog) -> dict[int, int]:
    return {partition: end for partition, end in (await asyncio.to_thread(raw.ends)).items() if end}


def reference_digest(region: DemoRegion, live: Claims) -> str | None:
    """The digest of the log replayed from zero up to the running state's frontier, by a process of its own."""
    until = json.dumps([list(row) for row in live.frontier])
    replayed = region.command("digest", "--from-zero", "--until", until, "--json")
    if replayed.returncode != 0:
        raise DemoError(f"`meridian digest` ended with {replayed.returncode}: {replayed.stderr.strip()[-500:]}")
    try:
        found = msgspec.json.decode(replayed.stdout, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise DemoError(f"`meridian digest` printed no JSON: {error}") from error
    digest = found.get("digest")
    return digest if isinstance(digest, str) else None


def summarise(
    report: ReplayReport,
    ledger: Ledger,
    live: Claims | None,
    reference: str | None,
    *,
    killed: bool,
    restarts: int,
    seconds: float,
) -> Summary:
    """Put the numbers together."""
    rankings, latency, quality = report.rankings, report.latency, report.quality
    nothing = QualityFigures(0, 0.0, 0.0, 0.0, 0.0)
    figures = {} if quality is None else {name: method.overall for name, method in quality.methods.items()}
    ours, popularity, table = (figures.get(name, nothing) for name in ("ours", "popularity", "query_table"))
    return Summary(
        source=report.source,
        seconds=round(seconds, 1),
        events_acknowledged=ledger.events_acknowledged,
        events_refused=report.published.refused,
        events_unknown=report.published.unknown,
        events_in_log=ledger.events_in_log,
        repetitions_in_log=ledger.copies_in_log,
        events_folded=ledger.events_folded,
        events_lost=ledger.events_lost,
        events_counted_twice=ledger.events_counted_twice,
        events_not_folded=ledger.events_not_folded,
        ledger_verdict=ledger.verdict,
        ledger_sentence=ledger.sentence,
        rankings_asked=rankings.asked if rankings else 0,
        rankings_served=rankings.served if rankings else 0,
        rankings_failed=rankings.failed if rankings else 0,
        rankings_stale=rankings.stale if rankings else 0,
        rungs=rankings.rungs if rankings else {},
        processor_killed=killed,
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
    )
