"""When an event counts as accepted: once the own log holds it, or once another region does too.

* `local`: the region's own Kafka acknowledged it. What another region lacks when this one is wiped is lost, and listed.
* `remote`: a peer reported, less than two seconds ago and in its present life, that it holds it. Without such a peer a
  request is refused before anything of it is written; one that is not confirmed in time is in the own log all the same,
  and the answer says so.
* `bounded`: as `local`, but nothing is taken while the best peer is further behind than a budget allows.

The mode is a setting, and every request can say another.
"""

import asyncio
from collections.abc import Iterable, Mapping
from math import nan
from typing import Final, Literal, cast, get_args

from services.common.clock import Clock
from services.common.problem import Problem
from services.gateway.settings import GatewaySettings
from services.gateway.watermarks import Watermarks
from services.gateway.wire import Coordinates

AckMode = Literal["local", "remote", "bounded"]
HEADER_ACK: Final = "Meridian-Ack"
EAGER_SECONDS: Final = 10.0
"""For so long after a request that waited for another region, the next one is expected."""


class Acks:
    """The modes, over what peers reported."""

    def __init__(self, settings: GatewaySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._news = asyncio.Event()
        self._waited_at = float("-inf")
        self.watermarks: Watermarks | None = None
        """Set when the log is open."""

    def now(self) -> float:
        """The time in which reports age."""
        return self._clock.boottime()

    def acknowledged(self, partition: int, offset: int, events: int) -> None:
        """The own log acknowledged a record."""
        if self.watermarks is not None:
            self.watermarks.acknowledged(partition, offset, events, self.now())

    def report(self, region: str, incarnation: str, held: Mapping[int, int]) -> None:
        """A peer said what it holds. Raises StaleLife."""
        if self.watermarks is None:
            return
        self.watermarks.report(region, incarnation, held, self.now())
        news, self._news = self._news, asyncio.Event()
        news.set()

    def peers(self) -> int:
        """How many regions reported lately."""
        return len(self.watermarks.fresh(self.now())) if self.watermarks is not None else 0

    def unreplicated_events(self) -> float:
        """Events that the best peer lacks; NaN when that cannot be told."""
        events = self.watermarks.lag(self.now()).events if self.watermarks is not None else None
        return nan if events is None else events

    def mode(self, headers: Mapping[str, str]) -> AckMode:
        """What this request wants. Raises Problem (400)."""
        said = headers.get(HEADER_ACK, self._settings.ack).strip().lower()
        if said not in get_args(AckMode):
            raise Problem(
                400,
                "bad-ack",
                f"{HEADER_ACK} is {said[:32]!r}, which is no mode",
                remedy=f"Send one of {', '.join(get_args(AckMode))}, or leave the header out.",
                members={"field": HEADER_ACK},
            )
        return cast("AckMode", said)

    def admit(self, mode: AckMode) -> None:
        """Refuse what could not be accepted in this mode, before anything is written. Raises Problem (503)."""
        if mode == "local":
            return
        watermarks = self.watermarks
        if watermarks is None:
            raise self._refused("no-peer", "the log is not open yet")
        if mode == "remote":
            if not watermarks.fresh(self.now()):
                raise self._refused("no-peer", "no other region says that it copies this log")
            return
        lag, limits = watermarks.lag(self.now()), self._settings
        if lag.events is None or lag.events > limits.unreplicated_events_max:
            behind = "more events than can be told" if lag.events is None else f"{lag.events} events"
        elif lag.seconds > limits.unreplicated_seconds_max:
            behind = f"{lag.seconds:.1f} s"
        else:
            return
        raise self._refused("replication-behind", f"the other regions are {behind} behind, over the budget")

    def eager(self) -> bool:
        """Whether peers should report every advance at once: it costs both sides more than the copying itself."""
        return self._settings.ack == "remote" or self.now() - self._waited_at < EAGER_SECONDS

    async def uncovered(self, places: Iterable[Coordinates], limit_seconds: float) -> set[tuple[int, int]]:
        """Wait until a peer holds all of them; returns the (partition, offset) that none is known to hold by then."""
        left = list({(where.partition, where.offset) for where in places})
        self._waited_at = self.now()
        try:
            async with asyncio.timeout(limit_seconds):
                while True:
                    news = self._news
                    left = self.watermarks.uncovered(left, self.now()) if self.watermarks is not None else left
                    if not left:
                        return set()
                    await news.wait()
        except TimeoutError:
            return set(left)

    def _refused(self, kind: str, detail: str) -> Problem:
        return Problem(
            503,
            kind,
            f"{detail}; nothing of this request was kept",
            remedy=f"Send it again after Retry-After with the same ids, or accept {HEADER_ACK}: local.",
            retry_after_seconds=self._settings.retry_after_seconds,
        )
