"""Fetching a version from another region's worker: by its content's hash, and only that content ever gets a place.

The coordination store says which content a number stands for (the manifest's sha256), the manifest says the sum of each
file, so nothing that a peer sends has to be believed. What arrived is kept beside the versions, in a folder named after
the content: whoever is interrupted, by kill -9 as well, goes on where it stopped, and a rename gives the version its
place when all of it is there, right, and signed. A peer that sends something else is left for the next one.
"""

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import aiohttp
import msgspec

from models.errors import ModelError
from models.registry import MANIFEST_FILE, SIGNATURE_FILE, manifest_from, verify_manifest
from services.common.logging import get_logger
from services.coordination import CoordinationError
from services.inference.errors import ModelRefused, VersionOutOfReach
from services.inference.metrics import InferenceMetrics
from services.inference.repository import Repository
from services.inference.sharing import VersionFiles, files_path

log = get_logger(__name__)

MANIFEST_BYTES_MAX: Final = 1 << 20
DISK_RESERVE_BYTES: Final = 64 << 20
"""What a fetch leaves free: the region's logs and snapshots need a disk more than a new model does."""
CONNECT_SECONDS: Final = 3.0
CHUNK_BYTES: Final = 1 << 18
_LATER: Final = "It is tried again by itself; `meridian models list` says what each region has"
_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

Peers = Callable[[], Awaitable[list[str]]]
"""The addresses of the other regions' workers. Raises CoordinationError."""


class _PeerFailed(Exception):
    """This peer did not give the version; `__str__` says why."""


class Fetcher:
    """Brings versions into one repository. One fetch at a time."""

    def __init__(
        self,
        repository: Repository,
        peers: Peers,
        metrics: InferenceMetrics,
        *,
        bytes_max: int,
        silence_seconds: float,
        seconds_max: float = 300.0,
    ) -> None:
        self._repository = repository
        self._peers = peers
        self._metrics = metrics
        self._bytes_max = bytes_max
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds)
        self._seconds_max = seconds_max
        self._one = asyncio.Lock()

    async def fetch(self, model: str, version: str, sha256: str) -> None:
        """Return when the version is in its place. Raises VersionOutOfReach, saying what each peer said.

        Cancelled, it leaves what arrived for the next try.
        """
        async with self._one:
            if self._repository.folder(model, version).exists():
                return
            try:
                peers = await self._peers()
            except CoordinationError as problem:
                raise VersionOutOfReach(f"nobody knows who has version {version}: {problem}", _LATER) from problem
            if not peers:
                raise VersionOutOfReach(
                    f"version {version} is not here, and no other region's worker is listed", _LATER
                )
            said: list[str] = []
            async with aiohttp.ClientSession(timeout=self._timeout) as http:
                for url in peers:
                    try:
                        await self._from_peer(http, url, model, version, sha256)
                    except _PeerFailed as problem:
                        said.append(f"{url}: {problem}")
                        self._metrics.fetches.labels(model, "failed").inc()
                        continue
                    self._metrics.fetches.labels(model, "fetched").inc()
                    log.info("version fetched", model=model, version=version, sha256=sha256[:12], peer=url)
                    return
            raise VersionOutOfReach(f"version {version} could not be fetched: {'; '.join(said)}", _LATER)

    async def _from_peer(self, http: aiohttp.ClientSession, url: str, model: str, version: str, sha256: str) -> None:
        half = self._repository.path / model / f".fetch-{version}-{sha256[:16]}"
        fetch = _Fetch(http, url + files_path(model, version), half, self._metrics, model)
        try:
            half.mkdir(parents=True, exist_ok=True)
            async with asyncio.timeout(self._seconds_max):
                sums = await fetch.manifest(sha256)
                await asyncio.to_thread(self._repository.check_signature, half, arriving=True)
                sizes = await fetch.sizes(sums)
                self._check_room(sizes, half)
                for name, expected in sorted(sums.items()):
                    await fetch.file(name, expected, sizes[name])
            await _to_the_end(self._settle, half, model, version)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as problem:
            raise _PeerFailed(str(problem) or type(problem).__name__) from problem
        except ModelRefused as problem:
            shutil.rmtree(half, ignore_errors=True)
            raise _PeerFailed(problem.reason) from problem
        except OSError as error:
            if error.errno in _DISK_FULL:  # what is half there is not worth the room that it takes
                shutil.rmtree(half, ignore_errors=True)
            self._metrics.fetches.labels(model, "failed").inc()
            raise VersionOutOfReach(f"version {version} cannot be written here: {error}", _LATER) from error

    def _check_room(self, sizes: dict[str, int], half: Path) -> None:
        """All files together have one limit, and none may be longer than the size that is counted here."""
        total = sum(sizes.values())
        if total > self._bytes_max:
            raise _PeerFailed(f"it has {total} bytes; the limit is {self._bytes_max} (version_bytes_max)")
        free = shutil.disk_usage(half).free
        to_come = sum(size for name, size in sizes.items() if not (half / name).exists())
        if to_come + DISK_RESERVE_BYTES > free:
            wanted = f"{to_come} bytes are wanted, {free} are free, and {DISK_RESERVE_BYTES} stay free"
            raise OSError(errno.ENOSPC, f"the disk is too full ({wanted})")

    def _settle(self, half: Path, model: str, version: str) -> None:
        """Check it once more as a whole, and give it its place. Blocks."""
        try:
            verify_manifest(half)
        except ModelError as error:
            raise ModelRefused(str(error), _LATER) from error
        for entry in half.iterdir():
            _sync(entry)
        _sync(half)
        self._repository.config_written(model)
        place = self._repository.folder(model, version)
        if not place.exists():  # else somebody put it there meanwhile: that one is judged when it is loaded
            half.rename(place)
        _sync(half.parent)
        for leftover in half.parent.glob(".fetch-*"):
            shutil.rmtree(leftover, ignore_errors=True)


