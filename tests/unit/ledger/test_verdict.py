"""The verdict: three values, and only proof is success."""

import ast
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import services.ledger
from services.ledger.count import LogCount
from services.ledger.verdict import Claims, Verdict, judge, missing_cover


def counted(events: int = 10, items: int = 2, lost: int = 0, rows: int = 15) -> LogCount:
    """A count of the log."""
    return LogCount(
        frames=3,
        corrupt_frames=0,
        rows=rows,
        distinct_events=events,
        distinct_items=items,
        item_rows=items + 1,
        distinct_by_kind={},
        acknowledged=9,
        lost=lost,
        lost_examples=[],
    )


def claims(events: int = 10, items: int = 3, late: int = 0) -> Claims:
    """What the region says."""
    return Claims(
        incarnation="east-1", frontier=(("east-1.events", 0, 3),), events=events, item_events=items, late=late
    )


def test_equal_numbers_are_proof() -> None:
    """Nothing lost, as many counted as there are identities."""
    finding = judge(counted(), claims(), None)
    assert finding.verdict == "valid" and "each counted once" in finding.sentence
    assert (finding.events_counted_twice, finding.events_not_folded, finding.copies_in_log) == (0, 0, 3)


@pytest.mark.parametrize(
    ("count", "said", "uncovered", "verdict", "word"),
    [
        (counted(), claims(events=11), None, Verdict.INVALID, "more than once"),
        (counted(), claims(items=2), None, Verdict.INVALID, "1 events in the log were not counted"),
        (counted(lost=1), claims(), None, Verdict.INVALID, "not where"),
        (counted(lost=1), claims(), "behind", Verdict.INVALID, "not where"),
        (counted(), claims(events=9), None, Verdict.INVALID, "not counted"),
        (counted(), claims(events=9, late=1), None, Verdict.VALID, "each counted once"),
        (counted(), claims(), "partition 3 is behind", Verdict.UNKNOWN, "partition 3 is behind"),
        (counted(), None, "no answer", Verdict.UNKNOWN, "no answer"),
        (counted(), None, None, Verdict.UNKNOWN, "does not say"),
    ],
)
def test_each_verdict_has_its_reason(
    count: LogCount, said: Claims | None, uncovered: str | None, verdict: Verdict, word: str
) -> None:
    """Loss and double counting are found even where the rest is unknown; unknown is never valid."""
    finding = judge(count, said, uncovered)
    assert finding.verdict == verdict.value and word in finding.sentence


def test_no_acknowledgements_prove_nothing() -> None:
    """An empty file is no success; double counting is found all the same."""
    nothing = msgspec.structs.replace(counted(), acknowledged=0)
    assert judge(nothing, claims(), None).verdict == "unknown"
    assert judge(nothing, claims(events=11), None).verdict == "invalid"


def test_exit_codes_tell_the_verdicts_apart() -> None:
    """0 only for proof."""
    assert [verdict.exit_code for verdict in (Verdict.VALID, Verdict.INVALID, Verdict.UNKNOWN)] == [0, 1, 2]


def test_a_frontier_covers_or_says_what_is_missing() -> None:
    """A partition that the region never saw is at 0."""
    here, there = ("a.events", 0), ("a.events", 4)
    assert missing_cover({here: 3, there: 1}, {here: 3, there: 5}) is None
    assert missing_cover({here: 3, there: 1}, {here: 3}) == (
        "1 partitions are behind; a.events/4 is at 0 and must reach 1"
    )
    assert claims().next_offsets("east-1.events") == {0: 3} and claims().next_offsets("west-1.events") == {}


def test_the_ledger_imports_nothing_of_the_fold() -> None:
    """A counter that shared the fold's code would share its mistakes. It knows the frame's format."""
    allowed = {
        "streams.frame",
        "streams.errors",
        "streams.kinds",
        "streams.copies",
        "services.receipts.model",
        "services.receipts.client",
    }
    for path in Path(services.ledger.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            ours = [name for name in names if name.split(".")[0] in ("streams", "models", "services")]
            foreign = [n for n in ours if n not in allowed and not n.startswith(("services.ledger", "services.common"))]
            assert not foreign, (path.name, foreign)


def test_loading_the_ledger_loads_no_fold() -> None:
    """Nor does anything that it imports import it."""
    script = "import sys, services.ledger.cli; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "streams.frame" in loaded
    assert not {"streams.fold", "streams.state", "streams.index", "streams.hashing", "streams.kernels"} & set(loaded)
