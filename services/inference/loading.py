"""From a folder on disk to a version that may serve: read, verify, open, prove, warm; any step can refuse.

The order is by price: sums before parsing, the golden set before the warm-up. All of it happens in a thread beside
the one that serves, on a session that nobody else has; the served version goes on meanwhile and stays if anything
is refused.
"""

import ctypes
import gc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from models.errors import ModelError
from models.registry import MANIFEST_FILE, ModelVersion, load_version, unlisted_files
from services.inference.batch_queue import Pace
from services.inference.engine import Session
from services.inference.engine_options import EngineOptions
from services.inference.errors import ModelRefused, ModelRunFailed
from services.inference.golden import NEVER_EDIT, prove
from services.inference.signature import Buckets, filler

SCORES_OUTPUT = "scores"
RUNS_PER_SHAPE = 3
LONG_RUN_SECONDS = 0.1
"""A run of this length is not repeated: what a first run costs beside it does not show."""
RUN_OVERHEAD_SECONDS = 0.0002
"""What a run costs beside the model: two thread switches, stacking, cutting."""
GAIN_MIN = 0.05
_BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error)

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class ProvenVersion:
    """A version that passed every check."""

    sha256: str
    session: Session
    paces: dict[int, Pace]
    golden_rows: int = 0


def load(
    folder: Path,
    options: EngineOptions,
    buckets: Buckets,
    now_seconds: Callable[[], float],
    *,
    sha256: str = "",
    check_signature: Callable[[Path], None] = lambda _: None,
) -> ProvenVersion:
    """Blocking. `sha256`: the content that the caller wants under this number, if it knows.

    Raises ModelRefused (also DeviceRefused) with the reason and the next step.
    """
    proven = _prove(folder, options, buckets, now_seconds, sha256, check_signature)
    give_memory_back()
    return proven


def _prove(
    folder: Path,
    options: EngineOptions,
    buckets: Buckets,
    now_seconds: Callable[[], float],
    sha256: str,
    check_signature: Callable[[Path], None],
) -> ProvenVersion:
    contents = read(folder)
    if sha256 and contents.sha256 != sha256:
        raise ModelRefused(
            f"version folder {folder} holds the content {contents.sha256[:12]}, not {sha256[:12]} as it is registered",
            "Remove the folder: the right version is fetched from a region that has it",
        )
    check_signature(folder)
    session = Session(contents.model_path, options)
    prove(session, contents.golden, buckets, SCORES_OUTPUT)
    paces = warm(session, buckets, now_seconds)
    return ProvenVersion(contents.sha256, session, paces, len(contents.golden.scores))


def read(folder: Path) -> ModelVersion:
    """The folder's contents, when all sums are right and it holds nothing else. Raises ModelRefused."""
    try:
        contents = load_version(folder)
        unlisted = unlisted_files(folder)
    except (ModelError, OSError, EOFError, *_BROKEN_ARCHIVE, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelRefused(f"version folder {folder}: {error}", NEVER_EDIT) from error
    if unlisted:  # ONNX keeps large weights in files beside the model
        raise ModelRefused(f"{folder / unlisted[0]} is not named in {MANIFEST_FILE}", NEVER_EDIT)
    return contents


def warm(session: Session, buckets: Buckets, now_seconds: Callable[[], float]) -> dict[int, Pace]:
    """Run every bucket's shape, so that no request pays for a first run, and measure how far batching pays.

    On a GPU a run of 32 rows takes little longer than one of 1; on a CPU it takes up to 32 times as long, and a batch
    only makes its requests wait for each other. So for each candidate bucket the batch grows only as far as it makes a
    row cheaper by `GAIN_MIN`.
    """
    paces: dict[int, Pace] = {}
    for candidates in buckets.candidates if session.signature.has_candidates else (0,):
        took: dict[int, float] = {}
        for rows in buckets.rows:
            inputs = filler(session.signature, rows, candidates)
            took[rows] = _timed_run(session, inputs, now_seconds)
            if took[rows] < LONG_RUN_SECONDS:
                again = [_timed_run(session, inputs, now_seconds) for _ in range(RUNS_PER_SHAPE - 1)]
                took[rows] = min(again)
        paces[candidates] = pace_from(took)
    return paces


def pace_from(took: dict[int, float]) -> Pace:
    """The batch that pays, from what runs of each number of rows took (seconds, ascending rows)."""
    best = float("inf")
    chosen = next(iter(took))
    for rows, seconds in took.items():
        per_row = (seconds + RUN_OVERHEAD_SECONDS) / rows
        if per_row <= best * (1 - GAIN_MIN):
            best, chosen = per_row, rows
    return Pace(chosen, took[chosen])


def _timed_run(session: Session, inputs: dict[str, Array], now_seconds: Callable[[], float]) -> float:
    started = now_seconds()
    try:
        session.run(inputs)
    except ModelRunFailed as problem:
        shapes = {name: list(array.shape) for name, array in inputs.items()}
        raise ModelRefused(
            f"warm-up with {shapes}: {problem.cause}",
            "Export it with open batch and candidate axes, or set smaller buckets",
        ) from problem
    return now_seconds() - started


def give_memory_back() -> None:
    """Return what an unloaded session freed to the system: glibc keeps it otherwise, a little more with each reload."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another libc
        return
