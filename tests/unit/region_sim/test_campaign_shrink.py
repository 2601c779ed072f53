"""Making a failing drill smaller: only what still fails is kept, and there is a bound on the tries."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from region_sim.campaign.generate import generate
from region_sim.campaign.memory import fails_alike
from region_sim.campaign.seeds import SeedResult, kind_of_violation
from region_sim.campaign.shrink import shrink, write_drill
from region_sim.spec import Drill, Partition, kind_of, load_drill


def needs(*kinds: str):  # noqa: ANN201 - a predicate
    """Fails as long as all of these are there."""

    def still_fails(drill: Drill) -> bool:
        return set(kinds) <= {kind_of(fault) for fault in drill.faults}

    return still_fails


@pytest.mark.parametrize("seed", range(8))
def test_one_fault_is_left_when_one_is_to_blame(seed: int) -> None:
    """Whichever it is."""
    drill = generate(seed)
    for kind in {kind_of(fault) for fault in drill.faults}:
        smallest = shrink(drill, needs(kind))
        assert [kind_of(fault) for fault in smallest.faults] == [kind]
        assert smallest.faults[0].at_seconds == 0
        assert smallest.load.events_per_second <= 0.5 or smallest.load.events_per_second < drill.load.events_per_second


def test_two_faults_are_left_when_two_are_to_blame() -> None:
    """They need not stand side by side."""
    drill = next(d for d in map(generate, range(100)) if {"clock", "link"} <= {kind_of(f) for f in d.faults})
    assert sorted(kind_of(fault) for fault in shrink(drill, needs("clock", "link")).faults) == ["clock", "link"]


def test_what_must_last_is_not_shortened() -> None:
    """A fault that is needed for twenty seconds is left with at least twenty."""
    drill = next(d for d in map(generate, range(100)) if any(isinstance(f, Partition) for f in d.faults))

    def still_fails(smaller: Drill) -> bool:
        return any((fault.for_seconds or 0) >= 5 for fault in smaller.faults)

    smallest = shrink(drill, still_fails)
    assert len(smallest.faults) == 1
    assert 5 <= (smallest.faults[0].for_seconds or 0) < 10


def test_tries_are_bounded_and_nothing_is_invented() -> None:
    """A drill that fails no more is given back as it was."""
    tries: list[Drill] = []

    def never(drill: Drill) -> bool:
        tries.append(drill)
        return False

    drill = generate(1)
    assert shrink(drill, never, tries_max=10) == drill
    assert len(tries) == 10


def test_the_file_and_the_command(tmp_path: Path) -> None:
    """Somebody else can run exactly this."""
    drill = generate(3)
    path, command = write_drill(drill, 3, tmp_path / "new")
    assert load_drill(str(path)) == drill
    assert command == f"region-sim run {path} --backend memory --seed 3"


def failed(sentence: str, **changes: object) -> SeedResult:
    """What a seed came to that a checker of receipts did not like."""
    violation = kind_of_violation(sentence, ["east", "west"])
    plain = SeedResult(seed=1, verdict="invalid", check="the receipt is honest", sentence=sentence, violation=violation)
    return msgspec.structs.replace(plain, **changes)


def test_another_complaint_of_the_same_checker_is_another_failure() -> None:
    """A smaller drill must break in the same way; in which region, how often and under which id does not matter."""
    first = failed("receipt east-1-0-31: cut east ended the life that it is about, but it is healed")
    assert fails_alike(first, failed("receipt west-2-0-7: cut west ended the life that it is about, but it is healed"))
    assert not fails_alike(first, failed("receipt east-1-0-31: everything has healed, but it is still open"))
    assert not fails_alike(first, failed(first.sentence, check="another"))
    assert not fails_alike(first, failed(first.sentence, verdict="unknown"))
    lost = failed("it leaves out 'e17' at east-1.events/0/17, acknowledged before the last contact")
    assert fails_alike(lost, failed("it leaves out 'x y' at west-1.events/3/1, acknowledged before the last contact"))
