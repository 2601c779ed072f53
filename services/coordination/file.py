"""The coordination store of a single region: one JSON file, shared by its processes.

A lock file (flock) makes each read-compare-write one step among processes; the new content is written beside the old,
synced and renamed over it, so a crash at any moment leaves either the old or the new. It is read anew for each
operation: the file is a few kilobytes and the region's processes write it a few times a second at most.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from services.coordination.base import StoreDamaged, StoreUnavailable, Versioned
from services.coordination.memory import Table

_T = TypeVar("_T")


class _Entry(msgspec.Struct, frozen=True):
    value: str
    create_revision: int
    revision: int


class _Content(msgspec.Struct, frozen=True):
    revision: int
    entries: dict[str, _Entry]


class FileStore:
    """A coordination store in the file at `path`, which is made when the first key is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")

    async def get(self, key: str) -> Versioned | None:
        """See KeyValueStore."""
        return (await asyncio.to_thread(self._read)).entries.get(key)

    async def list(self, prefix: str) -> list[Versioned]:
        """See KeyValueStore."""
        return (await asyncio.to_thread(self._read)).list(prefix)

    async def compare_and_put(self, key: str, value: bytes, expected_revision: int) -> Versioned:
        """See KeyValueStore."""
        return await asyncio.to_thread(self._change, lambda table: table.put(key, value, expected_revision))

    async def compare_and_delete(self, key: str, expected_revision: int) -> None:
        """See KeyValueStore."""
        await asyncio.to_thread(self._change, lambda table: table.delete(key, expected_revision))

    def _change(self, change: Callable[[Table], _T]) -> _T:
        with self._locked():
            table = self._read()
            outcome = change(table)
            self._write(table)
        return outcome

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"cannot lock {self._lock_path}: {error.strerror}. Is the disk full?") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self) -> Table:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return Table()
        except OSError as error:
            raise StoreUnavailable(f"cannot read {self._path}: {error.strerror}") from error
        try:
            content = msgspec.json.decode(raw, type=_Content)
        except msgspec.DecodeError as error:
            raise StoreDamaged(
                f"{self._path} is not a coordination file ({error}). It is only ever replaced as a whole, so something "
                "else wrote to it: restore it from a backup. Deleting it makes the region forget what it acknowledged."
            ) from error
        entries = {
            key: Versioned(key, entry.value.encode("latin-1"), entry.create_revision, entry.revision)
            for key, entry in content.entries.items()
        }
        return Table(content.revision, entries)

    def _write(self, table: Table) -> None:
        content = _Content(
            revision=table.revision,
            entries={
                key: _Entry(entry.value.decode("latin-1"), entry.create_revision, entry.revision)
                for key, entry in sorted(table.entries.items())
            },
        )
        beside = self._path.with_name(self._path.name + ".new")
        try:
            with beside.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(content), indent=1))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            # The rename itself must survive a power loss: that is what acknowledged ends are kept for.
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreUnavailable(f"cannot write {self._path}: {error.strerror}. Is the disk full?") from error
