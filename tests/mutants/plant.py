"""Mutants: known bugs as patches, each planted into a copy of the tree. Nothing of them is in shipped code.

A patch begins with lines `Key: value`: what the bug is (`What`), which rule it breaks (`Breaks`), how it is looked for
(`Vehicle`), within how many seeds it must be found (`Seeds`), who must find it (`Caught-by`), and, where that needs
saying, why in this way (`Note`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
MUTANTS: Final = Path(__file__).parent
COPIED: Final = ("streams", "models", "services", "infra", "region_sim", "tests")
FILES: Final = ("pyproject.toml",)
KEYS: Final = ("What", "Breaks", "Vehicle", "Seeds", "Caught-by")
OPTIONAL_KEYS: Final = ("Note",)


class MutantError(Exception):
    """A patch that says too little, or does not fit the tree any more."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug."""

    name: str
    path: Path
    what: str
    breaks: str
    vehicle: tuple[str, ...]
    """`campaign`; `drill FILE`, run in memory; `tests PATH ...`."""
    seeds: int
    """It must be found within so many."""
    caught_by: str
    """A checker's name, or for tests the exception by which they fail."""

    @property
    def targets(self) -> list[str]:
        """The files that it changes."""
        return [line[6:] for line in self.path.read_text().splitlines() if line.startswith("+++ b/")]


def known_mutants() -> list[Mutant]:
    """Every patch beside this file. Raises MutantError."""
    return [read_mutant(path) for path in sorted(MUTANTS.glob("*.patch"))]


def read_mutant(path: Path) -> Mutant:
    """The header of a patch. Raises MutantError."""
    found: dict[str, str] = {}
    key = ""
    for line in path.read_text().partition("diff --git")[0].splitlines():
        name, colon, value = line.partition(": ")
        if colon and name in (*KEYS, *OPTIONAL_KEYS):
            key = name
            found[key] = value.strip()
        elif line.strip() and key:
            found[key] += " " + line.strip()
    missing = [name for name in KEYS if not found.get(name)]
    if missing or not found["Seeds"].isdigit():
        raise MutantError(
            f"{path.name} must begin with lines {', '.join(KEYS)}; wrong or missing: {missing or 'Seeds'}"
        )
    return Mutant(
        name=path.stem,
        path=path,
        what=found["What"],
        breaks=found["Breaks"],
        vehicle=tuple(found["Vehicle"].split()),
        seeds=int(found["Seeds"]),
        caught_by=found["Caught-by"],
    )


def copy_tree(place: Path) -> None:
    """Copy what runs, with times and compiled kernels, so that only what a patch touches is compiled again."""
    for name in COPIED:
        ignored = shutil.ignore_patterns("*.patch", ".hypothesis", *([] if name == "streams" else ["__pycache__"]))
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for name in FILES:
        shutil.copy2(ROOT / name, place / name)
    kernels = place / "streams" / "kernels"
    for compiled in kernels.glob("__pycache__/kernels-*/kernels_*"):
        # numba names the folder of its machine code after the folder of the source.
        wanted = compiled.with_name(f"kernels_{hashlib.sha1(str(kernels.resolve()).encode()).hexdigest()}")
        if not wanted.exists():
            compiled.rename(wanted)


def plant(mutant: Mutant, place: Path) -> None:
    """Apply the patch to a copy. Raises MutantError when it does not fit."""
    _apply(mutant, place, ())


def uproot(mutant: Mutant, place: Path) -> None:
    """Take it out again. Raises MutantError."""
    _apply(mutant, place, ("--reverse",))


def _apply(mutant: Mutant, place: Path, options: tuple[str, ...]) -> None:
    # Git looks for a repository above the copy, and would leave out what lies outside of that one's work tree.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(place.parent), "GIT_DIR": str(place / "none")}
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", *options, str(mutant.path)],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise MutantError(f"{mutant.path.name} does not fit the tree any more: {done.stderr.strip()}")


def run_python(place: Path, *words: str, seconds_max: float) -> subprocess.CompletedProcess[str]:
    """Run this Python on the copy: its packages come before the installed ones. Raises subprocess.TimeoutExpired."""
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds_max,
    )
