"""Who is there: processes say where they are under a leased key, so that what is listed is alive.

A registration that is lost (etcd away, the process stopped for a while) is made again by itself. It is news, not a
right: nobody may conclude from an entry, or from its absence, that somebody may act.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from services.common.clock import Clock
from services.common.logging import get_logger
from services.common.waiting import news_within
from services.coordination.base import ABSENT, CasConflict, CoordinationError, StoreUnavailable
from services.coordination.keys import REGISTRY, registry_key
from services.coordination.lease import LeaseStore

log = get_logger(__name__)

TTL_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.5
LEAVE_SECONDS: Final = 1.0
"""How long a process that ends waits for the store; after that its entry ends with its lease."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One process that is there."""

    region: str
    kind: str
    instance: str
    value: bytes


class Registration:
    """Keeps one entry of the registry alive. `run` is its task; `update` changes what it says."""

    def __init__(
        self,
        store: LeaseStore,
        region: str,
        kind: str,
        instance: str,
        value: bytes,
        *,
        clock: Clock,
        ttl_seconds: float = TTL_SECONDS,
    ) -> None:
        self._store = store
        self._key = registry_key(region, kind, instance)
        self._value = value
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._changed = asyncio.Event()
        self._lease_id: int | None = None
        self._revision = ABSENT
        self._written: bytes | None = None

    @property
    def is_registered(self) -> bool:
        """Whether the entry stood when the store was last heard of."""
        return self._written is not None

    def update(self, value: bytes) -> None:
        """Say something else from now on; only the last of several quick updates may be written."""
        if value != self._value:
            self._value = value
            self._changed.set()

    async def run(self) -> None:
        """Register, renew and register again, for ever; when cancelled, leave the registry."""
        try:
            while True:
                try:
                    await self._keep()
                except CoordinationError as problem:
                    if self.is_registered:
                        log.info("the registration was lost, registering again", key=self._key, reason=str(problem))
                    self._written = None
                    if not isinstance(problem, StoreUnavailable):
                        self._lease_id = None
                    await self._clock.sleep(RETRY_SECONDS)
        finally:
            await self._leave()

    async def _keep(self) -> None:
        """Write the entry under a live lease and keep both up to date; raises when that is no longer so."""
        if self._lease_id is None:
            self._lease_id = (await self._store.grant(self._ttl_seconds)).lease_id
        while True:
            # Cleared before reading the value, so that an update from here on is not missed.
            self._changed.clear()
            if self._written != self._value:
                await self._write(self._lease_id, self._value)
            await news_within(self._changed, self._ttl_seconds / 3)
            await self._store.keep_alive(self._lease_id)

    async def _write(self, lease_id: int, value: bytes) -> None:
        """Put the entry, whatever stood there: the instance's name is its own, so it can only be its earlier self."""
        try:
            written = await self._store.compare_and_put(self._key, value, self._revision, lease_id=lease_id)
        except CasConflict:
            found = await self._store.get(self._key)
            self._revision = found.revision if found else ABSENT
            written = await self._store.compare_and_put(self._key, value, self._revision, lease_id=lease_id)
        self._revision = written.revision
        self._written = value

    async def _leave(self) -> None:
        if self._lease_id is None:
            return
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._store.revoke(self._lease_id)
        except (CoordinationError, TimeoutError) as problem:
            log.info("the registration ends by itself", key=self._key, reason=str(problem))


async def registered(store: LeaseStore, region: str | None, kind: str) -> list[Registered]:
    """Return who of a kind is there, in one region or (None) in all. Raises StoreUnavailable."""
    prefix = f"{REGISTRY}{region}/{kind}/" if region is not None else REGISTRY
    found = [_parse(entry.key, entry.value) for entry in await store.list(prefix)]
    return [entry for entry in found if entry is not None and entry.kind == kind]


def _parse(key: str, value: bytes) -> Registered | None:
    parts = key.removeprefix(REGISTRY).split("/", 2)
    return Registered(parts[0], parts[1], parts[2], value) if len(parts) == 3 else None
