"""A worker of a deployment says in the coordination store that it is there, and finds the others.

Scores work without: the processor of a region asks the worker at the region's own address, so a store that is away
costs nothing but the entry, which ends with the worker anyway, and the versions that only a peer has.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from services.common.clock import Clock, random_bytes
from services.common.region_settings import RegionSettings
from services.coordination.lease import LeaseStore
from services.coordination.registry import Registration, registered

KIND: Final = "inference"
"""Under which workers register."""


class WorkerEntry(msgspec.Struct, frozen=True):
    """What a worker says of itself in the registry."""

    url: str
    model: str


@asynccontextmanager
async def announced(region: RegionSettings, store: LeaseStore | None, model: str, clock: Clock) -> AsyncIterator[None]:
    """Be listed for the length of a block; a region that is alone has no list."""
    if store is None:
        yield
        return
    entry = msgspec.json.encode(WorkerEntry(region.inference_url, model))
    registration = Registration(store, region.name, KIND, random_bytes(8).hex(), entry, clock=clock)
    registering = asyncio.ensure_future(registration.run())
    try:
        yield
    finally:
        registering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await registering


async def peers_of(region: RegionSettings, store: LeaseStore | None) -> list[str]:
    """Return the addresses of the other regions' workers. Raises CoordinationError."""
    if store is None:
        return []
    found: list[str] = []
    for listed in await registered(store, None, KIND):
        if listed.region == region.name:
            continue
        with contextlib.suppress(msgspec.DecodeError):  # a newer release may say it otherwise
            found.append(msgspec.json.decode(listed.value, type=WorkerEntry).url)
    return sorted(set(found))
