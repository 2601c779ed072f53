"""Collecting evidence at the end: raw logs of every region, states, markers and receipts, written down as they stand.

The logs are read with a consumer of the ledger's, which knows the form of a frame and nothing of the fold.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import aiohttp
import msgspec

from region_sim.asking import Asking
from region_sim.evidence import (
    ForecastSeen,
    HeldEnds,
    ReceiptSeen,
    ReceiptsRead,
    StateSeen,
    TransitionSeen,
)
from region_sim.history import HistoryWriter
from region_sim.predictions import NotPredicted, ask_model
from region_sim.reading import DEAD, EVENTS, RawRecords, origin_ends, read_log
from region_sim.terms import TermWatch
from services.common.clock import Clock
from services.common.deployment import Site
from services.ledger.errors import LogUnreadable
from services.ledger.rawlog import RawLog
from services.ledger.verdict import Claims
from services.receipts.client import history as transitions
from services.receipts.client import receipts
from services.receipts.model import Receipt
from streams.dead_letter import DeadLetter, read_dead_letters
from streams.frame import Decode, decode_frame
from streams.logs import events_log

__all__ = ["Collector", "RawRecords"]

WHO = "collector"
POLL_SECONDS = 0.25
RECEIPT_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError)


class Collector:
    """Writes evidence into a history."""

    def __init__(self, asking: Asking, history: HistoryWriter, clock: Clock) -> None:
        self._asking = asking
        self._history = history
        self._clock = clock
        self.decode: Decode = decode_frame
        """Opens a record of an events log."""

    def raw(self, site: Site, log: str) -> RawRecords:
        """A log of a site, record by record; the log "" only lists names. A model of a world has logs of its own."""
        return RawLog(site.bootstrap, log)

    def origin_ends(self, site: Site, log: str) -> dict[int, int]:
        """By partition, the next offset in the origin log, from the last record of a site's copy. Blocks."""
        return origin_ends(site.bootstrap, log)

    def dead_letters(self, site: Site, log: str) -> list[DeadLetter]:
        """What lies in a site's log of dead letters. Blocks. Raises DeliveryError, KafkaException."""
        return list(read_dead_letters(site.bootstrap, log.removesuffix(DEAD)))

    async def forecast(self, active: str) -> None:
        """What the first of the other regions says whose controller answers; nothing when none does in time."""
        for site in self._asking.deployment.regions:
            if site.name == active:
                continue
            status = await self._asking.status(site)
            if status is None or status.leader is None:
                continue
            others = [line for line in status.regions if line.region != status.leader.region]
            piece = ForecastSeen(
                active=status.leader.region,
                regions={line.region: line.rto_forecast for line in others if line.rto_forecast is not None},
                unknown={line.region: line.rto_unknown for line in others if line.rto_forecast is None},
            )
            self._history.add("info", "collect", WHO, region=site.name, evidence=piece)
            return

    async def held_ends(self, survivor: Site, incarnation: str) -> None:
        """How much of a lost life's events log a survivor holds now."""
        log = events_log(incarnation)
        try:
            ends = await asyncio.to_thread(self.origin_ends, survivor, log)
        except LogUnreadable as error:
            self._history.add("fail", "collect", WHO, region=survivor.name, error=str(error))
            return
        piece = HeldEnds(region=survivor.name, log=log, next_offsets=ends)
        self._history.add("info", "collect", WHO, region=survivor.name, evidence=piece)

    async def settled_states(self, seconds_max: float) -> str | None:
        """Wait until all regions stand at one frontier that covers their logs; write down what they say then.

        Returns why they do not stand there; None when they do.
        """
        deadline = self._clock.monotonic() + seconds_max
        while True:
            states = {site.name: await self._asking.claims(site) for site in self._asking.deployment.regions}
            problem = _apart(states) or await asyncio.to_thread(self._uncovered, states)
            if problem is None or self._clock.monotonic() >= deadline:
                break
            await self._clock.sleep(POLL_SECONDS)
        for region, claims in states.items():
            if claims is not None:
                self._history.add("info", "collect", WHO, region=region, evidence=_state(region, claims))
        return problem

    def _uncovered(self, states: dict[str, Claims | None]) -> str | None:
        """Why a region's state does not reach the ends of its own logs."""
        for site in self._asking.deployment.regions:
            claims = states[site.name]
            assert claims is not None
            try:
                for log in self._names(site, EVENTS):
                    folded = claims.next_offsets(log)
                    ends = self.raw(site, log).ends()
                    if any(folded.get(partition, 0) < end for partition, end in ends.items()):
                        # A copy may hold a record twice: then it is longer than what it is a copy of.
                        ends = self.origin_ends(site, log)
                    for partition, end in ends.items():
                        if folded.get(partition, 0) < end:
                            return f"{site.name} has folded {folded.get(partition, 0)} of {end} in {log}/{partition}"
            except LogUnreadable as error:
                return str(error)
        return None

    async def logs(self) -> None:
        """All events logs, the markers of all rankings logs, and all dead letters, of every region."""
        await asyncio.gather(*(self._logs_of(site) for site in self._asking.deployment.regions))

    async def _logs_of(self, site: Site) -> None:
        try:
            for log in await asyncio.to_thread(self._names, site):
                for piece in await asyncio.to_thread(read_log, self, site, log):
                    if isinstance(piece, str):
                        self._history.add("fail", "collect", WHO, region=site.name, error=piece)
                    else:
                        self._history.add("info", "collect", WHO, region=site.name, evidence=piece)
        except LogUnreadable as error:
            self._history.add("fail", "collect", WHO, region=site.name, error=str(error))

    def _names(self, site: Site, ending: str = "") -> list[str]:
        return [name for name in self.raw(site, "").names() if name.endswith(ending)]

    async def receipts(self, closed_seconds_max: float) -> None:
        """The receipts, as every controller shows them; waits a little for those that close by healing."""
        deadline = self._clock.monotonic() + closed_seconds_max
        for site in self._asking.deployment.regions:
            while True:
                try:
                    found = await receipts(self._asking.session, site.url("control"))
                except RECEIPT_FAILURES as error:
                    self._history.add("fail", "collect", WHO, region=site.name, error=f"receipts: {error}")
                    break
                if all(receipt.state != "open" for receipt in found) or self._clock.monotonic() >= deadline:
                    self._receipts(site, found)
                    break
                await self._clock.sleep(POLL_SECONDS)

    async def transitions(self) -> None:
        """The controllers' history, as the first controller that answers shows it."""
        problems = []
        for site in self._asking.deployment.regions:
            try:
                answer = await transitions(self._asking.session, site.url("control"))
            except RECEIPT_FAILURES as error:
                problems.append(f"{site.name}: {error}")
                continue
            if answer.broken:
                self._history.add("fail", "collect", WHO, region=site.name, error=f"history: {answer.broken}")
            for entry in answer.entries:
                piece = TransitionSeen(
                    seq=entry.sequence,
                    at_ms=entry.at_ms,
                    region=entry.region,
                    kind=entry.kind,
                    sentence=entry.sentence,
                    by=entry.by,
                    epoch=entry.epoch,
                    operation_id=entry.operation_id,
                )
                self._history.add("info", "collect", WHO, region=site.name, evidence=piece)
            return
        self._history.add("fail", "collect", WHO, error=f"history: {'; '.join(problems)}")

    def terms(self, watch: TermWatch) -> None:
        """The terms that were seen from outside."""
        if watch.missed or watch.damaged:
            error = f"terms: some may be missing, and {watch.damaged} could not be read"
            self._history.add("fail", "collect", WHO, error=error)
        for term in watch.seen():
            self._history.add("info", "collect", WHO, region=term.region, evidence=term)

    async def predictions(self, when: Literal["before", "after"]) -> None:
        """What every region's model says to the same questions."""
        for site in self._asking.deployment.regions:
            try:
                seen = await ask_model(site.name, when, site.url("inference"), self._clock)
            except NotPredicted as error:
                self._history.add("fail", "collect", WHO, region=site.name, error=f"predictions {when}: {error}")
                continue
            self._history.add("info", "collect", WHO, region=site.name, evidence=seen)

    def _receipts(self, site: Site, found: list[Receipt]) -> None:
        for receipt in found:
            piece = ReceiptSeen(seen_in=site.name, receipt=receipt)
            self._history.add("info", "collect", WHO, region=site.name, evidence=piece)
        read = ReceiptsRead(seen_in=site.name, count=len(found))
        self._history.add("info", "collect", WHO, region=site.name, evidence=read)


def _apart(states: dict[str, Claims | None]) -> str | None:
    """Why the regions do not stand at one frontier; None when they do."""
    frontiers: list[dict[tuple[str, int], int]] = []
    for region, claims in states.items():
        if claims is None:
            return f"{region} does not say what it has folded"
        frontiers.append({(log, partition): n for log, partition, n in claims.frontier if n > 0})
    different = [place for other in frontiers[1:] for place, _ in frontiers[0].items() ^ other.items()]
    return f"the regions' frontiers differ in {different[0][0]}/{different[0][1]}" if different else None


def _state(region: str, claims: Claims) -> StateSeen:
    return StateSeen(
        region=region,
        incarnation=claims.incarnation,
        frontier=list(claims.frontier),
        digest=claims.digest,
        events=claims.events,
        item_events=claims.item_events,
        late=claims.late,
        dead=claims.dead,
    )
