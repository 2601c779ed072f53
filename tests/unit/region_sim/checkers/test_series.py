"""What apps were served over time, for the report."""

from __future__ import annotations

from region_sim.checkers.recorded import record
from region_sim.checkers.series import NOBODY, per_phase, per_second
from region_sim.verdict import judge
from tests.support.planted_history import Planted, history


def one_failure(planted: Planted) -> None:
    """Asked for at second 11, given up at second 12."""
    call = planted.ask("library-east", 11.2)
    planted.add("info", "search", "library-east", 12.2, call=call, error="timeout")


def test_seconds_are_those_in_which_was_asked_and_tell_who_answered() -> None:
    """Answers by region with their latency; what nobody answered has no region."""
    found = per_second(history(during=one_failure))
    east = next(one for one in found if (one.second, one.region) == (3, "east"))
    assert (east.answers, east.failed, east.rungs) == (2, 0, {"model": 2})
    assert east.p50_ms is not None
    assert round(east.p50_ms) == 20
    (failed,) = [one for one in found if one.region == NOBODY]
    assert (failed.second, failed.answers, failed.failed, failed.p99_ms, failed.rungs) == (11, 0, 1, None, {})
    assert sum(one.answers for one in found) == 19
    assert per_second([]) == []


def test_phases_tell_before_during_and_after() -> None:
    """And stand in the verdict."""
    entries = history(during=one_failure)
    phases = {one.phase: one for one in per_phase(record(entries))}
    assert list(phases) == ["warm-up", "steady", "fault", "heal", "after"]
    assert (phases["steady"].regions, phases["steady"].answered_share) == ({"east": 16}, 1.0)
    assert (phases["fault"].asked, phases["fault"].answered, phases["fault"].regions) == (3, 2, {"west": 2})
    assert phases["heal"].answered_share is None
    assert (phases["after"].start_seconds, phases["after"].end_seconds) == (14.6, 16.0)
    assert [one.phase for one in judge(entries).phases] == list(phases)
