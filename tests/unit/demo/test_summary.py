"""The promises of a demonstration: each one can be broken, and an unknown number keeps none."""

import io
import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from services.demo.cli import write_json
from services.demo.summary import RegionProof, Summary, broken, number_or_none, promises, show
from services.receipts.model import Range, Receipt

RECEIPT = Receipt(
    receipt_id="r-1", kind="failover", region="east", incarnation="east-1", was_active=True, issued_by="west",
    epoch=(0, 7), created_ms=1, reason="the lease ran out", survivors=["west"], last_contact_ms=1, remaining=[],
    ranges=[Range(log="east-1.events", partition=0, start=4, end=6, events=2)], state="confirmed_lost",
)  # fmt: skip

GOOD = Summary(
    source="log",
    seconds=100.0,
    events_acknowledged=66_000,
    events_refused=0,
    events_unknown=0,
    events_in_log=68_900,
    repetitions_in_log=12,
    events_folded=68_900,
    events_lost=0,
    events_counted_twice=0,
    events_not_folded=0,
    ledger_verdict="valid",
    ledger_sentence="all is well",
    rankings_asked=3_000,
    rankings_served=2_800,
    rankings_failed=200,
    rankings_stale=0,
    rungs={"model": 2_800},
    processor_killed=True,
    processor_restarts=1,
    outage_seconds=3.5,
    ranking_latency_p50_ms=9.0,
    ranking_latency_p99_ms=40.0,
    searches_judged=2_800,
    online_mrr_at_5=0.75,
    popularity_mrr_at_5=0.06,
    query_table_mrr_at_5=0.70,
    online_ndcg_at_10=0.8,
    popularity_ndcg_at_10=0.1,
    query_table_ndcg_at_10=0.75,
    digest_live="ab",
    digest_reference="ab",
    events_listed=2,
    events_republished=2,
    digests_equal=True,
    regions=[
        RegionProof(region=name, incarnation=f"{name}-1", digest="ab", events_folded=68_900)
        for name in ("east", "west")
    ],
    region_lost="east",
    region_took_over="west",
    rto_seconds=2.9,
    rebuild_seconds=20.0,
    receipt=RECEIPT,
)


def test_all_kept() -> None:
    """Good numbers break nothing."""
    assert broken(GOOD) == []
    assert len(list(promises(GOOD))) == 11


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"events_lost": 1}, "1 were lost"),
        ({"events_acknowledged": 0}, "of 0 acknowledged"),
        ({"events_refused": 3}, "3 events were refused"),
        ({"events_unknown": 2}, "2 never acknowledged"),
        ({"events_counted_twice": 1}, "1 events were counted twice"),
        ({"events_counted_twice": None}, "an unknown number of events were counted twice"),
        ({"events_not_folded": 4}, "4 not counted"),
        ({"ledger_verdict": "unknown"}, "the ledger says unknown"),
        ({"digest_reference": "cd"}, "replayed from zero to cd"),
        ({"digest_live": None, "digest_reference": None}, "hashes to None"),
        ({"processor_killed": False}, "east was killed"),
        ({"rto_seconds": None, "region_took_over": ""}, "nobody answered an unknown time later"),
        ({"processor_restarts": 0}, "east came back from nothing"),
        ({"digests_equal": False}, "east came back from nothing"),
        ({"regions": []}, "east came back from nothing"),
        ({"receipt": None}, "no receipt was written"),
        ({"receipt": msgspec.structs.replace(RECEIPT, state="open")}, "is open: it lists 2 events in 2 records"),
        ({"rankings_failed": 501}, "501 of 3,000 rankings failed"),
        ({"rankings_served": 0}, "rankings failed"),
        ({"online_mrr_at_5": 0.70}, "the exact-query table"),
        ({"online_mrr_at_5": 0.05}, "popularity"),
        ({"searches_judged": 0}, "on the same searches"),
    ],
)
def test_each_promise_can_be_broken(change: dict[str, object], sentence: str) -> None:
    """The sentence says which; equality with a baseline is not better than it."""
    found = broken(msgspec.structs.replace(GOOD, **change))
    assert found
    assert any(sentence in line for line in found)


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    """JSON has no NaN, and 0 ms would be a lie."""
    assert number_or_none(float("nan")) is None
    assert number_or_none(1.5) == 1.5
    summary = msgspec.structs.replace(GOOD, ranking_latency_p99_ms=None, outage_seconds=float("nan"))
    written = json.loads(write_json(tmp_path / "summary.json", summary).read_text())
    assert written["ranking_latency_p99_ms"] is None
    assert written["outage_seconds"] is None
    assert written["events_acknowledged"] == 66_000


def test_people_read_what_was_broken() -> None:
    """The table names it, and the figures are there."""
    console = Console(record=True, width=160, file=io.StringIO())
    show(msgspec.structs.replace(GOOD, events_lost=2, ranking_latency_p50_ms=None), console)
    text = console.export_text()
    assert "BROKEN" in text
    assert "2 were lost" in text
    assert "not measured" in text
