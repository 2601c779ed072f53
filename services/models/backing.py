"""`backup` and `restore`: versions by content hash, the numbers' records, the aliases with their histories.

A backup takes what is registered and sound, and only adds: what an earlier one holds stays in the index, and another
content under a known number is refused. A restore checks each version as a push does (sums, signature, golden
set) before it takes its place, leaves what is there alone, and sets aliases last and only where none is set: it never
moves one. So both can be cut short and repeated.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec

from models import registry, signing
from models.backup import FORMAT, Archive, BackupUnusable
from models.errors import ModelError
from models.export import triton_config
from models.placing import placing, write_config
from models.registry import CONFIG_FILE, MANIFEST_FILE, SIGNATURE_FILE
from services.coordination import CasConflict, KeyValueStore
from services.coordination.base import ABSENT
from services.coordination.model_records import (
    ALIASES,
    AliasRecord,
    VersionRecord,
    VersionTaken,
    aliases,
    register_version,
    version_record,
    versions,
    watch_prefix,
)
from services.inference.repository import is_name, is_number
from services.models.errors import NotDone, RegistryError, VersionRefused
from services.models.premises import Premises
from services.models.proving import prove
from services.models.workers import Say


class VersionBackup(msgspec.Struct, frozen=True, kw_only=True):
    """One version in a backup."""

    record: VersionRecord
    files: dict[str, str]
    """The sha256 of each file by name, manifest and signature included."""


class ModelBackup(msgspec.Struct, frozen=True, kw_only=True):
    """One model in a backup."""

    versions: dict[str, VersionBackup]
    aliases: dict[str, AliasRecord]
    config: str = ""
    """The sha256 of its config.pbtxt."""


class BackupIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a backup's registry.json."""

    format: int
    at_ms: int
    models: dict[str, ModelBackup]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each thing that a backup or a restore was about."""

    url: str
    model: str
    versions: dict[str, str]
    """By number: what was done, or why it was refused."""
    aliases: dict[str, str]
    refused: int
    """How many of both were refused."""


async def back_up(premises: Premises, url: str, say: Say) -> Outcome:
    """Copy every registered version that lies here, and all aliases, to a target.

    Raises VersionRefused when the target has another content under one of the numbers, BackupUnusable,
    StoreUnavailable.
    """
    archive = await asyncio.to_thread(Archive, url)
    index = await asyncio.to_thread(_index, archive) or BackupIndex(format=FORMAT, at_ms=0, models={})
    before = index.models.get(premises.model, ModelBackup(versions={}, aliases={}))
    async with premises.store() as store:
        known, named = await versions(store, premises.model), await aliases(store, premises.model)
    for record in known:
        held = before.versions.get(record.version)
        if held is not None and held.record.sha256 != record.sha256:
            raise VersionRefused(
                f"{url} holds another content under {premises.model}/{record.version} "
                f"({held.record.sha256[:12]}, here {record.sha256[:12]}): it is the backup of another deployment. Use "
                "a target of its own."
            )
    kept, said, refused = dict(before.versions), {}, 0
    for number, record in enumerate(known, start=1):
        say(f"{number} of {len(known)}: {premises.model}/{record.version}")
        try:
            kept[record.version], sent = await asyncio.to_thread(_send, premises, archive, record)
            said[record.version] = f"{sent} files sent" if sent else "was there"
        except (RegistryError, ModelError, OSError) as error:
            if isinstance(error, BackupUnusable):
                raise
            said[record.version] = f"refused: {error}"
            refused += 1
    config = premises.repository.path / premises.model / CONFIG_FILE
    content = config.read_bytes() if config.is_file() else triton_config(premises.model).encode()
    model = ModelBackup(
        versions=kept, aliases={**before.aliases, **named}, config=await asyncio.to_thread(archive.add_bytes, content)
    )
    whole = BackupIndex(format=FORMAT, at_ms=premises.clock.unix_ms(), models={**index.models, premises.model: model})
    await asyncio.to_thread(archive.write_index, whole)
    pointing = {name: f"names {record.version}" for name, record in named.items()}
    return Outcome(url=url, model=premises.model, versions=said, aliases=pointing, refused=refused)


async def restore(premises: Premises, url: str, say: Say) -> Outcome:
    """Bring back what a backup holds and this deployment lacks. Raises BackupUnusable, StoreUnavailable."""
    archive = await asyncio.to_thread(Archive, url)
    index = await asyncio.to_thread(_index, archive)
    if index is None or premises.model not in index.models:
        held = ", ".join(index.models) if index is not None else "nothing"
        raise VersionRefused(f"{url} holds no backup of the model {premises.model!r}. It holds: {held}.")
    held_model = index.models[premises.model]
    _check_numbers(url, held_model)
    premises.make_keys()
    said: dict[str, str] = {}
    pointing: dict[str, str] = {}
    bad: set[str] = set()
    async with premises.store() as store:
        numbers = sorted(held_model.versions, key=int)
        for place, number in enumerate(numbers, start=1):
            say(f"{place} of {len(numbers)}: {premises.model}/{number}")
            try:
                said[number] = await _bring_back(store, premises, archive, held_model, number)
            except (RegistryError, ModelError) as error:
                said[number] = f"refused: {error}"
                bad.add(number)
        for name, record in held_model.aliases.items():
            pointing[name] = await _point_back(store, premises, name, record, bad)
    refused = len(bad) + sum(text.startswith("refused") for text in pointing.values())
    return Outcome(url=url, model=premises.model, versions=said, aliases=pointing, refused=refused)


def _index(archive: Archive) -> BackupIndex | None:
    index = archive.read_index(BackupIndex)
    if index is not None and index.format != FORMAT:
        raise BackupUnusable(
            f"the backup has the format {index.format}, known is {FORMAT}: use the release that made it"
        )
    return index


def _check_numbers(url: str, model: ModelBackup) -> None:
    """The index is not signed: what it binds in the store must at least be numbers, each to what is under it."""
    for number, held in model.versions.items():
        if not is_number(number) or held.record.version != number:
            raise BackupUnusable(
                f"{url} has a record of {held.record.version[:40]!r} under the number {number[:40]!r}: its index was "
                "changed. Nothing was restored; use another backup."
            )


def _send(premises: Premises, archive: Archive, record: VersionRecord) -> tuple[VersionBackup, int]:
    """Send a version's files; a shipped one, which needs no signature here, is signed on the way. Blocks."""
    folder = premises.folder(record.version)
    sha256 = registry.verify_manifest(folder)
    if sha256 != record.sha256:
        raise VersionRefused(f"{folder} holds the content {sha256[:12]}, registered is {record.sha256[:12]}")
    premises.repository.check_signature(folder)
    sums = {**registry.read_manifest(folder)[0].files, MANIFEST_FILE: sha256}
    sent = sum(archive.add(folder / name, expected) for name, expected in sorted(sums.items()))
    signature = folder / SIGNATURE_FILE
    if signature.is_file():
        signed = signature.read_bytes()
    else:
        premises.make_keys()
        signed = signing.signature_of(
            (folder / MANIFEST_FILE).read_bytes(), signing.read_key(premises.region.signing_key_file)
        )
    sums[SIGNATURE_FILE] = archive.add_bytes(signed)
    return VersionBackup(record=record, files=sums), sent


