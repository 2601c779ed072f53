"""No ranking before its markers."""

from __future__ import annotations

import msgspec

from region_sim.evidence import Evidence, FirstRanking, MarkerSeen, MarkersRead
from tests.support.judged import found_by, without
from tests.support.planted_history import FIRST, SECOND, Plant, Planted, history

NAME = "markers-first"


def without_marker(epoch: tuple[int, int], partition: int | None) -> Plant:
    """One partition, or all, without the marker of an epoch."""

    def end(planted: Planted) -> None:
        planted.markers = [
            one for one in planted.markers if one.epoch != epoch or partition not in (None, one.partition)
        ]

    return end


def test_terms_that_wrote_their_markers_are_valid() -> None:
    """Both of them."""
    found = found_by(NAME, history())
    assert (found.verdict, found.sentence[:7]) == ("valid", "2 terms")


def test_a_term_that_answered_without_markers_is_found_and_its_first_answer_named() -> None:
    """Without any, or in one partition only."""
    for epoch in (FIRST, SECOND):
        for partition in (None, 0, 1):
            entries = history(end=without_marker(epoch, partition))
            found = found_by(NAME, entries)
            assert found.verdict == "invalid", (epoch, partition)
            assert found.first_index is not None
            assert entries[found.first_index].epoch == epoch


def test_markers_of_a_life_that_is_over_are_not_asked_for() -> None:
    """They went with it; those of the survivor are."""
    gone = history("wipe", end=without_marker(FIRST, None))
    assert found_by(NAME, gone).verdict == "valid"
    never = history("wipe", end=without_marker(SECOND, 1))
    assert found_by(NAME, never).verdict == "invalid"


def test_logs_that_were_not_read_prove_nothing() -> None:
    """That there is no marker at all is another matter, when somebody looked."""
    unread = history(evidence=lambda found: without(found, MarkerSeen, MarkersRead))
    assert found_by(NAME, unread).verdict == "unknown"
    assert found_by(NAME, history(evidence=lambda found: without(found, MarkerSeen))).verdict == "invalid"


def test_a_log_that_could_not_be_read_in_the_end_proves_nothing() -> None:
    """What could not be asked during the fault is another matter."""

    def unread(planted: Planted) -> None:
        planted.add("fail", "collect", "collector", 18.0, error="west-1.rankings is silent")

    assert "west-1.rankings is silent" in found_by(NAME, history(end=unread)).sentence
    assert found_by(NAME, history(during=unread)).verdict == "valid"


def test_a_ranking_that_lies_before_the_marker_of_its_term_is_found() -> None:
    """Markers stand everywhere, but one was written too late, or only where nobody had shown anything yet."""
    at = 5

    def with_rankings(*found: FirstRanking) -> str:
        def end(collected: list[Evidence]) -> list[Evidence]:
            return [
                msgspec.structs.replace(one, rankings=list(found))
                if isinstance(one, MarkersRead) and one.log == "west-1.rankings" and one.seen_in == "east"
                else one
                for one in collected
            ]

        def later(planted: Planted) -> None:
            planted.markers = [msgspec.structs.replace(one, offset=at) for one in planted.markers]

        said = found_by(NAME, history(end=later, evidence=end))
        return said.sentence if said.verdict == "invalid" else said.verdict

    assert with_rankings(FirstRanking(1, SECOND, at + 1)) == "valid"
    assert f"of east at {at - 1}, before its marker at {at}" in with_rankings(FirstRanking(1, SECOND, at - 1))
    assert "which has no marker of it" in with_rankings(FirstRanking(1, (0, 8), at + 1))
