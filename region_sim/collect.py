"""Collecting evidence at the end: raw logs of every region, states, markers and receipts, written down as they stand.

The logs are read with a consumer of the ledger's, which knows the form of a frame and nothing of the fold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Literal, Protocol

import aiohttp
import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from region_sim.asking import Asking
from region_sim.evidence import (
    DeadSeen,
    HeldEnds,
    LogRead,
    LogRows,
    MarkerSeen,
    ReceiptSeen,
    ReceiptsRead,
    Row,
    StateSeen,
    TransitionSeen,
)
from region_sim.history import HistoryWriter
from region_sim.predictions import NotPredicted, ask_model
from region_sim.terms import TermWatch
from services.common.clock import Clock
from services.common.deployment import Site
from services.ledger.errors import LogUnreadable
from services.ledger.rawlog import RawLog, RawRecord
from services.ledger.verdict import Claims
from services.receipts.client import history as transitions
from services.receipts.client import receipts
from services.receipts.model import Receipt
from streams.copies import hole_end, origin_of
from streams.dead_letter import DeadLetter, read_dead_letters
from streams.delivery import DeliveryError
from streams.epochs import decode_marker
from streams.errors import FrameCorrupt, UnknownFrameVersion
from streams.frame import Columns, decode_frame
from streams.kinds import Kind
from streams.logs import consumer_settings, events_log

WHO = "collector"
DEAD = ".dead"
ROWS_AN_ENTRY = 500
POLL_SECONDS = 0.25
LAST_RECORD_SECONDS = 5.0
RECEIPT_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError)


class RawRecords(Protocol):
    """What is read of one log."""

    def names(self) -> list[str]:
        """All logs there. Raises LogUnreadable."""

    def ends(self) -> dict[int, int]:
        """After the last record, by partition. Raises LogUnreadable."""

    def read(self, until: dict[int, int]) -> Iterator[RawRecord]:
        """All records below `until`. Raises LogUnreadable."""


class Collector:
    """Writes evidence into a history."""

    def __init__(self, asking: Asking, history: HistoryWriter, clock: Clock) -> None:
        self._asking = asking
        self._history = history
        self._clock = clock

    def raw(self, site: Site, log: str) -> RawRecords:
        """A log of a site, record by record; the log "" only lists names. A model of a world has logs of its own."""
        return RawLog(site.bootstrap, log)

    def origin_ends(self, site: Site, log: str) -> dict[int, int]:
        """By partition, the next offset in the origin log, from the last record of a site's copy. Blocks."""
        return _origin_ends(site.bootstrap, log)

    def dead_letters(self, site: Site, log: str) -> list[DeadLetter]:
        """What lies in a site's log of dead letters. Blocks. Raises DeliveryError, KafkaException."""
        return list(read_dead_letters(site.bootstrap, log.removesuffix(DEAD)))

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
                for log in self._logs(site, ".events"):
                    folded = claims.next_offsets(log)
                    for partition, end in self.raw(site, log).ends().items():
                        if folded.get(partition, 0) < end:
                            return f"{site.name} has folded {folded.get(partition, 0)} of {end} in {log}/{partition}"
            except LogUnreadable as error:
                return str(error)
        return None

    async def logs(self) -> None:
        """All events logs, the markers of all rankings logs, and all dead letters, of every region."""
        for site in self._asking.deployment.regions:
            try:
                for log in await asyncio.to_thread(self._logs, site, ".events"):
                    await asyncio.to_thread(self._events, site, log)
                for log in await asyncio.to_thread(self._logs, site, ".rankings"):
                    await asyncio.to_thread(self._markers, site, log)
                for log in await asyncio.to_thread(self._logs, site, DEAD):
                    await asyncio.to_thread(self._dead, site, log)
            except LogUnreadable as error:
                self._history.add("fail", "collect", WHO, region=site.name, error=str(error))

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

    def _dead(self, site: Site, log: str) -> None:
        try:
            letters = self.dead_letters(site, log)
        except (DeliveryError, KafkaException) as error:
            raise LogUnreadable(f"{log} at {site.bootstrap} cannot be read: {error}") from error
        places = [(letter.origin.log, letter.origin.partition, letter.origin.offset) for letter in letters]
        piece = DeadSeen(region=site.name, log=log, places=places)
        self._history.add("info", "collect", WHO, region=site.name, evidence=piece)

    def _receipts(self, site: Site, found: list[Receipt]) -> None:
        for receipt in found:
            piece = ReceiptSeen(seen_in=site.name, receipt=receipt)
            self._history.add("info", "collect", WHO, region=site.name, evidence=piece)
        read = ReceiptsRead(seen_in=site.name, count=len(found))
        self._history.add("info", "collect", WHO, region=site.name, evidence=read)

    def _events(self, site: Site, log: str) -> None:
        raw = self.raw(site, log)
        rows: dict[int, list[Row]] = {}
        ends: dict[int, int] = {}
        corrupt = holes = 0
        for record in raw.read(raw.ends()):
            hole = hole_end(record.headers)
            ends[record.partition] = max(ends.get(record.partition, 0), hole or record.offset + 1)
            if hole is not None:
                holes += 1
                continue
            try:
                columns = decode_frame(record.value, record.headers)
            except (FrameCorrupt, UnknownFrameVersion):
                corrupt += 1
                continue
            waiting = rows.setdefault(record.partition, [])
            waiting.extend(_rows(record, columns))
            if len(waiting) >= ROWS_AN_ENTRY:
                self._add_rows(site, log, record.partition, rows.pop(record.partition))
        for partition, left in rows.items():
            self._add_rows(site, log, partition, left)
        read = LogRead(region=site.name, log=log, next_offsets=ends, corrupt=corrupt, holes=holes)
        self._history.add("info", "collect", WHO, region=site.name, evidence=read)

    def _logs(self, site: Site, ending: str) -> list[str]:
        return [name for name in self.raw(site, "").names() if name.endswith(ending)]

    def _add_rows(self, site: Site, log: str, partition: int, rows: list[Row]) -> None:
        piece = LogRows(region=site.name, log=log, partition=partition, rows=rows)
        self._history.add("info", "collect", WHO, region=site.name, evidence=piece)

    def _markers(self, site: Site, log: str) -> None:
        raw = self.raw(site, log)
        for record in raw.read(raw.ends()):
            try:
                marker = decode_marker(record.value, record.headers)
            except msgspec.DecodeError as error:
                self._history.add("fail", "collect", WHO, region=site.name, error=f"{log}: {error}")
                continue
            if marker is not None:
                piece = MarkerSeen(
                    seen_in=site.name,
                    log=log,
                    partition=record.partition,
                    offset=record.offset,
                    region=marker.region,
                    incarnation=marker.incarnation,
                    epoch=marker.epoch,
                )
                self._history.add("info", "collect", WHO, region=site.name, evidence=piece)


