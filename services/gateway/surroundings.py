"""What a gateway needs from outside its region: the coordination store, who may act, where the others are.

A region that is alone keeps its record in a file, and its right to act needs nobody; the parts that follow others do
not exist for it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.deployment import Deployment
from services.common.logging import bind_process
from services.common.region_settings import RegionSettings
from services.controller.client import USUAL_PACE, LeaseAnswer, LeaseFollower, LeasePace
from services.coordination import KeyValueStore
from services.coordination.lease import LeaseStore
from services.coordination.opening import opened_lease_store, opened_store
from services.coordination.region_record import EPOCH_OPEN
from services.coordination.registry import Registration
from services.coordination.settings import CoordinationSettings
from services.gateway.client import KIND, GatewayEntry
from services.gateway.core import Core
from services.gateway.routing import Alone, Rights


@dataclass(frozen=True, slots=True)
class _Others:
    """The parts that a region has only when it is not alone."""

    store: LeaseStore
    follower: LeaseFollower
    url: str
    region: str
    clock: Clock


class Surroundings:
    """Open for as long as the gateway lives."""

    def __init__(self, store: KeyValueStore, addresses: Mapping[str, str]) -> None:
        self.store = store
        self.addresses = addresses
        """The address of each region's gateway, by the deployment's file."""
        self._others: _Others | None = None
        self._core: Core | None = None

    @classmethod
    async def enter(
        cls, stack: AsyncExitStack, region: RegionSettings, settings: CoordinationSettings, clock: Clock
    ) -> Surroundings:
        """Open what the region needs; `stack` closes it. Raises SettingsError."""
        if region.is_alone:
            bind_process(epoch=list(EPOCH_OPEN))
            store = await stack.enter_async_context(opened_store(region, settings, clock))
            return cls(store, {region.name: region.gateway_for_apps})
        deployment = region.load_deployment()
        leases = await stack.enter_async_context(opened_lease_store(region, settings, clock))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        return cls.among(region, deployment, leases, session, clock)

    @classmethod
    def among(
        cls,
        region: RegionSettings,
        deployment: Deployment,
        store: LeaseStore,
        session: aiohttp.ClientSession,
        clock: Clock,
        pace: LeasePace = USUAL_PACE,
    ) -> Surroundings:
        """Among the other regions of a deployment, with a store and a session that are open."""
        found = cls(store, {site.name: site.gateway_for_apps for site in deployment.regions})
        follower = LeaseFollower(region.control_url, session, clock, found._changed, pace)
        found._others = _Others(store, follower, region.gateway_for_apps, region.name, clock)
        return found

    @property
    def rights(self) -> Rights:
        """Who may act."""
        return Alone() if self._others is None else self._others.follower

    def tasks(self, core: Core) -> list[Coroutine[Any, Any, None]]:
        """What runs from the start: following the lease, before anything could be answered under it."""
        self._core = core
        return [] if self._others is None else [self._others.follower.run()]

    async def look(self, core: Core) -> None:
        """Learn of the lives of all regions. Raises CoordinationError."""
        if self._others is not None:
            await core.directory.refresh(self._others.store)

    def open_tasks(self, core: Core, on_news: Callable[[], None]) -> list[Coroutine[Any, Any, None]]:
        """What runs while the log is open: following the other regions, and saying where this gateway is."""
        others = self._others
        if others is None:
            return []
        settings = core.settings
        entry = msgspec.json.encode(GatewayEntry(others.url))
        registration = Registration(
            others.store,
            others.region,
            KIND,
            core.desk.reply_to,
            entry,
            clock=others.clock,
            ttl_seconds=settings.registration_seconds,
        )
        follow = core.directory.follow(others.store, others.clock, settings.view_interval_seconds, on_news)
        return [follow, registration.run()]

    def _changed(self, answer: LeaseAnswer) -> None:
        """The controller says something new: whoever waits for an answer should not wait in vain."""
        bind_process(epoch=list(answer.largest_epoch))
        if self._core is None:
            return
        if answer.active:
            # A processor that answered nobody while its gate was shut is not silent.
            self._core.watch.answered()
        else:
            self._core.desk.abandon(f"region {answer.region} gives no rankings any more: {answer.reason}")
        self._core.opening.notice()
