"""Learning which gateways there are, from any of them.

Asked beside the requests, never before one: `GET /v1/regions` at the first request, then at most every
`discovery_interval_seconds`, and sooner while requests fail. Nobody waits for it, and a gateway that does not know the
question changes nothing."""

from __future__ import annotations

import asyncio

import msgspec

from .clock import Clock
from .epochs import EpochFloor
from .gateways import Gateways
from .transport import Transport

TROUBLE_INTERVAL_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0


class RegionGateways(msgspec.Struct, frozen=True, kw_only=True):
    """One region's gateways."""

    region: str
    gateways: tuple[str, ...] = ()
    active: bool = False


class Regions(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/regions`."""

    epoch: tuple[int, int] | None = None
    """The largest epoch that the gateway knows of."""
    active: str | None = None
    regions: tuple[RegionGateways, ...] = ()


_decode = msgspec.json.Decoder(Regions).decode


class Discovery:
    """Keeps the list of gateways up to date while the client is used."""

    def __init__(
        self, transport: Transport, gateways: Gateways, epochs: EpochFloor, clock: Clock, interval_seconds: float
    ) -> None:
        self._transport = transport
        self._gateways = gateways
        self._epochs = epochs
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None

    def look(self, *, trouble: bool = False) -> None:
        """Ask if it is time to; `trouble`: a request has just failed."""
        if self._interval_seconds <= 0 or (self._asking is not None and not self._asking.done()):
            return
        now = self._clock.elapsed_seconds()
        pause_seconds = min(TROUBLE_INTERVAL_SECONDS, self._interval_seconds) if trouble else self._interval_seconds
        if self._asked_at is not None and now - self._asked_at < pause_seconds:
            return
        self._asked_at = now
        self._asking = asyncio.create_task(self.ask())

    async def ask(self) -> None:
        """Ask the gateway in use."""
        reply = await self._transport.get(f"{self._gateways.current}/v1/regions", TIMEOUT_SECONDS)
        if reply is None or reply.status != 200:
            return
        try:
            found = _decode(reply.body)
        except msgspec.MsgspecError:
            return  # another release's answer: what is known still serves
        if found.epoch is not None:
            self._epochs.note(found.epoch)
        self._gateways.learn(url for region in found.regions for url in region.gateways)

    async def close(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
