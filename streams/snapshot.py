"""State, frontier and digest on disk, written so that a crash at any moment leaves an older snapshot whole.

    directory/
      snapshot-000000000007.json   which files make up the state, with their checksums; the frontier; the digest
      units/unit-78703-….arrow     one bucket; shared by all snapshots in which it did not change
      units/catalogue-….arrow

A snapshot exists from the moment its manifest is renamed into place; what it names was written, synced and renamed
before. The last two are kept. Opening one checks every byte, and the digest of what was read: a corrupt or torn one
is set aside with a reason, and the older one is taken; with none left, the log is replayed from zero. A snapshot of
another fold version or other parameters is refused, because its state would never equal anybody else's.

`freeze` copies what changed since the last snapshot (tens of milliseconds for a million events), on the thread that
folds; `write` does all input and output, and is meant for another thread.
"""

import logging
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

import fsspec
import msgspec
import pyarrow as pa
import xxhash

from streams.digest import digest
from streams.errors import StreamError
from streams.snapshot_files import (
    FrozenUnit,
    catalogue_name,
    decode_catalogue,
    decode_unit,
    encode_catalogue,
    encode_unit,
    freeze_unit,
    unit_name,
)
from streams.state import FOLD_VERSION, CatalogueEntry, Parameters, PartitionPoint, State, Tally

SCHEMA_VERSION: Final = 1
KEPT: Final = 2
_UNITS: Final = "units"
_MANIFEST: Final = re.compile(r"snapshot-(\d{12})\.json")

log = logging.getLogger(__name__)


class SnapshotUnusable(StreamError):
    """This snapshot cannot be taken; an older one may do, and so does a replay from zero."""


class StoredFile(msgspec.Struct, frozen=True):
    """One file of a snapshot."""

    name: str
    size_bytes: int
    checksum: str
    bucket: int | None
    """None for the catalogue."""


class Manifest(msgspec.Struct, frozen=True):
    """What a snapshot is made of."""

    schema_version: int
    fold_version: int
    parameters: Parameters
    digest: str
    clock_bucket: int | None
    points: list[tuple[str, int, PartitionPoint]]
    tally: Tally
    files: list[StoredFile]


class Frozen(msgspec.Struct, frozen=True):
    """A state as it stood, with copies of what `write` has to write."""

    parameters: Parameters
    digest: str
    clock_bucket: int | None
    points: dict[tuple[str, int], PartitionPoint]
    tally: Tally
    names: dict[str, int | None]
    """All files that make up the state, with their bucket."""
    units: list[FrozenUnit]
    catalogue: dict[int, CatalogueEntry] | None
    """None when its file is there already."""


def stored(directory: Path | str) -> frozenset[str]:
    """The files that the newest snapshot names and that are there: `freeze` need not copy what is in them."""
    root = Path(directory)
    for path in _manifests(root):
        try:
            return frozenset(file.name for file in _read_manifest(path).files if _has_size(root, file))
        except SnapshotUnusable:
            continue
    return frozenset()


def freeze(state: State, already: Collection[str] = ()) -> Frozen:
    """Copy a state for `write`, leaving out the units and the catalogue whose files are `already` stored."""
    names: dict[str, int | None] = {unit_name(b, unit): b for b, unit in state.units.items()}
    catalogue = catalogue_name(state)
    units = [freeze_unit(n, state.units[b]) for n, b in names.items() if n not in already and b is not None]
    return Frozen(
        parameters=state.parameters,
        digest=digest(state).hex(),
        clock_bucket=state.clock_bucket,
        points=dict(state.points),
        tally=msgspec.structs.replace(state.tally),
        names={**names, catalogue: None},
        units=units,
        catalogue=None if catalogue in already else dict(state.catalogue),
    )


