"""What this gateway knows of the other regions: which lives there were, and where gateways are.

Both are read from the coordination store again and again, and the last answer stays when the store is away: events are
taken all the same, and a read token of a life that was known yesterday is known today. Where no gateway of a region is
registered, the deployment's own address for it is told.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from aiohttp import web

from services.common.clock import Clock
from services.common.logging import get_logger
from services.controller.client import NO_EPOCH
from services.coordination import CoordinationError
from services.coordination.lease import LeaseStore
from services.coordination.lives import Life, all_lives, incarnations_to_subscribe
from services.coordination.region_record import EPOCH_OPEN
from services.coordination.registry import Registered, registered
from services.gateway.client import KIND, GatewayEntry
from services.gateway.routing import Rights
from services.gateway.wire import RegionGateways, RegionsAnswer
from streams.logs import events_log, inbox_topic

log = get_logger(__name__)
_encode: Final = msgspec.json.Encoder().encode


class Directory:
    """The last known lives and gateways. Without other regions, it knows the own one."""

    def __init__(self, region: str, rights: Rights, addresses: Mapping[str, str]) -> None:
        self._region = region
        self._rights = rights
        self._addresses = dict(addresses)
        """The address of each region's gateway, by the deployment's file."""
        self._gateways: dict[str, list[str]] = {}
        self._lives: list[Life] = []
        self._own_life = ""
        self._known_logs: frozenset[str] = frozenset()

    @property
    def known_logs(self) -> frozenset[str]:
        """The events logs of all lives, and of the one that each region would open next."""
        return self._known_logs

    def life(self, incarnation: str) -> Life | None:
        """What is known of a life."""
        return next((life for life in self._lives if life.incarnation == incarnation), None)

    def lives_as(self, incarnation: str) -> None:
        """The own region's life, which a region that is alone has nobody else to tell."""
        self._own_life = incarnation

    def take(self, lives: list[Life], gateways: list[Registered]) -> None:
        """Replace what is known."""
        self._lives = lives
        self._known_logs = frozenset(map(events_log, incarnations_to_subscribe(lives, self._addresses)))
        found: dict[str, list[str]] = {}
        for entry in gateways:
            try:
                found.setdefault(entry.region, []).append(msgspec.json.decode(entry.value, type=GatewayEntry).url)
            except msgspec.DecodeError as error:
                log.warning("a registered gateway does not say where it is", entry=entry.instance, reason=str(error))
        self._gateways = {region: sorted(urls) for region, urls in found.items()}

    async def refresh(self, store: LeaseStore) -> None:
        """Read all of it anew. Raises CoordinationError."""
        self.take(await all_lives(store), await registered(store, None, KIND))

    async def follow(
        self, store: LeaseStore, clock: Clock, interval_seconds: float, on_news: Callable[[], None]
    ) -> None:
        """Read it anew for ever; a store that is away changes nothing."""
        away = False
        while True:
            try:
                await self.refresh(store)
            except CoordinationError as error:
                if not away:
                    log.warning("the view of the other regions grows old", reason=str(error))
                away = True
            else:
                away = False
                on_news()
            await clock.sleep(interval_seconds)

    def answer(self) -> RegionsAnswer:
        """Who is active, and where everybody is."""
        term, leader, age = self._rights.term(), self._rights.leader, self._rights.view_age_seconds()
        active = self._region if term.active else None
        if active is None and leader is not None and leader.region != self._region:
            active = leader.region
        names = sorted({*self._addresses, *self._gateways})
        epoch = max(self._rights.largest_epoch, term.epoch)
        return RegionsAnswer(
            region=self._region,
            active=active,
            # A region that is alone acts without an election.
            epoch=EPOCH_OPEN if term.active and epoch == NO_EPOCH else epoch,
            view_age_ms=None if age is None else int(age * 1000),
            regions=[
                RegionGateways(
                    region=name, gateways=self._gateways_of(name), active=name == active, inbox=self._inbox_of(name)
                )
                for name in names
            ],
        )

    def _inbox_of(self, region: str) -> str | None:
        newest = max(
            (life for life in self._lives if life.region == region), key=lambda life: life.number, default=None
        )
        if newest is not None:
            return None if newest.sealed else inbox_topic(newest.incarnation)
        return inbox_topic(self._own_life) if region == self._region and self._own_life else None

    def _gateways_of(self, region: str) -> list[str]:
        address = self._addresses.get(region)
        return self._gateways.get(region) or ([] if address is None else [address])

    async def regions(self, _: web.Request) -> web.Response:
        """The handler of the route."""
        return web.Response(body=_encode(self.answer()), content_type="application/json")
