"""Handing versions to the workers of other regions: what files a version has, and each file's bytes.

Only what the manifest names, the manifest and its signature can be had. Nothing is checked here: who fetches checks
everything, because it cannot know whether this disk, this process or the way between them is sound.
"""

from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
from aiohttp import web

from models.errors import ModelError
from models.registry import MANIFEST_FILE, SIGNATURE_FILE, read_manifest
from services.inference.errors import UnknownModel
from services.inference.repository import Repository, is_name, is_number

FILES: Final = "/v2/repository/models/{model}/versions/{version}/files"


class VersionFile(msgspec.Struct, frozen=True):
    """One file of a version."""

    name: str
    size_bytes: int


class VersionFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v2/repository/models/M/versions/V/files`."""

    model: str
    version: str
    sha256: str
    """Of the manifest, which has the sum of every file."""
    files: list[VersionFile]


def files_path(model: str, version: str) -> str:
    """Where a worker lists the files of a version; each is below it, by its name."""
    return FILES.format(model=quote(model, safe=""), version=quote(version, safe=""))


def version_files(repository: Repository, model: str, version: str) -> VersionFiles:
    """What a version consists of. Raises UnknownModel when there is none, or its manifest cannot be read."""
    sha256 = repository.manifest_sha256(model, version) if is_name(model) and is_number(version) else None
    if sha256 is None:
        raise UnknownModel(f"version {version[:40]!r} of model {model[:80]!r} is not in this repository")
    folder = repository.folder(model, version)
    names = [name for name in (MANIFEST_FILE, SIGNATURE_FILE, *_named(folder)) if (folder / name).is_file()]
    files = [VersionFile(name, (folder / name).stat().st_size) for name in names]
    return VersionFiles(model=model, version=version, sha256=sha256, files=files)


def file_of(repository: Repository, model: str, version: str, name: str) -> web.FileResponse:
    """One file of a version, or the range of it that the request asks for. Raises UnknownModel."""
    found = version_files(repository, model, version)
    if all(file.name != name for file in found.files):
        raise UnknownModel(f"version {version} of model {model!r} has no file {name[:80]!r}")
    return web.FileResponse(repository.folder(model, version) / name)


def _named(folder: Path) -> list[str]:
    try:
        return sorted(read_manifest(folder)[0].files)
    except ModelError:
        return []
