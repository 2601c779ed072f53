"""Two runs side by side: regressions are seen, and what proves nothing is never a success."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from region_sim.report.compare import Comparison, Tolerance, compare
from region_sim.report.judged import flat, read_verdict
from region_sim.report.pages import comparison_page
from tests.support.drilled_run import PARAMETERS, write_run
from tests.support.page_reader import read, rows_of

UNMEASURED = {"failovers": [], "rto_seconds": None}


def compared(directory: Path, before: dict[str, Any], after: dict[str, Any]) -> Comparison:
    """Two runs with these figures."""
    runs = [write_run(directory / name, [], **changes) for name, changes in (("a", before), ("b", after))]
    return compare(read_verdict(runs[0]), read_verdict(runs[1]), Tolerance())


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ({}, {}, 0),
        ({}, {"rto_seconds": 4.49}, 0),
        ({}, {"rto_seconds": 4.51}, 1),
        ({"rto_seconds": 20.0}, {"rto_seconds": 21.9}, 0),
        ({"rto_seconds": 20.0}, {"rto_seconds": 22.1}, 1),
        ({"rto_seconds": 9.0}, {"rto_seconds": 4.0}, 0),
        ({}, {"rpo_events": 22}, 0),
        ({}, {"rpo_events": 23}, 1),
        ({}, {"lost": 30}, 1),
        ({}, {"lost_unlisted": 1}, 1),
        ({}, {"counted_twice": 1}, 1),
        ({"stale_answers": 0}, {"stale_answers": 1}, 1),
        ({}, {"digests_equal": False}, 1),
        ({}, {"last_contact_before_fault_seconds": 0.9}, 1),
        ({}, {"heal_seconds": 500.0}, 0),
        ({}, {"verdict": "invalid", "sentence": "one is lost"}, 1),
        ({"verdict": "invalid"}, {}, 0),
        ({}, {"verdict": "unknown"}, 2),
        ({"verdict": "unknown"}, {}, 2),
        ({}, {"drill": "other"}, 2),
        ({}, {"backend": "memory"}, 2),
        ({}, UNMEASURED, 2),
        (UNMEASURED, {}, 2),
        (UNMEASURED, UNMEASURED, 0),
        ({}, UNMEASURED | {"lost_unlisted": 3}, 1),
    ],
)
def test_a_change_counts_beyond_its_tolerance(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], code: int
) -> None:
    """0 no regression, 1 worse, 2 not comparable; worse weighs more than not comparable."""
    found = compared(tmp_path, before, after)
    assert found.exit_code == code, found.sentence
    assert found.sentence


def test_the_longest_of_several_takeovers_counts(tmp_path: Path) -> None:
    """A second takeover that became slow is a regression although the first did not."""
    first = {"rto_seconds": 4.0}
    found = compared(
        tmp_path, {"failovers": [first, {"rto_seconds": 5.0}]}, {"failovers": [first, {"rto_seconds": 8.0}]}
    )
    assert found.exit_code == 1
    assert found.sentence == "RTO, the longest of all takeovers is 8.00 s, and was 5.00 s"


def test_every_figure_is_listed_with_its_difference(tmp_path: Path) -> None:
    """Those that are not judged, too; and the parameters that differ."""
    parameters = PARAMETERS | {"load": {"searches_per_second": 40.0}}
    found = compared(tmp_path, {}, {"rto_seconds": 5.0, "heal_seconds": 4.0, "parameters": parameters})
    lines = {line.figure: line for line in found.lines}
    assert (lines["rto_seconds"].difference, lines["rto_seconds"].change) == (1.0, "worse")
    assert (lines["heal_seconds"].difference, lines["heal_seconds"].change) == (1.0, "not judged")
    assert found.parameters == {"load.searches_per_second": ("20.0", "40.0")}
    page = read(comparison_page(found))
    assert rows_of(page, "Figures of both runs")[0] == [
        "RTO",
        "4.00 s",
        "5.00 s",
        "+1.00 s",
        "▲ worse",
        "RTO is 5.00 s, and was 4.00 s",
    ]
    assert rows_of(page, "Parameters that differ") == [["load.searches_per_second", "20.0", "40.0"]]
    assert "a time grew by more than 0.5 s and 10%" in page.text


def test_parameters_are_flat() -> None:
    """Tables by dots, lists of tables by their place, everything else as JSON."""
    assert flat({"a": {"b": [1, 2], "c": None}, "faults": [{"kind": "wipe"}], "on": True, "word": "x"}) == {
        "a.b": "[1,2]",
        "a.c": "null",
        "faults.1.kind": "wipe",
        "on": "true",
        "word": "x",
    }
