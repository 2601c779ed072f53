"""Putting a version into a repository: all of it, or nothing.

A version is filled beside its place, in a folder that no reader takes for a version, synced, and renamed. Whoever is
killed on the way leaves that folder, and the next one to come removes it; a full disk leaves nothing at all. One lock
a model keeps two from filling at once.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from models.registry import CONFIG_FILE

_HALF: Final = ".placing"
_LOCK: Final = ".placing.lock"


@contextmanager
def placing(repository: Path, model: str, version: str) -> Iterator[Path]:
    """Yield an empty folder, named by the number, to be filled; it takes its place when the block ends well.

    Raises FileExistsError when the number is there already, OSError (no space, no permission); then, and when the block
    raises, the repository is as it was.
    """
    place = repository / model
    place.mkdir(parents=True, exist_ok=True)
    with _locked(place / _LOCK):
        shutil.rmtree(place / _HALF, ignore_errors=True)  # of one that was killed
        if (place / version).exists():
            raise FileExistsError(f"{place / version} exists already")
        half = place / _HALF / version
        try:
            half.mkdir(parents=True)
            yield half
            for file in half.iterdir():
                _sync(file)
            _sync(half)
            half.rename(place / version)
            _sync(place)
        finally:
            shutil.rmtree(place / _HALF, ignore_errors=True)


def write_config(repository: Path, model: str, config: bytes) -> None:
    """Give a model that is new in a repository its `config.pbtxt`; one that is there stays."""
    path = repository / model / CONFIG_FILE
    if path.exists():
        return
    beside = path.with_name(f".{CONFIG_FILE}.{os.getpid()}")
    try:
        beside.write_bytes(config)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