def _rows(record: RawRecord, columns: Columns) -> Iterator[Row]:
    for index in range(columns.count):
        event = columns.row(index)
        yield Row(
            offset=record.offset,
            index=index,
            identity=event.identity.hex(),
            kind=event.kind.word,
            time_ms=event.time_ms,
            user=event.user,
            session=event.session,
            position=event.position,
            query=event.query,
            item=event.item,
            ranking=event.ranking.hex(),
            body="" if event.kind is Kind.SERVED else event.body.decode(),
        )


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


def _origin_ends(bootstrap: str, log: str) -> dict[int, int]:
    """By partition, the next offset in the origin log, from the last record that lies in this copy."""
    ends = RawLog(bootstrap, log).ends()
    # One partition after the other: a fetch that waits on the last one would hold up the next.
    consumer = Consumer({**consumer_settings(bootstrap, "region-sim"), "fetch.wait.max.ms": 10})
    try:
        return {p: _origin_end(consumer, log, p, end) if end else 0 for p, end in ends.items()}
    except KafkaException as error:
        raise LogUnreadable(f"the end of {log} at {bootstrap} cannot be read: {error}") from error
    finally:
        consumer.close()


def _origin_end(consumer: Consumer, log: str, partition: int, end: int) -> int:
    consumer.assign([TopicPartition(log, partition, end - 1)])
    message = consumer.poll(LAST_RECORD_SECONDS)
    if message is None or message.error() is not None:
        raise LogUnreadable(f"the last record of {log}/{partition} cannot be read")
    found: object = message.headers()
    pairs = found if isinstance(found, list) else []
    headers = [(str(name), bytes(value)) for name, value in pairs if value is not None]
    origin = origin_of(headers)
    return hole_end(headers) or (end if origin is None else origin.offset + 1)