class _Fetch:
    """One version from one peer."""

    def __init__(
        self, http: aiohttp.ClientSession, files: str, half: Path, metrics: InferenceMetrics, model: str
    ) -> None:
        self._http = http
        self._files = files
        self._half = half
        self._bytes = metrics.fetched_bytes.labels(model)

    async def manifest(self, sha256: str) -> dict[str, str]:
        """The sums of the files, when the peer has the content that is wanted; it and its signature are written."""
        content = await self._small(MANIFEST_FILE)
        if content is None:
            raise _PeerFailed("it does not have the version")
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise _PeerFailed(f"its manifest is {found[:12]}, not {sha256[:12]}")
        try:
            sums = manifest_from(content, f"its {MANIFEST_FILE}").files
        except ModelError as error:
            raise _PeerFailed(str(error)) from error
        strange = [name for name in sums if not name.isprintable()]
        if strange:
            raise _PeerFailed(f"its {MANIFEST_FILE} lists {strange[0][:80]!r}, which is no file of a version")
        (self._half / MANIFEST_FILE).write_bytes(content)
        signature = await self._small(SIGNATURE_FILE)
        (self._half / SIGNATURE_FILE).unlink(missing_ok=True)
        if signature is not None:
            (self._half / SIGNATURE_FILE).write_bytes(signature)
        return sums

    async def sizes(self, sums: dict[str, str]) -> dict[str, int]:
        """How many bytes each file of the version has, as the peer says: at least 1."""
        async with self._http.get(self._files) as answer:
            if answer.status != 200:
                raise _PeerFailed(f"it answers {answer.status} to the list of files")
            try:
                listed = msgspec.json.decode(await _bounded(answer, "the list of files"), type=VersionFiles)
            except msgspec.DecodeError as error:
                raise _PeerFailed(f"its list of files cannot be read: {error}") from error
        sizes = {file.name: file.size_bytes for file in listed.files}
        for name in sums:
            if sizes.get(name, 0) <= 0:
                raise _PeerFailed(f"it lists {name} with {sizes.get(name, 'no')} bytes")
        return {name: sizes[name] for name in sums}

    async def file(self, name: str, sha256: str, bytes_max: int) -> None:
        """Have a file complete and right, from what is there already and what the peer sends."""
        path, part = self._half / name, self._half / f"{name}.part"
        if path.exists():
            if await asyncio.to_thread(_sha256, path) == sha256:
                return
            path.unlink()
        for start in dict.fromkeys((part.stat().st_size if part.exists() else 0, 0)):
            await self._receive(name, part, start, bytes_max)
            found = await asyncio.to_thread(_sha256, part)
            if found == sha256:
                part.rename(path)
                return
            part.unlink()  # what was there of an earlier try may have been the wrong half: once more from the start
        raise _PeerFailed(f"{name} arrived with sha256 {found[:12]}, its manifest says {sha256[:12]}")

    async def _receive(self, name: str, part: Path, start: int, bytes_max: int) -> None:
        headers = {"Range": f"bytes={start}-"} if start else {}
        async with self._http.get(self._url(name), headers=headers) as answer:
            if answer.status == 416:
                return  # nothing is left to send: the sum decides
            if answer.status not in (200, 206):
                raise _PeerFailed(f"it answers {answer.status} to {name}")
            with part.open("ab" if answer.status == 206 else "wb") as opened:
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    opened.write(chunk)
                    self._bytes.inc(len(chunk))
                    if opened.tell() > bytes_max:
                        raise _PeerFailed(f"{name} is longer than the {bytes_max} bytes that it lists")

    def _url(self, name: str) -> str:
        return f"{self._files}/{quote(name, safe='')}"

    async def _small(self, name: str) -> bytes | None:
        async with self._http.get(self._url(name)) as answer:
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise _PeerFailed(f"it answers {answer.status} to {name}")
            return await _bounded(answer, name)


async def _bounded(answer: aiohttp.ClientResponse, name: str) -> bytes:
    """Read a small answer, which a peer that means ill could make endless."""
    content = bytearray()
    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
        content += chunk
        if len(content) > MANIFEST_BYTES_MAX:
            raise _PeerFailed(f"{name} is longer than {MANIFEST_BYTES_MAX} bytes")
    return bytes(content)


async def _to_the_end(work: Callable[[Path, str, str], None], half: Path, model: str, version: str) -> None:
    """Run in a thread what must not be left half done beside the next fetch: a cancellation waits for it."""
    working = asyncio.ensure_future(asyncio.to_thread(work, half, model, version))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
