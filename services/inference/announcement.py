"""A worker of a deployment says in the coordination store that it is there; the entry ends with it.

Scores work without: the processor of a region asks the worker at the region's own address, so a store that is away
costs nothing but the entry.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from services.common.clock import Clock, random_bytes
from services.common.region_settings import RegionSettings
from services.coordination.opening import opened_lease_store
from services.coordination.registry import Registration
from services.coordination.settings import CoordinationSettings

KIND: Final = "inference"
"""Under which workers register."""


class WorkerEntry(msgspec.Struct, frozen=True):
    """What a worker says of itself in the registry."""

    url: str
    model: str


@asynccontextmanager
async def announced(
    region: RegionSettings, coordination: CoordinationSettings, model: str, clock: Clock
) -> AsyncIterator[None]:
    """Be listed for the length of a block; a region that is alone has no list. Raises SettingsError."""
    if region.is_alone:
        yield
        return
    entry = msgspec.json.encode(WorkerEntry(region.inference_url, model))
    async with opened_lease_store(region, coordination, clock) as store:
        registration = Registration(store, region.name, KIND, random_bytes(8).hex(), entry, clock=clock)
        registering = asyncio.ensure_future(registration.run())
        try:
            yield
        finally:
            registering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await registering
