"""What there is: versions, aliases, who serves what; and everything that is known of one version."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from models import registry, signing
from models.errors import ModelError
from services.coordination import KeyValueStore
from services.coordination.model_records import ALIASES, AliasRecord, VersionRecord, aliases, versions
from services.models.errors import BadRequest, VersionRefused
from services.models.premises import Premises
from services.models.workers import SILENT, IndexLine, index


class RegionState(msgspec.Struct, frozen=True):
    """What one region's worker says of a version."""

    region: str
    state: str
    """READY, LOADING or UNAVAILABLE; empty when it does not answer, or does not know the version."""
    reason: str


class VersionLine(msgspec.Struct, frozen=True, kw_only=True):
    """One version, as `meridian models list` shows it."""

    model: str
    version: str
    sha256: str
    """Of the manifest; empty when what lies here cannot be read."""
    aliases: list[str]
    registered: bool
    size_bytes: int
    here: bool
    """Whether this region's repository holds it."""
    regions: list[RegionState]


class VersionDetails(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one version, as `meridian models show` shows it."""

    line: VersionLine
    folder: str
    manifest: registry.Manifest
    metrics: dict[str, Any]
    files: dict[str, int]
    """Bytes of each file."""
    signed_by: str
    """The public key that its signature names; empty without one. `verify` says whether it is good."""
    record: VersionRecord | None
    aliases: dict[str, AliasRecord]
    """The aliases that name it now or did before, with their histories."""


async def lines(premises: Premises) -> list[VersionLine]:
    """Every version that is registered or lies here, smallest number first. Raises StoreUnavailable, StoreDamaged."""
    async with premises.store() as store:
        return await _lines(store, premises)


async def details(premises: Premises, wanted: str) -> VersionDetails:
    """What is known of a version, named by its number or by an alias. Raises BadRequest, VersionRefused."""
    async with premises.store() as store:
        named = await aliases(store, premises.model)
        version = _number(wanted, named, premises.model)
        line = next((found for found in await _lines(store, premises) if found.version == version), None)
        record = next((found for found in await versions(store, premises.model) if found.version == version), None)
    folder = premises.folder(version)
    if line is None:
        raise VersionRefused(f"{folder} came to be just now: ask again")
    try:
        manifest, _ = registry.read_manifest(folder)
        metrics = msgspec.json.decode((folder / registry.METRICS_FILE).read_bytes(), type=dict[str, Any])
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    except (ModelError, OSError, msgspec.DecodeError) as error:
        raise VersionRefused(f"{folder} cannot be read: {error}") from error
    return VersionDetails(
        line=line,
        folder=str(folder),
        manifest=manifest,
        metrics=metrics,
        files=files,
        signed_by=_signer(folder),
        record=record,
        aliases={
            name: found
            for name, found in named.items()
            if any(change.version == version for change in found.history) or found.version == version
        },
    )


async def number_of(premises: Premises, wanted: str) -> str:
    """The number that is meant by a number or an alias. Raises BadRequest, StoreUnavailable, StoreDamaged."""
    if wanted.isdigit():
        return wanted
    async with premises.store() as store:
        return _number(wanted, await aliases(store, premises.model), premises.model)


def _number(wanted: str, named: dict[str, AliasRecord], model: str) -> str:
    if wanted.isdigit():
        return wanted
    if wanted not in ALIASES:
        raise BadRequest(f"{wanted[:40]!r} is neither a version's number nor one of {', '.join(ALIASES)}")
    if wanted not in named:
        raise BadRequest(f"{wanted} of {model} names no version yet; `meridian models promote VERSION` lets it")
    return named[wanted].version


async def _lines(store: KeyValueStore, premises: Premises) -> list[VersionLine]:
    known = {record.version: record for record in await versions(store, premises.model)}
    named = await aliases(store, premises.model)
    answers = await asyncio.gather(*(index(region) for region in premises.regions))
    here = set(premises.numbers())
    found: list[VersionLine] = []
    for number in sorted({*here, *known}, key=int):
        record = known.get(number)
        sha256, size = await asyncio.to_thread(_on_disk, premises, number) if number in here else ("", 0)
        found.append(
            VersionLine(
                model=premises.model,
                version=number,
                sha256=record.sha256 if record is not None else sha256,
                aliases=[name for name in ALIASES if name in named and named[name].version == number],
                registered=record is not None,
                size_bytes=record.size_bytes if record is not None else size,
                here=number in here,
                regions=[
                    _state(region.name, answer, premises.model, number)
                    for region, answer in zip(premises.regions, answers, strict=True)
                ],
            )
        )
    return found


def _on_disk(premises: Premises, number: str) -> tuple[str, int]:
    try:
        manifest, sha256 = registry.read_manifest(premises.folder(number))
        return sha256, sum((premises.folder(number) / name).stat().st_size for name in manifest.files)
    except (ModelError, OSError, VersionRefused):
        return "", 0


def _state(region: str, answer: list[IndexLine] | None, model: str, number: str) -> RegionState:
    if answer is None:
        return RegionState(region, "", SILENT)
    line = next((found for found in answer if (found.name, found.version) == (model, number)), None)
    return RegionState(region, line.state, line.reason) if line is not None else RegionState(region, "", "not there")


def _signer(folder: Path) -> str:
    try:
        raw = (folder / registry.SIGNATURE_FILE).read_bytes()
        return msgspec.json.decode(raw, type=signing.Signature).key
    except (OSError, msgspec.DecodeError):
        return ""
