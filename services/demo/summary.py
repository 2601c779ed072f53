"""What a demonstration found, which promises that keeps, and the words for it.

The promises are pure functions of the numbers, so that a test can break each of them.
"""

import math
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.table import Table

from services.receipts.model import Receipt

FAILED_MAX = 500
"""How many of the ranked searches may fail around the kill."""


class RegionProof(msgspec.Struct, frozen=True, kw_only=True):
    """One region at the end."""

    region: str
    incarnation: str
    digest: str
    events_folded: int | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of `runs/demo/summary.json`. None: could not be found out, which keeps no promise."""

    source: str
    seconds: float
    events_acknowledged: int
    events_refused: int
    events_unknown: int
    events_in_log: int
    repetitions_in_log: int
    events_folded: int | None
    events_lost: int
    """Acknowledged events that no region holds and no receipt lists."""
    events_listed: int
    """Acknowledged events that no region holds and a receipt lists."""
    events_republished: int
    """Events that the app sent again because the receipt named them."""
    events_counted_twice: int | None
    events_not_folded: int | None
    ledger_verdict: str
    ledger_sentence: str
    rankings_asked: int
    rankings_served: int
    rankings_failed: int
    rankings_stale: int
    rungs: dict[str, int]
    processor_killed: bool
    processor_restarts: int
    outage_seconds: float
    ranking_latency_p50_ms: float | None
    ranking_latency_p99_ms: float | None
    searches_judged: int
    online_mrr_at_5: float
    popularity_mrr_at_5: float
    query_table_mrr_at_5: float
    online_ndcg_at_10: float
    popularity_ndcg_at_10: float
    query_table_ndcg_at_10: float
    digest_live: str | None
    digest_reference: str | None
    digests_equal: bool
    """Whether all regions hash to the same at the same frontier, the one that was rebuilt from nothing included."""
    regions: list[RegionProof]
    region_lost: str
    region_took_over: str
    rto_seconds: float | None
    """From the kill to the first ranking from another region."""
    rebuild_seconds: float | None
    """From starting the lost region on an empty disk until it was ready and had caught up."""
    receipt: Receipt | None


class Promise(msgspec.Struct, frozen=True):
    """One promise: kept or not, and the sentence that says so."""

    kept: bool
    sentence: str


def promises(summary: Summary) -> Iterator[Promise]:
    """Every promise of the demonstration."""
    s = summary
    yield Promise(
        s.events_acknowledged > 0 and s.events_lost == 0,
        f"of {s.events_acknowledged:,} acknowledged events {s.events_lost:,} were lost",
    )
    yield Promise(
        s.events_refused == 0 and s.events_unknown == 0,
        f"{s.events_refused:,} events were refused and {s.events_unknown:,} never acknowledged",
    )
    yield Promise(
        s.events_counted_twice == 0 and s.events_not_folded == 0,
        f"{_count(s.events_counted_twice)} events were counted twice and {_count(s.events_not_folded)} not counted, "
        f"although the log repeats {s.repetitions_in_log:,}",
    )
    yield Promise(s.ledger_verdict == "valid", f"the ledger says {s.ledger_verdict}: {s.ledger_sentence}")
    yield Promise(
        s.digest_live is not None and s.digest_live == s.digest_reference,
        f"the running state hashes to {s.digest_live}, the log replayed from zero to {s.digest_reference}",
    )
    yield Promise(
        s.processor_killed and s.rto_seconds is not None,
        f"{s.region_lost} was killed and its disk deleted; {s.region_took_over or 'nobody'} answered "
        f"{_seconds(s.rto_seconds)} later",
    )
    yield Promise(
        s.digests_equal and s.processor_restarts > 0 and len(s.regions) > 1,
        f"{s.region_lost} came back from nothing and holds the same as the others: "
        + ", ".join(f"{proof.incarnation} {proof.digest}" for proof in s.regions),
    )
    yield Promise(
        s.receipt is not None and s.receipt.state != "open",
        _receipt_sentence(s.receipt),
    )
    yield Promise(
        s.rankings_served > 0 and s.rankings_failed <= FAILED_MAX,
        f"{s.rankings_failed:,} of {s.rankings_asked:,} rankings failed, at most {FAILED_MAX} may",
    )
    for name, figure in (("popularity", s.popularity_mrr_at_5), ("the exact-query table", s.query_table_mrr_at_5)):
        yield Promise(
            s.searches_judged > 0 and s.online_mrr_at_5 > figure,
            f"MRR@5 is {s.online_mrr_at_5:.4f}, and that of {name} {figure:.4f} on the same searches",
        )


def broken(summary: Summary) -> list[str]:
    """The sentences of the promises that were not kept."""
    return [promise.sentence for promise in promises(summary) if not promise.kept]


def number_or_none(value: float | None) -> float | None:
    """JSON has no NaN: what was not measured is null."""
    return None if value is None or math.isnan(value) else value


def show(summary: Summary, console: Console) -> None:
    """Print the summary for people."""
    table = Table(title=f"{summary.source}, {summary.seconds:.0f} s", show_lines=False)
    table.add_column("")
    table.add_column("what was promised and found")
    for promise in promises(summary):
        table.add_row("[green]kept[/]" if promise.kept else "[red]BROKEN[/]", promise.sentence)
    console.print(table)
    for label, value in _figures(summary):
        console.print(f"  {label:<34} {value}", highlight=False)


def _figures(s: Summary) -> Iterator[tuple[str, str]]:
    rungs = ", ".join(f"{count:,} {rung}" for rung, count in s.rungs.items())
    yield "rankings served", f"{s.rankings_served:,} ({rungs})"
    yield "without the user's last event", f"{s.rankings_stale:,}"
    yield "nobody was answered for", f"{s.outage_seconds:.1f} s"
    yield "latency from intended send, p50", _ms(s.ranking_latency_p50_ms)
    yield "latency from intended send, p99", _ms(s.ranking_latency_p99_ms)
    yield (
        "NDCG@10 ours/popularity/table",
        " / ".join(
            f"{figure:.3f}" for figure in (s.online_ndcg_at_10, s.popularity_ndcg_at_10, s.query_table_ndcg_at_10)
        ),
    )


def _seconds(value: float | None) -> str:
    return "an unknown time" if value is None else f"{value:.1f} s"


def _receipt_sentence(receipt: Receipt | None) -> str:
    if receipt is None:
        return "no receipt was written"
    records = sum(found.end - found.start for found in receipt.ranges)
    return (
        f"receipt {receipt.receipt_id} about {receipt.incarnation} is {receipt.state.replace('_', ' ')}: it lists "
        f"{_count(receipt.events_listed)} events in {records} records"
    )


def _ms(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} ms, outside the outage"


def _count(value: int | None) -> str:
    return "an unknown number of" if value is None else f"{value:,}"
