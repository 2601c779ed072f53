"""One seed gives one history: in every process, under every hash seed, with any number of workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from region_sim.campaign.seeds import results, run_seed

ROOT = Path(__file__).parents[4]
SEEDS = range(4, 6)
PROGRAM = "from region_sim.campaign.seeds import run_seed; print(*(run_seed(seed).digest for seed in range(4, 6)))"


def digests_elsewhere(hash_seed: str) -> list[str]:
    """What another process says."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.timeout(300)
def test_the_history_is_a_function_of_the_seed() -> None:
    """Nothing of a process, of its hashes, of what ran before in it or beside it, has a say."""
    here = [run_seed(seed) for seed in SEEDS]
    said = [result.digest for result in here]
    assert all(said)
    assert said[0] != said[1]
    assert digests_elsewhere("1") == said
    assert digests_elsewhere("2") == said
    with results(SEEDS, 2) as coming:
        assert list(coming) == here