async def _bring_back(
    store: KeyValueStore, premises: Premises, archive: Archive, model: ModelBackup, number: str
) -> str:
    held = model.versions[number]
    standing = await version_record(store, premises.model, number)
    if standing is not None and standing.sha256 != held.record.sha256:
        raise VersionRefused(
            f"{premises.model}/{number} stands for {standing.sha256[:12]} here and for {held.record.sha256[:12]} in "
            "the backup; nothing is overwritten"
        )
    folder = premises.repository.folder(premises.model, number)
    if folder.is_dir():
        await asyncio.to_thread(prove, premises, folder, held.record.sha256)
        await register_version(store, premises.model, held.record)
        return "was there"
    path = premises.repository.path
    try:
        with placing(path, premises.model, number) as half:
            await asyncio.to_thread(_fill, archive, held, half)
            await asyncio.to_thread(_trusted, premises, half)
            await asyncio.to_thread(prove, premises, half, held.record.sha256)
            if model.config:
                await asyncio.to_thread(_restore_config, archive, model.config, path, premises.model, half.parent)
            await register_version(store, premises.model, held.record)
    except VersionTaken as taken:
        raise VersionRefused(str(taken)) from taken
    except OSError as error:
        raise NotDone(
            f"{folder} cannot be written ({error.strerror}): nothing was changed; make room, do it again"
        ) from (error)
    return "restored"


def _fill(archive: Archive, held: VersionBackup, half: Path) -> None:
    if held.files.get(MANIFEST_FILE) != held.record.sha256:
        raise VersionRefused("the backup's index names another manifest than its record: it was changed")
    strange = [name for name in held.files if not is_name(name)]
    if strange:
        raise VersionRefused(f"the backup's index names {strange[0][:80]!r}, which is no file of a version")
    for name, sha256 in held.files.items():
        archive.fetch(sha256, half / name)


def _trusted(premises: Premises, half: Path) -> None:
    """What comes from outside must be signed by a key that is trusted here, whoever vouches for the repository."""
    signing.verify(half, signing.read_trusted(premises.region.trusted_keys_file))


def _restore_config(archive: Archive, sha256: str, repository: Path, model: str, beside: Path) -> None:
    archive.fetch(sha256, beside / CONFIG_FILE)
    content = (beside / CONFIG_FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() == sha256:
        write_config(repository, model, content)


async def _point_back(store: KeyValueStore, premises: Premises, name: str, record: AliasRecord, bad: set[str]) -> str:
    standing = (await aliases(store, premises.model)).get(name)
    if standing is not None:
        same = standing.version == record.version
        return f"names {standing.version} here" + (
            "" if same else f" and {record.version} in the backup; it stays, `meridian models promote` moves it"
        )
    here = await version_record(store, premises.model, record.version)
    if record.version in bad or here is None:
        return f"refused: the version {record.version} that it named could not be restored"
    if name not in ALIASES or record.sha256 not in ("", here.sha256):
        return f"refused: it is no alias, or names another content of {record.version}: the backup's index was changed"
    try:
        await store.compare_and_put(watch_prefix(premises.model) + name, msgspec.json.encode(record), ABSENT)
    except CasConflict:
        return "was set by somebody else meanwhile; it stays"
    return f"restored: names {record.version}"
