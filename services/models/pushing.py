"""Putting a version into a region's repository and binding its number to its content.

In this order, so that whatever ends it (a kill, a full disk, a store that is away) leaves either nothing or something
that the same command completes: the sums of the source; a copy beside its place; its signature; the golden set on the
copy, by the worker's own code; the number in the store; the rename. A number is bound before the folder has its place,
because the other order could leave two regions with different folders of one number.

A push never changes what serves: where no champion was named yet, what serves now is named before.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

import msgspec

from models import registry, signing
from models.errors import ModelError
from models.export import triton_config
from models.placing import placing, write_config
from models.registry import CONFIG_FILE, MANIFEST_FILE, SIGNATURE_FILE
from services.coordination import CoordinationError, KeyValueStore
from services.coordination.model_records import (
    CHAMPION,
    VersionRecord,
    VersionTaken,
    alias,
    point_alias,
    register_version,
    version_record,
    versions,
)
from services.inference.errors import ModelRefused
from services.models.errors import NotDone, VersionRefused
from services.models.premises import Premises
from services.models.proving import prove
from services.models.workers import Say, champion_report

_NUMBER_TRIES: Final = 10


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """What a push did."""

    model: str
    version: str
    sha256: str
    folder: str
    size_bytes: int
    was_there: bool
    """Whether this content was there under this number before: nothing was changed."""


async def push(premises: Premises, source: Path, version: str, say: Say) -> Pushed:
    """Push the version in the folder `source`, under a number of its own (empty: the next one, or the one it has).

    Raises VersionRefused (damaged, no proof, another content has the number), NotDone (full disk),
    StoreUnavailable, StoreDamaged, signing.KeyUnreadable.
    """
    manifest, sha256 = _sound(source)
    premises.make_keys()
    key = signing.read_key(premises.region.signing_key_file)
    if premises.repository.is_own:
        await asyncio.to_thread(premises.repository.fill)
    async with premises.store() as store:
        number = version or await _next_number(store, premises, sha256)
        for _ in range(_NUMBER_TRIES):
            try:
                return await _push_as(store, premises, source, number, manifest, sha256, key, say)
            except VersionTaken as taken:
                if version:
                    raise VersionRefused(str(taken)) from taken
                number = await _next_number(store, premises, sha256)
    raise NotDone(f"{_NUMBER_TRIES} numbers in a row were taken by others meanwhile: push it again")


def _sound(source: Path) -> tuple[registry.Manifest, str]:
    """The manifest of a folder that is whole and holds nothing else. Raises VersionRefused."""
    try:
        registry.verify_manifest(source)
        unlisted = registry.unlisted_files(source)
        manifest, sha256 = registry.read_manifest(source)
    except (ModelError, OSError) as error:
        raise VersionRefused(str(error)) from error
    if unlisted:
        raise VersionRefused(f"{source / unlisted[0]} is not named in {MANIFEST_FILE}. Remove it, or export again.")
    return manifest, sha256


async def _next_number(store: KeyValueStore, premises: Premises, sha256: str) -> str:
    """The number that this content has already, else the first that nothing has here or anywhere."""
    known = await versions(store, premises.model)
    for record in known:
        if record.sha256 == sha256:
            return record.version
    here = premises.numbers()
    for number in here:
        if await asyncio.to_thread(premises.repository.manifest_sha256, premises.model, number) == sha256:
            return number
    return str(max([0, *(int(record.version) for record in known), *map(int, here)]) + 1)


async def _push_as(
    store: KeyValueStore,
    premises: Premises,
    source: Path,
    number: str,
    manifest: registry.Manifest,
    sha256: str,
    key: bytes,
    say: Say,
) -> Pushed:
    standing = await version_record(store, premises.model, number)
    if standing is not None and standing.sha256 != sha256:
        raise VersionTaken(
            f"{premises.model}/{number} stands for the content {standing.sha256[:12]} already, this one is "
            f"{sha256[:12]}. A number never changes its content: take the next, or leave --version out."
        )
    size = size_of(source, manifest)
    record = VersionRecord(
        version=number, sha256=sha256, size_bytes=size, at_ms=premises.clock.unix_ms(), by=premises.by
    )
    folder = premises.repository.folder(premises.model, number)
    was_there = folder.is_dir()
    if was_there:
        say(f"{folder} is there already: it is proved, not copied")
        await asyncio.to_thread(_sign_anew, premises, folder, sha256, key)
        await asyncio.to_thread(prove, premises, folder, sha256)
        await register_version(store, premises.model, record)
    else:
        await _place(store, premises, source, record, manifest, key, say)
    return Pushed(
        model=premises.model,
        version=number,
        sha256=sha256,
        folder=str(folder),
        size_bytes=size,
        was_there=was_there and standing is not None,
    )


async def _place(
    store: KeyValueStore,
    premises: Premises,
    source: Path,
    record: VersionRecord,
    manifest: registry.Manifest,
    key: bytes,
    say: Say,
) -> None:
    path, model = premises.repository.path, premises.model
    try:
        with placing(path, model, record.version) as half:
            for name in (MANIFEST_FILE, *sorted(manifest.files)):
                shutil.copyfile(source / name, half / name)
            signature = signing.signature_of((half / MANIFEST_FILE).read_bytes(), key)
            (half / SIGNATURE_FILE).write_bytes(signature)
            say(f"proves {model}/{record.version}: sums, golden set, every batch shape")
            await asyncio.to_thread(prove, premises, half, record.sha256)
            write_config(path, model, _config(source, model))
            await pin_champion(store, premises, say)
            await register_version(store, model, record)
    except FileExistsError:
        raise NotDone(f"{path / model / record.version} came to be meanwhile: push it again") from None
    except OSError as error:
        raise NotDone(
            f"{path / model} cannot take the version ({error.strerror}): nothing was changed. Make room, or correct "
            "the folder's owner, and push it again."
        ) from error


def _sign_anew(premises: Premises, folder: Path, sha256: str, key: bytes) -> None:
    """Replace a signature that is missing or no longer trusted: of this content, which whoever pushes it vouches for.

    Raises NotDone when it cannot be written; what is wrong otherwise is found by proving.
    """
    if premises.repository.manifest_sha256(premises.model, folder.name) != sha256:
        return
    try:
        premises.repository.check_signature(folder)
    except ModelRefused:
        beside = folder.with_name(f".{folder.name}.{SIGNATURE_FILE}")
        try:
            beside.write_bytes(signing.signature_of((folder / MANIFEST_FILE).read_bytes(), key))
            beside.replace(folder / SIGNATURE_FILE)
        except OSError as error:
            raise NotDone(f"{folder} cannot be signed anew ({error.strerror}): nothing was changed") from error
        finally:
            beside.unlink(missing_ok=True)


async def pin_champion(store: KeyValueStore, premises: Premises, say: Say) -> None:
    """Name what serves now as champion where none is named, so that a newer number does not serve just by being there.

    Raises StoreUnavailable, StoreDamaged, VersionRefused.
    """
    if await alias(store, premises.model, CHAMPION) is not None:
        return
    report = await champion_report(premises.region, premises.model)
    here = premises.numbers()
    serving = report.serving.version if report is not None and report.serving is not None else ""
    now = serving if serving in here else (here[-1] if here else "")
    if not now:
        return
    await register_here(store, premises, now)
    try:
        await point_alias(
            store,
            premises.model,
            CHAMPION,
            now,
            expected=None,
            at_ms=premises.clock.unix_ms(),
            by=premises.by,
        )
    except CoordinationError as error:
        if await alias(store, premises.model, CHAMPION) is None:
            raise
        say(f"champion was named by somebody else meanwhile ({error})")
    else:
        why = "which serves" if now == serving else "the newest one here"
        say(f"no champion was named yet: it is {premises.model}/{now}, {why}")


async def register_here(store: KeyValueStore, premises: Premises, number: str) -> VersionRecord:
    """Bind the number of a version that lies here to its content. Raises VersionRefused, StoreUnavailable."""
    folder = premises.folder(number)
    try:
        manifest, sha256 = registry.read_manifest(folder)
        record = VersionRecord(
            version=number,
            sha256=sha256,
            size_bytes=size_of(folder, manifest),
            at_ms=premises.clock.unix_ms(),
            by=premises.by,
        )
        return await register_version(store, premises.model, record)
    except (ModelError, OSError) as error:
        raise VersionRefused(f"{folder} cannot be read: {error}") from error
    except VersionTaken as taken:
        raise VersionRefused(f"{taken} What lies in {folder} is not that content.") from taken


def size_of(folder: Path, manifest: registry.Manifest) -> int:
    """Bytes of a version's files, without the signature. Raises OSError."""
    return sum((folder / name).stat().st_size for name in (MANIFEST_FILE, *manifest.files))


def _config(source: Path, model: str) -> bytes:
    beside = source.parent / CONFIG_FILE
    return beside.read_bytes() if beside.is_file() else triton_config(model).encode()
