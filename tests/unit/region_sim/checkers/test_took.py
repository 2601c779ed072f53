"""A fault that was refused, or did not take, proves nothing; so does one that never came."""

from __future__ import annotations

import msgspec
import pytest

from region_sim.spec import Kill
from region_sim.verdict import judge
from tests.support.judged import complaints, found_by
from tests.support.planted_history import Planted, history

NAME = "every-fault-took"


def test_faults_that_took_are_listed() -> None:
    """With whom they hit."""
    found = found_by(NAME, history())
    assert (found.verdict, "kill east" in found.sentence) == ("valid", True)


@pytest.mark.parametrize("error", ["refused: no clocks here", "2 processes live on"])
def test_a_fault_that_was_refused_or_did_not_take_is_unknown(error: str) -> None:
    """And its reason is the verdict's, whatever else was well."""

    def after(planted: Planted) -> None:
        began = planted.add("invoke", "fault", "nemesis", 15.2, region="west", note="clock")
        planted.add("fail", "fault", "nemesis", 15.3, call=began.index, region="west", note="clock", error=error)

    verdict = judge(history(after=after, faults=[Kill(), Kill(target="west")]))
    assert verdict.verdict == "unknown"
    assert error in verdict.sentence
    assert complaints(history(after=after, faults=[Kill(), Kill(target="west")])) == {NAME: "unknown"}


def test_a_refused_drill_is_unknown_and_says_why_first() -> None:
    """Nothing was begun but the refusal."""
    entries = [entry for entry in history() if entry.op in ("plan", "fault")]
    refused = [
        msgspec.structs.replace(entry, index=place, type="fail", error="refused: no root", evidence=None, call=1)
        if entry.type == "ok"
        else msgspec.structs.replace(entry, index=place)
        for place, entry in enumerate(entries)
    ]
    verdict = judge(refused)
    assert verdict.verdict == "unknown"
    assert "refused: no root" in verdict.sentence


def test_a_fault_that_never_came_or_of_which_nobody_tells_is_unknown() -> None:
    """Fewer than the drill's file says; or begun, and nothing more."""
    assert found_by(NAME, history(faults=[Kill(), Kill(target="west")])).verdict == "unknown"

    def open_end(planted: Planted) -> None:
        planted.add("invoke", "fault", "nemesis", 15.2, region="west", note="kill")

    assert found_by(NAME, history(after=open_end, faults=[Kill(), Kill(target="west")])).verdict == "unknown"


def test_a_fault_that_could_not_be_verified_is_unknown() -> None:
    """It may have been no fault at all."""
    entries = [
        msgspec.structs.replace(e, evidence=msgspec.structs.replace(e.evidence, verified=False))
        if e.op == "fault" and e.type == "ok" and e.evidence is not None
        else e
        for e in history()
    ]
    assert judge(entries).verdict == "unknown"