def write(frozen: Frozen, directory: Path | str, copy_to: str | None = None) -> Path:
    """Write a snapshot, then forget all but the last two. Returns the path of its manifest.

    `copy_to` is a folder off-site in fsspec's notation (`s3://bucket/east`), kept in step after the local one is whole.
    Raises OSError; the older snapshots are then untouched.
    """
    root = Path(directory)
    units = root / _UNITS
    units.mkdir(parents=True, exist_ok=True)
    files = {file.name: file for file in _known_files(root) if file.name in frozen.names}
    for unit in frozen.units:
        files[unit.name] = _store(root, unit.name, encode_unit(unit), frozen.names[unit.name])
    if frozen.catalogue is not None:
        name = next(n for n, bucket in frozen.names.items() if bucket is None)
        files[name] = _store(root, name, encode_catalogue(frozen.catalogue), None)
    _sync_folder(units)
    missing = frozen.names.keys() - files.keys()
    if missing:
        raise StreamError(f"{len(missing)} files that were stored before are gone from {units}: freeze anew")
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        fold_version=FOLD_VERSION,
        parameters=frozen.parameters,
        digest=frozen.digest,
        clock_bucket=frozen.clock_bucket,
        points=[(log_name, partition, point) for (log_name, partition), point in sorted(frozen.points.items())],
        tally=frozen.tally,
        files=[files[name] for name in frozen.names],
    )
    path = root / f"snapshot-{_last_number(root) + 1:012d}.json"
    body = msgspec.json.encode(manifest)
    _write_file(path, body + b"\n" + xxhash.xxh3_128_hexdigest(body).encode())
    _sync_folder(root)
    _prune(root)
    if copy_to is not None:
        copy(root, copy_to)
    return path


def save(state: State, directory: Path | str, copy_to: str | None = None) -> Path:
    """Freeze and write in one go. Returns the path of the manifest."""
    return write(freeze(state, stored(directory)), directory, copy_to)


def load(directory: Path | str, parameters: Parameters, on_skip: Callable[[str], None] = log.warning) -> State | None:
    """The newest snapshot that is whole and was made by this fold with these parameters; None when there is none.

    `on_skip` is told why a snapshot was passed over. Corrupt files are renamed to `*.corrupt`, so that no later
    snapshot builds on them.
    """
    root = Path(directory)
    for path in _manifests(root):
        try:
            return _open(root, path, parameters)
        except SnapshotUnusable as reason:
            on_skip(f"snapshot {path.name} is passed over: {reason}")
    return None


def newest(directory: Path | str) -> tuple[Path, Manifest] | None:
    """The newest manifest that can be read, and its path; None when there is none."""
    for path in _manifests(Path(directory)):
        try:
            return path, _read_manifest(path)
        except SnapshotUnusable:
            continue
    return None


def copy(directory: Path | str, url: str) -> None:
    """Bring the newest snapshot to a folder off-site (any fsspec URL): missing files first, the manifest last."""
    root = Path(directory)
    newest = _manifests(root)[0]
    filesystem, base = fsspec.core.url_to_fs(url)
    filesystem.makedirs(f"{base}/{_UNITS}", exist_ok=True)
    there = {Path(name).name for name in filesystem.ls(f"{base}/{_UNITS}", detail=False)}
    for file in _read_manifest(newest).files:
        if file.name not in there:
            _put(filesystem, root / _UNITS / file.name, f"{base}/{_UNITS}/{file.name}")
    _put(filesystem, newest, f"{base}/{newest.name}")
    _prune_off_site(filesystem, base)


def fetch(url: str, directory: Path | str) -> None:
    """Bring what `copy` kept off-site back into an empty directory; `load` then checks it."""
    root = Path(directory)
    filesystem, base = fsspec.core.url_to_fs(url)
    root.mkdir(parents=True, exist_ok=True)
    filesystem.get(f"{base}/", f"{root}/", recursive=True)


def _open(root: Path, path: Path, parameters: Parameters) -> State:
    manifest = _read_manifest(path)
    if manifest.schema_version != SCHEMA_VERSION:
        raise SnapshotUnusable(f"its schema version is {manifest.schema_version}, this release reads {SCHEMA_VERSION}")
    if manifest.fold_version != FOLD_VERSION:
        raise SnapshotUnusable(
            f"fold version {manifest.fold_version} made it, this release has {FOLD_VERSION}: replay from zero"
        )
    if manifest.parameters != parameters:
        raise SnapshotUnusable(f"it was made with {manifest.parameters}, not with {parameters}: replay from zero")
    state = State(parameters, clock_bucket=manifest.clock_bucket, tally=manifest.tally)
    state.points = {(log_name, partition): point for log_name, partition, point in manifest.points}
    for file in manifest.files:
        _open_file(root / _UNITS / file.name, file, state)
    found = digest(state).hex()
    if found != manifest.digest:
        raise SnapshotUnusable(f"its state has digest {found}, not {manifest.digest}")
    return state


