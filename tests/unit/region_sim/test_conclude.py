"""The demonstration's summary: each number comes from whoever found it, and what was not found keeps no promise."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from models.quality import QualityFigures
from region_sim.checkers.base import Figures
from region_sim.demo.conclude import conclude, summarise, tell
from region_sim.demo.proof import PROOF_FILE, Proof, seen_in
from region_sim.errors import DrillBroken
from region_sim.evidence import FaultSeen
from region_sim.history import Entry
from region_sim.load.replayed import FIGURES_FILE, ReplayFigures
from services.demo.summary import broken
from services.ledger.deployment import DeploymentLedger, RegionFinding
from services.receipts.model import Receipt

RECEIPT = Receipt(
    receipt_id="r-1", kind="failover", region="east", incarnation="east-1", was_active=True, issued_by="west",
    epoch=(0, 7), created_ms=1, reason="the lease ran out", survivors=["west"], last_contact_ms=1, remaining=[],
    ranges=[], state="confirmed_lost",
)  # fmt: skip


def finding(region: str, **change: object) -> RegionFinding:
    """A region that holds and counts everything."""
    found = RegionFinding(
        region=region,
        events_in_logs=100,
        copies_in_logs=3,
        events_folded=100,
        events_counted_twice=0,
        events_not_folded=0,
        missing=0,
        missing_unlisted=0,
        digest="ab",
        frontier=[],
        uncovered="",
    )
    return msgspec.structs.replace(found, **change)


def proof(**change: object) -> Proof:
    """Nothing is wrong."""
    ledger = DeploymentLedger(
        verdict="valid",
        sentence="all is well",
        events_acknowledged=99,
        events_lost=0,
        events_listed=1,
        digests_equal=True,
        regions=[finding("east"), finding("west")],
    )
    found = Proof(
        region_lost="east",
        region_took_over="west",
        receipt=RECEIPT,
        incarnations={"east": "east-2", "west": "west-1"},
        digest_live="ab",
        digest_reference="ab",
        processor_restarts=1,
        ledger=ledger,
    )
    return msgspec.structs.replace(found, **change)


REPLAY = ReplayFigures(
    source="shop-1",
    events_acknowledged=99,
    events_refused=0,
    events_unknown=0,
    events_republished=1,
    rankings_asked=300,
    rankings_served=290,
    rankings_failed=10,
    rankings_stale=0,
    rungs={"model": 290},
    failures={},
    outage_seconds=3.0,
    p50_ms=9.0,
    p99_ms=40.0,
    judged=290,
    quality={
        "ours": QualityFigures(290, 0.7, 0.8, 0.6, 0.9),
        "popularity": QualityFigures(290, 0.1, 0.2, 0.1, 0.3),
        "query_table": QualityFigures(290, 0.6, 0.7, 0.5, 0.8),
    },
)
FIGURES = Figures(rto_seconds=2.5, heal_seconds=20.0)


def test_good_findings_keep_every_promise() -> None:
    """And each number is where it belongs."""
    summary = summarise(REPLAY, proof(), FIGURES, 100.0)
    assert broken(summary) == []
    assert (summary.rto_seconds, summary.rebuild_seconds) == (2.5, 20.0)
    assert (summary.online_mrr_at_5, summary.popularity_mrr_at_5, summary.query_table_mrr_at_5) == (0.7, 0.1, 0.6)
    assert [(each.region, each.incarnation) for each in summary.regions] == [("east", "east-2"), ("west", "west-1")]
    assert (summary.events_in_log, summary.repetitions_in_log, summary.events_republished) == (100, 3, 1)


def test_what_one_region_does_not_say_is_unknown() -> None:
    """The other's word does not stand for it."""
    found = proof()
    regions = [finding("east", events_folded=None, events_counted_twice=None), finding("west")]
    silent = msgspec.structs.replace(found, ledger=msgspec.structs.replace(found.ledger, regions=regions))
    summary = summarise(REPLAY, silent, FIGURES, 100.0)
    assert (summary.events_folded, summary.events_counted_twice) == (None, None)
    assert broken(summary)


@pytest.mark.parametrize(
    "found",
    [
        proof(region_lost=""),
        proof(digest_reference=None),
        proof(digest_reference="cd"),
        proof(processor_restarts=0),
        proof(receipt=None),
    ],
)
def test_each_part_of_the_proof_counts(found: Proof) -> None:
    """Without it a promise is broken."""
    assert broken(summarise(REPLAY, found, FIGURES, 100.0))


def test_an_rto_that_was_not_measured_keeps_no_promise() -> None:
    """The verdict's figures say None then."""
    assert broken(summarise(REPLAY, proof(), Figures(), 100.0))


def test_both_copies_of_the_summary_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One beside the history, one where demonstrations have always left it; broken promises are told."""
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / FIGURES_FILE).write_bytes(msgspec.json.encode(REPLAY))
    (directory / PROOF_FILE).write_bytes(msgspec.json.encode(proof(receipt=None)))
    summary = conclude(directory, tmp_path, FIGURES, 100.0)
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads((directory / "summary.json").read_text())
    assert not tell(summary, tmp_path, quiet=True)
    assert "no receipt was written" in capsys.readouterr().err


def test_a_run_without_a_proof_is_broken(tmp_path: Path) -> None:
    """It is not taken for one that proved something."""
    with pytest.raises(DrillBroken, match="left no proof"):
        conclude(tmp_path, tmp_path, FIGURES, 100.0)


def entry(index: int, type: str, op: str, **content: object) -> Entry:  # noqa: A002
    """A line of a history."""
    bare = Entry(index=index, type="info", op=op, process="p", monotonic_seconds=float(index), unix_ms=index)
    return msgspec.structs.replace(bare, type=type, **content)


def test_a_history_says_who_was_lost_and_who_took_over() -> None:
    """The first answer of another region after the fault; answers from before it do not count."""
    fault = FaultSeen(
        kind="wipe", target="east", was_active=True, region_lost=True, incarnation="east-1", verified=True, details=""
    )
    seen = seen_in(
        [
            entry(0, "ok", "search", region="west"),
            entry(1, "invoke", "fault", region="east"),
            entry(2, "ok", "search", region="east"),
            entry(3, "ok", "fault", evidence=fault),
            entry(4, "ok", "search", region="west"),
        ]
    )
    assert (seen.lost, seen.life, seen.took_over) == ("east", "east-1", "west")
    unverified = seen_in([entry(0, "fail", "fault", evidence=msgspec.structs.replace(fault, verified=False))])
    assert unverified.life == ""
