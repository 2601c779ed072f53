"""Looking for a planted bug with the vehicle that its patch names: a campaign, one drill in memory, or tests.

Found means that the verdict is *invalid* by a checker that the patch names. A drill that breaks, or whose verdict is
unknown, found nothing: the bug would have gone on.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.mutants.plant import Mutant, MutantError, copy_tree, plant, run_python

SECONDS_MAX: Final = 1800.0
ORIGINAL: Final = "the tree as it is"


@dataclass(frozen=True, slots=True)
class Found:
    """What one hunt came to."""

    name: str
    caught: bool
    by: str = ""
    seed: int | None = None
    seeds_max: int = 0
    seconds: float = 0.0
    note: str = ""
    """Why it was not caught; of the tree as it is, why it did not pass."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a vehicle saw: nothing wrong (`by` empty), or who found what, at which seed; `broken`: no verdict."""

    by: str = ""
    seed: int | None = None
    sentence: str = ""
    broken: str = ""


def hunt(mutant: Mutant) -> Found:
    """Plant a bug into a copy of its own and look for it. Raises MutantError."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        place = Path(directory)
        copy_tree(place)
        plant(mutant, place)
        seen = look(place, mutant.vehicle, mutant.seeds)
    caught = judged(seen, mutant.caught_by)
    return Found(
        name=mutant.name,
        caught=caught,
        by=seen.by,
        seed=seen.seed,
        seeds_max=mutant.seeds,
        seconds=round(time.monotonic() - began, 1),
        note="" if caught else seen.broken or seen.sentence or f"nothing was noticed within {mutant.seeds} seeds",
    )


def judged(seen: Seen, caught_by: str) -> bool:
    """Whether it was one of the checkers that must notice; several are parted by `|`."""
    return bool(seen.by) and seen.by in {name.strip() for name in caught_by.split("|")}


def spare(vehicle: tuple[str, ...], seeds: int) -> Found:
    """Drive a vehicle over an unchanged copy: it must notice nothing. Raises MutantError."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="original-") as directory:
        place = Path(directory)
        copy_tree(place)
        seen = look(place, vehicle, seeds)
    return Found(
        name=f"{ORIGINAL}: {' '.join(vehicle)}",
        caught=not seen.by and not seen.broken,
        by=seen.by,
        seed=seen.seed,
        seeds_max=seeds,
        seconds=round(time.monotonic() - began, 1),
        note=seen.broken or seen.sentence,
    )


def look(place: Path, vehicle: tuple[str, ...], seeds: int) -> Seen:
    """Drive a vehicle over a copy. Raises MutantError for one that does not exist."""
    drivers: dict[str, Callable[[], Seen]] = {
        "campaign": lambda: _campaign(place, seeds),
        "drill": lambda: _drill(place, vehicle[1], seeds),
        "tests": lambda: _tests(place, vehicle[1:]),
    }
    if vehicle[0] not in drivers or (vehicle[0] != "campaign" and len(vehicle) < 2):
        raise MutantError(f"Vehicle {' '.join(vehicle)!r}: write campaign, drill FILE, or tests PATH ...")
    try:
        return drivers[vehicle[0]]()
    except subprocess.TimeoutExpired:
        return Seen(broken=f"it took more than {SECONDS_MAX:g} s")


def _campaign(place: Path, seeds: int) -> Seen:
    out = place / "campaign"
    words = ["campaign", "--backend", "memory", "--seeds", str(seeds), "--workers", "1"]
    words += ["--stop-after", "1", "--shrink", "0", "--json", "--out", str(out)]
    done = run_python(place, "-m", "region_sim", *words, seconds_max=SECONDS_MAX)
    try:
        failed = json.loads(done.stdout)["failed"]
    except (json.JSONDecodeError, KeyError):
        return Seen(broken=_tail(done))
    return first_invalid(failed)


def first_invalid(failed: list[dict[str, Any]]) -> Seen:
    """What a campaign's seeds that are not valid come to."""
    for found in failed:
        if found["verdict"] == "invalid":
            return Seen(found["check"], found["seed"], found["sentence"])
    if failed:
        return Seen(seed=failed[0]["seed"], broken=f"seed {failed[0]['seed']} is unknown: {failed[0]['sentence']}")
    return Seen()


def _drill(place: Path, file: str, seeds: int) -> Seen:
    unknown = ""
    for seed in range(1, seeds + 1):
        words = ["run", file, "--backend", "memory", "--seed", str(seed), "--out", str(place / "out"), "--json"]
        done = run_python(place, "-m", "region_sim", *words, seconds_max=SECONDS_MAX)
        try:
            verdict = json.loads(done.stdout)
        except json.JSONDecodeError:
            return Seen(broken=_tail(done))
        if verdict["verdict"] == "invalid":
            check = next(check for check in verdict["checks"] if check["verdict"] == "invalid")
            return Seen(check["check"], seed, check["sentence"])
        if verdict["verdict"] == "unknown":
            unknown = unknown or f"seed {seed} is unknown: {verdict['sentence']}"
    return Seen(broken=unknown)


def _tests(place: Path, paths: tuple[str, ...]) -> Seen:
    done = run_python(place, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *paths, seconds_max=SECONDS_MAX)
    if done.returncode == 0:
        return Seen()
    if done.returncode == 1 and ("AssertionError" in done.stdout or "DID NOT RAISE" in done.stdout):
        line = next((line for line in done.stdout.splitlines() if line.startswith("E   ")), "")
        return Seen("AssertionError", 1, line[4:].strip())
    return Seen(broken=_tail(done))


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    return f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}"
