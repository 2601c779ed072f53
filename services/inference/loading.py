"""From a folder on disk to a version that may serve: read, verify, open, prove, warm; any step can refuse.

The order is by price: sums before parsing, the golden set before the warm-up. All of it happens in a thread beside
the one that serves, on a session that nobody else has; the served version goes on meanwhile and stays if anything
is refused.
"""

import ctypes
import gc
from dataclasses import dataclass
from pathlib import Path

from services.inference.engine import Session
from services.inference.engine_options import EngineOptions
from services.inference.errors import ModelRefused, ModelRunFailed
from services.inference.golden import Buckets, prove
from services.inference.signature import filler
from services.inference.version_folder import read_version

SCORES_OUTPUT = "scores"


@dataclass(frozen=True, slots=True)
class ProvenVersion:
    """A version that passed every check."""

    model: str
    version: str
    sha256: str
    session: Session


def load(repository: Path, model: str, version: str, options: EngineOptions, buckets: Buckets) -> ProvenVersion:
    """Blocking. Raises ModelRefused (also DeviceRefused) with the reason and the next step."""
    folder = repository / model / version
    contents = read_version(folder)
    session = Session(contents.model_path, options)
    prove(session, contents.golden, buckets, SCORES_OUTPUT)
    warm(session, buckets)
    return ProvenVersion(model, version, contents.sha256, session)


def warm(session: Session, buckets: Buckets) -> None:
    """Run every shape that requests can have once, so that none of them pays for the first run."""
    for candidates in buckets.candidates if session.signature.has_candidates else (0,):
        for rows in buckets.rows:
            try:
                session.run(filler(session.signature, rows, candidates))
            except ModelRunFailed as problem:
                raise ModelRefused(
                    f"warm-up with {rows} rows of {candidates} candidates: {problem.cause}",
                    "Export it with open batch and candidate axes, or set smaller buckets",
                ) from problem


def give_memory_back() -> None:
    """Return what an unloaded session freed to the system: glibc keeps it otherwise, a little more with each reload."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another libc
        return
