"""Following the region's lease: a new term begins with its markers, and only then the gate opens.

Losing a term needs no work here: the gate asks the lease before each effect. What this task does is to open it again,
and to say in the log what happened.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from services.common.clock import Clock
from services.common.logging import get_logger
from services.common.waiting import news_within
from services.controller.client import Term
from services.processor.gate import LeasedGate
from streams.asks import Epoch
from streams.delivery import DeliveryError
from streams.truncation import LogUnreachableError

log = get_logger(__name__)

RETRY_SECONDS = 0.05
CHECK_SECONDS = 0.5
"""How often the end of a term is looked for, of which there are no news: it runs out."""


class Lease(Protocol):
    """What is known of the region's right to act; `LeaseFollower` is one."""

    def term(self) -> Term:
        """What holds right now."""


class WritesMarkers(Protocol):
    """Begins a term in the log."""

    async def write(self, epoch: Epoch) -> None:
        """Write and wait. Raises LogUnreachableError, DeliveryError."""


class TermKeeper:
    """Opens and shuts a `LeasedGate` as the region's terms come and go. `run` is its task; `news` wakes it."""

    def __init__(
        self,
        gate: LeasedGate,
        markers: WritesMarkers,
        lease: Lease,
        news: asyncio.Event,
        clock: Clock,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._gate = gate
        self._markers = markers
        self._lease = lease
        self._clock = clock
        self._news = news
        self._check_seconds = check_seconds
        self._begun: Epoch | None = None
        self._was_active = False

    async def run(self) -> None:
        """Follow the lease for ever."""
        while True:
            await self._step()
            await news_within(self._news, self._check_seconds)
            self._news.clear()

    async def _step(self) -> None:
        term = self._lease.term()
        if term.active != self._was_active:
            self._was_active = term.active
            log.info("a term begins" if term.active else "the term is over", epoch=list(term.epoch), reason=term.reason)
        if not term.active or self._begun == term.epoch or self._gate.ended:
            return
        if term.epoch < self._gate.epoch:
            self._gate.shut(f"epoch {term.epoch} lies behind {self._gate.epoch}, which this region had")
            return
        started = self._clock.monotonic()
        self._gate.shut(f"the markers of epoch {term.epoch} are being written")
        if not await self._write(term.epoch):
            self._news.set()
            return
        self._begun = term.epoch
        self._gate.open(term.epoch, None)
        log.info("the gate is open", epoch=list(term.epoch), seconds=round(self._clock.monotonic() - started, 3))

    async def _write(self, epoch: Epoch) -> bool:
        """Write the markers as long as the term lasts; whether they are written and it still lasts."""
        while self._holds(epoch):
            try:
                await self._markers.write(epoch)
            except (LogUnreachableError, DeliveryError) as problem:
                log.warning("the markers could not be written, trying again", epoch=list(epoch), reason=str(problem))
                await self._clock.sleep(RETRY_SECONDS)
            else:
                return self._holds(epoch)
        return False

    def _holds(self, epoch: Epoch) -> bool:
        term = self._lease.term()
        return term.active and term.epoch == epoch
