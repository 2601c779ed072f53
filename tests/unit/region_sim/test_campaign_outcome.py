"""What a campaign says in the end: nothing that never occurred counts as tested."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import msgspec
import pytest

from region_sim.campaign.coverage import Coverage, coverage_of
from region_sim.campaign.outcome import concluded, distribution
from region_sim.campaign.plot import plot
from region_sim.campaign.seeds import SeedResult
from region_sim.campaign.spread import RunResult, spread_of
from region_sim.evidence import CountsSeen, StateSeen, TermSeen
from region_sim.history import HistoryWriter
from region_sim.memory.clocks import MachineClock
from region_sim.memory.kernel import Kernel

FULL = Coverage(failovers=1, gate_refusals=1, replays=1, receipts_with_ranges=1)


def result(seed: int, verdict: str = "valid", coverage: Coverage = FULL) -> SeedResult:
    """A seed's."""
    return SeedResult(seed=seed, verdict=verdict, coverage=coverage, rto_seconds=[float(seed)])  # type: ignore[arg-type]


def test_the_worst_verdict_counts() -> None:
    """One invalid seed makes the campaign invalid, whatever else is unknown."""
    found = [result(1), result(2, "unknown"), result(3, "invalid")]
    campaign = concluded(found, [], backend="memory", workers=2, seconds=2.0)
    assert campaign.verdict == "invalid"
    assert campaign.verdicts == {"valid": 1, "invalid": 1, "unknown": 1}
    assert concluded(found[:2], [], backend="memory", workers=2, seconds=2.0).verdict == "unknown"
    assert concluded(found[:1], [], backend="memory", workers=2, seconds=2.0).verdict == "valid"
    assert concluded([], [], backend="memory", workers=2, seconds=2.0).verdict == "unknown"


@pytest.mark.parametrize("missing", ["failovers", "gate_refusals", "replays", "receipts_with_ranges"])
def test_what_never_occurred_makes_it_unknown(missing: str) -> None:
    """Any of the four; that another seed had it is enough."""
    without = msgspec.structs.replace(FULL, **{missing: 0})
    campaign = concluded([result(1, coverage=without)], [], backend="memory", workers=1, seconds=1.0)
    assert campaign.verdict == "unknown"
    assert {"gate_refusals": "fence rejections"}.get(missing, missing) in campaign.sentence
    both = concluded([result(1, coverage=without), result(2)], [], backend="memory", workers=1, seconds=1.0)
    assert both.verdict == "valid"


def test_coverage_is_counted_from_the_history() -> None:
    """Terms of another region are failovers; another life was rebuilt; the regions' own counts are added."""
    history = HistoryWriter(None, MachineClock(Kernel()))
    terms = [("east", (0, 3)), ("west", (0, 9)), ("west", (0, 12)), ("east", (0, 20))]
    for region, epoch in reversed(terms):
        piece = TermSeen(region=region, instance=region, epoch=epoch, seen_ms=1, gone_ms=0)
        history.add("info", "collect", "collector", evidence=piece)
    for incarnation in ("east-2", "west-1"):
        state = StateSeen(
            region=incarnation[:4],
            incarnation=incarnation,
            frontier=[],
            digest="",
            events=0,
            item_events=0,
            late=0,
            dead=0,
        )
        history.add("info", "collect", "collector", evidence=state)
    history.add("info", "search", "library-east", error="StaleAnswer: thrown away")
    history.add("info", "search", "bare-east", error='503 {"type":"urn:meridian:problem:not-active"}')
    counts = CountsSeen(counts={"gate_refusals": 2, "stale_dropped": 3, "replays": 4})
    history.add("info", "collect", "collector", evidence=counts)
    found = coverage_of(history.entries)
    assert (found.failovers, found.rebuilt_lives, found.gate_refusals, found.stale_rejections) == (2, 1, 3, 4)
    assert found.replays == 4
    assert found.missing() == ["receipts_with_ranges"]


def test_quantiles_of_what_was_measured() -> None:
    """Nearest rank; nothing measured is nothing, not zero."""
    found = distribution(range(1, 101))
    assert (found.count, found.p50, found.p90, found.p99, found.worst) == (100, 50, 90, 99, 100)
    assert distribution([]).worst is None


def test_a_leak_makes_a_valid_run_invalid() -> None:
    """Twenty valid verdicts do not excuse a process that is left."""
    run = RunResult(seed=1, verdict="valid", sentence="", directory="", run_seconds=60.0, rto_seconds=4.0)
    assert spread_of("kill-active", [run], []).verdict == "valid"
    assert spread_of("kill-active", [run], ["process 7 lives on"]).verdict == "invalid"
    assert spread_of("kill-active", [], []).verdict == "unknown"


@pytest.mark.parametrize("values", [[], [0.0], [3.2], [1.0, 2.0, 8.5, 60.0]])
def test_the_plot_is_an_image_that_needs_nothing_else(values: list[float]) -> None:
    """It parses, shows every value, and refers to nothing outside."""
    text = plot("RTO of <kill & wipe>", "s", values)
    image = ET.fromstring(text)
    circles = image.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == len(values)
    assert all(44 <= float(circle.attrib["cy"]) <= 256 for circle in circles)
    assert "href" not in text
    assert "url(" not in text
