"""From what the drill's checkers, the app and the proof found to `summary.json`, and to what people are told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from models.quality import QualityFigures
from region_sim.checkers.base import Figures
from region_sim.demo.proof import PROOF_FILE, Proof
from region_sim.errors import DrillBroken
from region_sim.load.replayed import FIGURES_FILE, ReplayFigures
from services.demo.summary import RegionProof, Summary, broken, show

SUMMARY_FILE: Final = "summary.json"
_NOTHING: Final = QualityFigures(0, 0.0, 0.0, 0.0, 0.0)


def conclude(directory: Path, out: Path, figures: Figures, seconds: float) -> Summary:
    """Write `summary.json` into the run's `directory` and into `out`, and return it. Raises DrillBroken."""
    try:
        replay = msgspec.json.decode((directory / FIGURES_FILE).read_bytes(), type=ReplayFigures)
        proof = msgspec.json.decode((directory / PROOF_FILE).read_bytes(), type=Proof)
    except (OSError, msgspec.MsgspecError) as error:
        raise DrillBroken(f"the demonstration left no proof in {directory}: {error}") from error
    summary = summarise(replay, proof, figures, seconds)
    raw = msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"
    for place in (directory, out):
        beside = place / f"{SUMMARY_FILE}.new"
        beside.write_bytes(raw)
        beside.replace(place / SUMMARY_FILE)
    return summary


def tell(summary: Summary, out: Path, *, quiet: bool) -> bool:
    """Show a summary to people, and say whether every promise was kept; broken ones go to standard error."""
    if not quiet:
        show(summary, Console())
        print(f"\nAll of it: {out / SUMMARY_FILE}")
    failures = broken(summary)
    for sentence in failures:
        print(f"region-sim: a promise was broken: {sentence}", file=sys.stderr)
    return not failures


def summarise(replay: ReplayFigures, proof: Proof, figures: Figures, seconds: float) -> Summary:
    """Put the numbers together. Pure."""
    ours, popularity, table = (replay.quality.get(name, _NOTHING) for name in ("ours", "popularity", "query_table"))
    ledger = proof.ledger
    return Summary(
        source=replay.source,
        seconds=round(seconds, 1),
        events_acknowledged=ledger.events_acknowledged,
        events_refused=replay.events_refused,
        events_unknown=replay.events_unknown,
        events_in_log=max((found.events_in_logs for found in ledger.regions), default=0),
        repetitions_in_log=max((found.copies_in_logs for found in ledger.regions), default=0),
        events_folded=_worst([found.events_folded for found in ledger.regions], min),
        events_lost=ledger.events_lost,
        events_listed=ledger.events_listed,
        events_republished=replay.events_republished,
        events_counted_twice=_worst([found.events_counted_twice for found in ledger.regions], max),
        events_not_folded=_worst([found.events_not_folded for found in ledger.regions], max),
        ledger_verdict=ledger.verdict,
        ledger_sentence=ledger.sentence,
        rankings_asked=replay.rankings_asked,
        rankings_served=replay.rankings_served,
        rankings_failed=replay.rankings_failed,
        rankings_stale=replay.rankings_stale,
        rungs=replay.rungs,
        processor_killed=bool(proof.region_lost),
        processor_restarts=proof.processor_restarts,
        outage_seconds=replay.outage_seconds,
        ranking_latency_p50_ms=replay.p50_ms,
        ranking_latency_p99_ms=replay.p99_ms,
        searches_judged=replay.judged,
        online_mrr_at_5=ours.mrr_at_5,
        popularity_mrr_at_5=popularity.mrr_at_5,
        query_table_mrr_at_5=table.mrr_at_5,
        online_ndcg_at_10=ours.ndcg_at_10,
        popularity_ndcg_at_10=popularity.ndcg_at_10,
        query_table_ndcg_at_10=table.ndcg_at_10,
        digest_live=proof.digest_live,
        digest_reference=proof.digest_reference,
        digests_equal=ledger.digests_equal is True,
        regions=[
            RegionProof(
                region=found.region,
                incarnation=proof.incarnations.get(found.region, ""),
                digest=found.digest,
                events_folded=found.events_folded,
            )
            for found in ledger.regions
        ],
        region_lost=proof.region_lost,
        region_took_over=proof.region_took_over,
        rto_seconds=figures.rto_seconds,
        rebuild_seconds=figures.heal_seconds,
        receipt=proof.receipt,
    )


def _worst(counts: Sequence[int | None], pick: Callable[[list[int]], int]) -> int | None:
    """The least favourable count; unknown as soon as one is."""
    known = [count for count in counts if count is not None]
    return pick(known) if known and len(known) == len(counts) else None
