"""Model versions and aliases at another place: any target that fsspec knows (a folder, an object store).

    objects/<sha256>   every file of every version, once, under the hash of its content
    registry.json      which files make up which version, what the numbers stand for, where the aliases point

An object is complete or not there under its name (written beside and renamed), and the index is written last, so a
backup that was cut short is the backup before it, plus objects that the next one need not send again. Nothing is
believed on the way back: whoever fetches checks the hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from models.errors import ModelError

INDEX: Final = "registry.json"
OBJECTS: Final = "objects"
FORMAT: Final = 1
_CHUNK_BYTES: Final = 1 << 20

_T = TypeVar("_T")


class BackupUnusable(ModelError):
    """The target cannot be reached, written or read. The message names it and the cause."""


class ObjectDamaged(BackupUnusable):
    """An object is missing or not what its name says."""


class Archive:
    """A target at an address of fsspec (`/backups/models`, `file:///...`, `s3://bucket/models`)."""

    def __init__(self, url: str) -> None:
        """Raise BackupUnusable for an address that nothing is known to reach."""
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError, OSError) as error:
            raise BackupUnusable(
                f"{url} cannot be used as a target: {error}. A path works as it is; others may need a package."
            ) from error
        self._url = url

    def read_index(self, shape: type[_T]) -> _T | None:
        """Return the index, None when there is none yet. Raises BackupUnusable."""
        path = f"{self._root}/{INDEX}"
        try:
            raw = self._try("read", lambda: self._files.cat_file(path))
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(raw, type=shape)
        except msgspec.DecodeError as error:
            raise BackupUnusable(f"{self._url}/{INDEX} is not the index of a backup ({error})") from error

    def write_index(self, index: msgspec.Struct) -> None:
        """Replace the index as a whole. Raises BackupUnusable."""
        content = msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n"
        self._put(INDEX, lambda sink: sink.write(content))

    def add(self, path: Path, sha256: str) -> bool:
        """Store a file under its hash, unless it is there in full size; returns whether it was sent.

        Raises BackupUnusable, ObjectDamaged when the file is not what `sha256` says.
        """
        with path.open("rb") as source:
            if hashlib.file_digest(source, "sha256").hexdigest() != sha256:
                raise ObjectDamaged(f"{path} changed while it was backed up: its sha256 is not {sha256[:12]}")
        if self._size(f"{OBJECTS}/{sha256}") == path.stat().st_size:
            return False

        def copy(sink: Any) -> None:
            with path.open("rb") as source:
                while chunk := source.read(_CHUNK_BYTES):
                    sink.write(chunk)

        self._put(f"{OBJECTS}/{sha256}", copy)
        return True

    def add_bytes(self, content: bytes) -> str:
        """Store bytes under their hash, which is returned. Raises BackupUnusable."""
        sha256 = hashlib.sha256(content).hexdigest()
        if self._size(f"{OBJECTS}/{sha256}") != len(content):
            self._put(f"{OBJECTS}/{sha256}", lambda sink: sink.write(content))
        return sha256

    def fetch(self, sha256: str, target: Path) -> None:
        """Write an object to a file. Raises ObjectDamaged, BackupUnusable, OSError when `target` cannot be written."""
        path = f"{self._root}/{OBJECTS}/{sha256}"
        found = hashlib.sha256()
        with target.open("wb") as sink:
            try:
                source = self._try("read", lambda: self._files.open(path, "rb"))
            except FileNotFoundError:
                raise ObjectDamaged(f"{self._url}/{OBJECTS}/{sha256} is missing from the backup") from None
            with source:
                while chunk := self._try("read", lambda: source.read(_CHUNK_BYTES)):
                    found.update(chunk)
                    sink.write(chunk)
        if found.hexdigest() != sha256:
            raise ObjectDamaged(
                f"{self._url}/{OBJECTS}/{sha256} has the sha256 {found.hexdigest()[:12]}: it is damaged, use another "
                "backup"
            )

    def _put(self, name: str, write: Callable[[Any], object]) -> None:
        path, beside = f"{self._root}/{name}", f"{self._root}/{name}.part"

        def put() -> None:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self._files.open(beside, "wb") as sink:
                write(sink)
            self._files.mv(beside, path)

        self._try("written", put)

    def _size(self, name: str) -> int:
        try:
            return int(self._try("read", lambda: self._files.size(f"{self._root}/{name}")))
        except FileNotFoundError:
            return -1

    def _try(self, done: str, work: Callable[[], Any]) -> Any:
        """Do something at the target. Raises FileNotFoundError, else BackupUnusable for whatever the target raises."""
        try:
            return work()
        except FileNotFoundError:
            raise
        except Exception as error:  # drivers raise errors of their own libraries
            raise BackupUnusable(f"{self._url} cannot be {done}: {str(error) or type(error).__name__}") from error
