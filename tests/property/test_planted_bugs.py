"""Bugs planted into a copy of the source, one at a time: the checks of the fold must catch every one of them.

A check that was never seen to fail proves nothing. Each patch names the text that it replaces, so a patch that no
longer fits fails too, instead of testing nothing.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROPERTIES = "tests/property/test_fold_properties.py"
INDEX = "tests/unit/streams/test_index.py"
SNAPSHOT = "tests/unit/streams/test_snapshot.py"
UNITS = "tests/unit/streams/test_fold.py"


@dataclass(frozen=True)
class Bug:
    """One patch, and the tests that must notice it."""

    name: str
    file: str
    good: str
    bad: str
    tests: str = PROPERTIES


BUGS = [
    Bug(
        "duplicates count towards the clock",
        "kernels/fold.py",
        "        if identities[p] == e:\n            return True",
        "        if identities[p] == e:\n            fill[N_IDENTITIES] += 1\n            return True",
    ),
    Bug(
        "a click revives a bucket that was forgotten",
        "kernels/fold.py",
        "served >= cut and served <= bucket and served != NO_BUCKET",
        "served <= bucket and served != NO_BUCKET",
    ),
    Bug(
        "a click on a ranking counts in its own bucket",
        "kernels/fold.py",
        "            if served == bucket:",
        "            if served <= bucket:",
    ),
    Bug(
        "ties in a history go by arrival",
        "kernels/fold.py",
        "if other < since or (other == since and nodes[cur, 0] < e):",
        "if other <= since:",
    ),
    Bug(
        "pairs stay when an entry leaves the history",
        "kernels/fold.py",
        "    if kind == np.uint64(CLICK):\n        _pairs_with(oldest,",
        "    if kind == np.uint64(99):\n        _pairs_with(oldest,",
    ),
    Bug("pairs cross sessions", "kernels/fold.py", "            and nodes[w, 2] == session\n", ""),
    Bug(
        "queries are told apart by case",
        "kernels/rows.py",
        "hash_bytes(query_raw, query_offsets[j], query_offsets[j + 1], 1)",
        "hash_bytes(query_raw, query_offsets[j], query_offsets[j + 1], 0)",
    ),
    Bug(
        "future events are held against the clock of the moment",
        "fold.py",
        "if cut is not None and bucket < cut:",
        "if cut is not None and (bucket < cut or bucket > cut + 2 * self.state.parameters.horizon_buckets):",
    ),
    Bug("late events are dropped, but nothing is forgotten", "fold.py", "del self.state.units[bucket]", "pass"),
    Bug(
        "the clock needs all its events in one bucket",
        "fold.py",
        "later += state.units[bucket].events",
        "later = state.units[bucket].events",
    ),
    Bug(
        "the last catalogue entry to arrive wins a tie",
        "fold.py",
        "if (known.time_ms, known.identity) >= (time_ms, identity):",
        "if known.time_ms > time_ms:",
    ),
    Bug(
        "a snapshot forgets the clock",
        "snapshot.py",
        "State(parameters, clock_bucket=manifest.clock_bucket,",
        "State(parameters, clock_bucket=None,",
        f"{PROPERTIES} {SNAPSHOT}",
    ),
    Bug(
        "a frozen state shares its tables with the fold",
        "snapshot_files.py",
        "entries=unit.entries[: unit.fill[N_COUNTERS]].copy()",
        "entries=unit.entries[: unit.fill[N_COUNTERS]]",
        SNAPSHOT,
    ),
    Bug(
        "a damaged file is taken",
        "snapshot.py",
        "if len(raw) != file.size_bytes or xxhash.xxh3_128_hexdigest(raw) != file.checksum:",
        "if len(raw) != file.size_bytes:",
        SNAPSHOT,
    ),
    Bug(
        "a gap is taken",
        "position.py",
        "offset < next_offset else Verdict.GAP",
        "offset < 0 else Verdict.ACCEPTED",
        UNITS,
    ),
    Bug(
        "the index forgets to forget",
        "index.py",
        "            self._add_unit(bucket, unit, -1.0)\n\n",
        "            pass\n\n",
        INDEX,
    ),
    Bug(
        "the index counts retracted pairs",
        "kernels/index_write.py",
        "times = 1.0 if changes[j, 0] & _ONE == _ONE else -1.0",
        "times = 1.0",
        INDEX,
    ),
    Bug(
        "reads see the future",
        "index.py",
        "sorted(b for b in self._waiting if b <= bucket)",
        "sorted(self._waiting)",
        INDEX,
    ),
    Bug("histories see the future", "kernels/tables.py", "if offset <= offset_max:", "if offset >= 0:", INDEX),
]


def run_checks(copy: Path, tests: str) -> "subprocess.CompletedProcess[str]":
    """Run tests against the copy, interpreted: compiling every patched copy would take most of the time."""
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "MERIDIAN_PROPERTY_RUNS": "24", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        *tests.split(),
    ]
    return subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the source and of the tests that judge it."""
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    shutil.copytree(ROOT / "streams", tmp_path / "streams", ignore=ignored)
    for name in (PROPERTIES, INDEX, SNAPSHOT, UNITS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tests" / "support").mkdir()
    for name in ("__init__.py", "oracle.py", "streams_of_events.py"):
        shutil.copy(ROOT / "tests" / "support" / name, tmp_path / "tests" / "support" / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_source_itself_passes(copy: Path) -> None:
    """Without a bug, the same checks on the same kind of copy find nothing."""
    done = run_checks(copy, f"{PROPERTIES} {INDEX} {SNAPSHOT} {UNITS}")
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_planted_bug_is_caught(bug: Bug, copy: Path) -> None:
    """The checks fail on the patched copy, and fail as checks do, not by breaking down."""
    path = copy / "streams" / bug.file
    source = path.read_text()
    assert source.count(bug.good) == 1, f"the patch does not fit {bug.file} any more"
    path.write_text(source.replace(bug.good, bug.bad))
    done = run_checks(copy, bug.tests)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-2000:]
    assert "AssertionError" in done.stdout or "Failed: DID NOT RAISE" in done.stdout, done.stdout[-3000:]
