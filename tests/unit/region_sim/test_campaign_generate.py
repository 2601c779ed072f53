"""Drills drawn from a seed: always the same, never hopeless, and readable as drill files."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from region_sim.campaign.generate import FAULTS_MIN, TAKEN_SECONDS, TAKING_MIN, as_toml, generate
from region_sim.spec import (
    Cut,
    Drill,
    Fault,
    Kill,
    OperatorPause,
    Partition,
    Pause,
    StoreFault,
    TopicLoss,
    Wipe,
    kind_of,
    load_drill,
)

SEEDS = range(200)


def takes_active(fault: Fault) -> bool:
    """Whether the region that is active loses its lease by it."""
    if fault.target != "active" or (fault.for_seconds or 0) < TAKEN_SECONDS[0] - 0.01:
        return False
    if isinstance(fault, Kill | Pause):
        return not fault.processes
    return isinstance(fault, Wipe | Partition) or (isinstance(fault, Cut) and fault.whole_site)


@pytest.fixture(scope="module")
def drills() -> list[Drill]:
    """Many of them."""
    return [generate(seed) for seed in SEEDS]


def test_there_is_enough_in_each(drills: list[Drill]) -> None:
    """Eight faults, two of them take the active region, three minutes, three hundred events."""
    for drill in drills:
        assert len(drill.faults) >= FAULTS_MIN == 8
        assert sum(takes_active(fault) for fault in drill.faults) >= TAKING_MIN == 2
        phases = drill.phases
        under_load = phases.warm_up_seconds + phases.steady_seconds + phases.after_seconds
        under_load += max(fault.at_seconds for fault in drill.faults) + phases.fault_seconds
        assert under_load >= 180
        assert under_load * (drill.load.events_per_second + drill.load.searches_per_second) >= 300


def test_seeds_are_different_and_mix_differently(drills: list[Drill]) -> None:
    """All kinds occur somewhere, and no drill has them all."""
    kinds = [{kind_of(fault) for fault in drill.faults} for drill in drills]
    assert len(set.union(*kinds)) == 15
    assert all(len(found) < 15 for found in kinds)
    assert len({as_toml(drill).partition("\n\n")[2] for drill in drills}) == len(drills)


def test_nothing_is_broken_at_the_end(drills: list[Drill]) -> None:
    """Every fault that can be healed is healed before liveness is judged."""
    for drill in drills:
        last = max(fault.at_seconds for fault in drill.faults)
        for fault in drill.faults:
            assert fault.at_seconds + (fault.for_seconds or 0) <= last + drill.phases.fault_seconds


def test_data_is_never_destroyed_twice_at_once(drills: list[Drill]) -> None:
    """Between two losses of data lies the time in which copies are made whole."""
    for drill in drills:
        losses = [fault for fault in drill.faults if isinstance(fault, Wipe | Cut | TopicLoss)]
        for before, after in pairwise(losses):
            assert after.at_seconds - (before.at_seconds + (before.for_seconds or 0)) >= 17.9


def test_etcd_never_does_what_no_holder_can_survive(drills: list[Drill]) -> None:
    """The wrong revocation ends a lease that its holder has every reason to trust."""
    assert all(
        fault.how != "stale-revocation" for drill in drills for fault in drill.faults if isinstance(fault, StoreFault)
    )


def test_nobody_pauses_while_a_takeover_is_due(drills: list[Drill]) -> None:
    """A pause forbids the very takeover that is waited for."""
    for drill in drills:
        takings = [fault for fault in drill.faults if takes_active(fault)]
        for hold in (fault for fault in drill.faults if isinstance(fault, OperatorPause)):
            ends = hold.at_seconds + (hold.for_seconds or 0)
            assert all(
                ends <= taking.at_seconds or hold.at_seconds >= taking.at_seconds + (taking.for_seconds or 0)
                for taking in takings
            )


def test_it_reads_back_from_its_file(tmp_path: Path, drills: list[Drill]) -> None:
    """What is written is a drill file like any other."""
    path = tmp_path / "drawn.toml"
    for drill in drills[:50]:
        path.write_text(as_toml(drill), encoding="utf-8")
        assert load_drill(str(path)) == drill


def test_the_same_in_every_process() -> None:
    """Neither the process nor the seed of hashes has a say."""
    program = "from region_sim.campaign.generate import *; print(hash(''), as_toml(generate(7)))"
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.partition(" ")[2]
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1] == as_toml(generate(7)) + "\n"
