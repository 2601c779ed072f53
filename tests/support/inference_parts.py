"""Inference workers in this process: a region's repository, what follows the aliases, and the HTTP door for peers."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from models.registry import MANIFEST_FILE
from models.signing import public_key, sign
from services.common.clock import Clock, SystemClock
from services.common.http import serving
from services.coordination import KeyValueStore
from services.coordination.model_records import AliasRecord, VersionRecord, alias, point_alias, register_version
from services.inference.follower import Follower
from services.inference.repository import Repository
from services.inference.server import new_app, new_worker
from services.inference.settings import InferenceSettings
from services.inference.worker import Worker
from tests.support.tiny_model import write_manifest, write_version

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
MODEL = "ranker"

NO_PEERS: list[str] = []


class SteppedClock(SystemClock):
    """Elapsed time moves when the test says so."""

    def __init__(self) -> None:
        self.elapsed_seconds = 1000.0

    def monotonic(self) -> float:
        return self.elapsed_seconds


@dataclass(slots=True)
class Region:
    """One region's worker."""

    worker: Worker
    follower: Follower
    repository: Repository
    url: str

    @property
    def serving(self) -> str:
        """The version that answers now; empty when none does."""
        served = self.worker.table.current(MODEL)
        return "" if served is None else served.version

    @property
    def blocker(self) -> str:
        """Why it does not rank as the champion should; empty when it does."""
        return self.follower.blocker(self.worker) or ""

    async def look(self) -> None:
        """What its loop does each second."""
        await self.follower.look(self.worker)


def own_repository(directory: Path, name: str, *, shipped: Sequence[str] = ("1",)) -> Repository:
    """A region's own repository, filled from shipped versions; signatures by KEY count."""
    source = directory / "shipped"
    for version in shipped:
        if not (source / MODEL / version).exists():
            write_version(source, version, bias=float(version))
    trusted = directory / "trusted-model-keys"
    trusted.write_text(f"{public_key(KEY).hex()}  # tests\n")
    repository = Repository(directory / name / "models", source, trusted, asks_for_signatures=True)
    repository.fill()
    return repository


def add_version(
    repository: Repository,
    version: str,
    *,
    key: bytes | None = KEY,
    change: Callable[[Path], object] | None = None,
    model: str = MODEL,
) -> str:
    """Put a version of its own into a repository, as a push does; returns its sha256. `change` spoils it first."""
    folder = write_version(repository.path, version, model=model, bias=float(version))
    if change is not None:
        change(folder)
        write_manifest(folder)
    if key is not None:
        sign(folder, key)
    return hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()


async def promote(
    store: KeyValueStore, version: str, sha256: str, name: str = "champion", model: str = MODEL
) -> AliasRecord:
    """Register a version and point an alias at it."""
    record = VersionRecord(version=version, sha256=sha256, size_bytes=1, at_ms=0, by="test")
    await register_version(store, model, record)
    before = await alias(store, model, name)
    expected = None if before is None else before.version
    return await point_alias(store, model, name, version, expected=expected, at_ms=0, by="test")


@asynccontextmanager
async def region(
    repository: Repository,
    store: KeyValueStore,
    peers: list[str] | Callable[[], Awaitable[list[str]]],
    *,
    clock: Clock | None = None,
    start: bool = True,
    **settings: object,
) -> AsyncIterator[Region]:
    """A started worker that listens; its loop runs when the test says so."""
    options = InferenceSettings(**{"batch_buckets": (1, 2), "candidate_buckets": (64,), **settings})  # type: ignore[arg-type]

    async def listed() -> list[str]:
        return peers

    find = listed if isinstance(peers, list) else peers
    worker, follower = new_worker(options, repository, store, find, clock or SystemClock())
    try:
        if start:
            await worker.start()
        async with serving(new_app(worker, follower, options), "127.0.0.1", 0) as port:
            yield Region(worker, follower, repository, f"http://127.0.0.1:{port}")
    finally:
        await worker.close()