def _open_file(path: Path, file: StoredFile, state: State) -> None:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SnapshotUnusable(f"{path.name} cannot be read: {error}") from error
    try:
        if len(raw) != file.size_bytes or xxhash.xxh3_128_hexdigest(raw) != file.checksum:
            raise ValueError(f"it has {len(raw)} bytes and another checksum than the manifest says")
        if file.bucket is None:
            decode_catalogue(raw, state)
        else:
            state.units[file.bucket] = decode_unit(raw, file.bucket, state.parameters.bucket_ms)
    except (ValueError, OSError, pa.ArrowException) as error:
        path.replace(path.with_suffix(".corrupt"))
        raise SnapshotUnusable(f"{path.name} is corrupt: {error}") from error


def _read_manifest(path: Path) -> Manifest:
    try:
        body, _, checksum = path.read_bytes().rpartition(b"\n")
        if xxhash.xxh3_128_hexdigest(body).encode() != checksum:
            raise SnapshotUnusable("its manifest is torn or corrupt")
        return msgspec.json.decode(body, type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise SnapshotUnusable(f"its manifest cannot be read: {error}") from error


def _manifests(root: Path) -> list[Path]:
    """Newest first."""
    return sorted((p for p in root.glob("snapshot-*.json") if _MANIFEST.fullmatch(p.name)), reverse=True)


def _last_number(root: Path) -> int:
    newest = _manifests(root)
    return int(newest[0].stem.removeprefix("snapshot-")) if newest else 0


def _known_files(root: Path) -> list[StoredFile]:
    known = []
    for path in _manifests(root):
        try:
            known += [file for file in _read_manifest(path).files if _has_size(root, file)]
        except SnapshotUnusable:
            continue
    return known


def _has_size(root: Path, file: StoredFile) -> bool:
    path = root / _UNITS / file.name
    return path.exists() and path.stat().st_size == file.size_bytes


def _store(root: Path, name: str, raw: bytes, bucket: int | None) -> StoredFile:
    _write_file(root / _UNITS / name, raw)
    return StoredFile(name, len(raw), xxhash.xxh3_128_hexdigest(raw), bucket)


def _write_file(path: Path, raw: bytes) -> None:
    """All of it under its name, or nothing: write beside it, sync, rename."""
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prune(root: Path) -> None:
    """Keep the last two whole manifests and what they name; a write that was cut short is swept up here too."""
    named: set[str] = set()
    kept = 0
    for path in _manifests(root):
        try:
            files = _read_manifest(path).files if kept < KEPT else []
        except SnapshotUnusable:
            path.unlink()
            continue
        if kept >= KEPT:
            path.unlink()
            continue
        kept += 1
        named |= {file.name for file in files}
    for path in [*(root / _UNITS).iterdir(), *root.glob(".*.tmp")]:
        if path.name not in named:
            path.unlink()


def _put(filesystem: Any, source: Path, target: str) -> None:
    """Upload under another name, then move: readers off-site see whole files only."""
    filesystem.put_file(str(source), f"{target}.tmp")
    filesystem.mv(f"{target}.tmp", target)


def _prune_off_site(filesystem: Any, base: str) -> None:
    manifests = sorted(
        (name for name in filesystem.ls(base, detail=False) if _MANIFEST.fullmatch(Path(name).name)), reverse=True
    )
    named: set[str] = set()
    for name in manifests[:KEPT]:
        body = filesystem.cat_file(name).rpartition(b"\n")[0]
        named |= {file.name for file in msgspec.json.decode(body, type=Manifest).files}
    for name in manifests[KEPT:]:
        filesystem.rm_file(name)
    for name in filesystem.ls(f"{base}/{_UNITS}", detail=False):
        if Path(name).name not in named:
            filesystem.rm_file(name)
