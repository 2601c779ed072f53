"""Every mutant still fits the tree and still changes what the code does; the hunt itself tells found from not found.

Whether the checkers find them is the long run: `make mutants`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.hunt import Seen, first_invalid, judged
from tests.mutants.plant import ROOT, Mutant, MutantError, copy_tree, known_mutants, plant, read_mutant, uproot
from tests.mutants.probes import PROBES

REQUIRED = {
    "deadline-from-reply",
    "fold-counts-duplicate",
    "fold-depends-on-order",
    "lock-by-name",
    "no-same-life-check",
    "no-self-fence",
    "no-sink-fence",
    "promotion-without-marker",
    "receipt-omits-range",
    "replicator-skips-gap",
    "wall-clock",
}
HEADER = "What: a\nBreaks: b\nVehicle: campaign\nSeeds: 3\nCaught-by: c\n"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy of the tree, into which mutants are planted one after the other."""
    place = tmp_path_factory.mktemp("mutants") / "tree"
    copy_tree(place)
    return place


@pytest.fixture(scope="module")
def before(copy: Path) -> dict[str, str]:
    """What the tree as it is answers to all probes."""
    return ask(copy, *PROBES)


def ask(place: Path, *names: str) -> dict[str, str]:
    """The answers of a tree to the probes of mutants."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutants.probes", *names],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place), "NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_no_mutant_is_forgotten() -> None:
    """What the project promises to look for, each with a probe."""
    names = {mutant.name for mutant in known_mutants()}
    assert names >= REQUIRED
    assert names == set(PROBES)


@pytest.mark.parametrize("mutant", known_mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_fits_and_changes_what_the_code_does(mutant: Mutant, copy: Path, before: dict[str, str]) -> None:
    """Two trees, one question, two answers. And the patch can be taken out again: it is all that differs."""
    plant(mutant, copy)
    try:
        assert ask(copy, mutant.name)[mutant.name] != before[mutant.name]
    finally:
        uproot(mutant, copy)
    assert all((copy / target).read_text() == (ROOT / target).read_text() for target in mutant.targets)


def test_a_patch_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    """Instead of a hunt for nothing."""
    place = tmp_path / "tree"
    (place / "services").mkdir(parents=True)
    (place / "services" / "a.py").write_text("one\n")
    path = tmp_path / "stale.patch"
    path.write_text(
        HEADER + "\ndiff --git a/services/a.py b/services/a.py\n--- a/services/a.py\n+++ b/services/a.py\n"
        "@@ -1 +1 @@\n-two\n+three\n"
    )
    with pytest.raises(MutantError, match="does not fit"):
        plant(read_mutant(path), place)


@pytest.mark.parametrize("key", ["What", "Breaks", "Vehicle", "Seeds", "Caught-by"])
def test_a_patch_says_what_it_is(tmp_path: Path, key: str) -> None:
    """And within how many seeds whom must notice."""
    path = tmp_path / "silent.patch"
    path.write_text("".join(line + "\n" for line in HEADER.splitlines() if not line.startswith(key)))
    with pytest.raises(MutantError, match=key):
        read_mutant(path)


@pytest.mark.parametrize(
    ("seen", "is_caught"),
    [
        (Seen("no stale answer is accepted", 4), True),
        (Seen("one holder an epoch", 4), True),
        (Seen("every event counts once", 4), False),
        (Seen(), False),
        (Seen(broken="seed 1 is unknown"), False),
    ],
)
def test_only_a_checker_that_is_named_catches(seen: Seen, *, is_caught: bool) -> None:
    """A verdict by another one, none at all, and a drill that broke are no catch."""
    assert judged(seen, "no stale answer is accepted | one holder an epoch") is is_caught


def test_an_unknown_seed_is_no_catch() -> None:
    """And it does not hide an invalid one after it."""
    unknown = {"seed": 1, "verdict": "unknown", "check": "the drill broke", "sentence": "s"}
    invalid = {"seed": 2, "verdict": "invalid", "check": "c", "sentence": "t"}
    assert first_invalid([unknown, invalid]) == Seen("c", 2, "t")
    assert first_invalid([unknown]).by == ""
    assert first_invalid([unknown]).broken
    assert first_invalid([]) == Seen()
