"""Writing receipts and bringing them up to date, while this region leads; keeping copies of them in every region.

The evidence for a takeover is collected when the lease was acquired and the receipt written once the region serves, so
that nothing is waited for on the way to the first answer, and nothing that came back later hides what was missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.deployment import Deployment
from services.common.logging import get_logger
from services.common.waiting import news_within
from services.controller.cases import Case, Takeover, other_cases, takeover_case
from services.controller.metrics import ControllerMetrics
from services.controller.peers import reports_of_all
from services.coordination.base import CoordinationError
from services.coordination.lease import LeaseStore
from services.coordination.lives import Life
from services.coordination.region_record import acknowledged_ends
from services.receipts import (
    LogEvidence,
    Receipt,
    ReceiptBook,
    Timeline,
    advance,
    contact_of,
    held_by_log,
    issue,
    log_evidence,
    new_receipt_id,
    says_all,
)
from services.replicator.client import ReplicationReport
from streams.logs import dead_log, events_log, rankings_log

CYCLE_SECONDS: Final = 1.0
SERVING_SECONDS_MAX: Final = 10.0
"""A receipt is written at the latest so long after the lease was acquired, serving or not."""

log = get_logger(__name__)


class ReceiptsDesk:
    """`run` is its task."""

    def __init__(
        self,
        store: LeaseStore,
        book: ReceiptBook,
        session: aiohttp.ClientSession,
        deployment: Deployment,
        region: str,
        clock: Clock,
        metrics: ControllerMetrics,
        *,
        lives: Callable[[], Sequence[Life]],
        epoch: Callable[[], tuple[int, int] | None],
        serving_ms: Callable[[], int],
        note: Callable[[str, str], None],
        unreachable_seconds: float,
        cycle_seconds: float = CYCLE_SECONDS,
    ) -> None:
        self._cycle_seconds = cycle_seconds
        self._store = store
        self._book = book
        self._session = session
        self._deployment = deployment
        self._region = region
        self._clock = clock
        self._metrics = metrics
        self._lives = lives
        self._epoch = epoch
        self._serving_ms = serving_ms
        self._note = note
        self._unreachable_seconds = unreachable_seconds
        self._news = asyncio.Event()
        self.open_count = 0
        self._taken_over: Takeover | None = None
        self._pending: tuple[Case, Takeover, list[LogEvidence], list[str]] | None = None

    def took_over(self, takeover: Takeover) -> None:
        """The lease was acquired: collect the evidence now."""
        self._taken_over = takeover
        self._news.set()

    async def run(self) -> None:
        """Work for ever; whatever the store or a peer refuses is tried again."""
        while True:
            self._news.clear()  # before, not after: a takeover during the cycle is no news that was dealt with
            try:
                await self._cycle()
            except (CoordinationError, OSError) as problem:
                log.warning("receipts are brought up to date later", reason=str(problem))
            await news_within(self._news, self._cycle_seconds)

    async def _cycle(self) -> None:
        if self._taken_over is not None:
            await self._collect(self._taken_over)
        receipts = list(await self._book.mirror())
        still_open = [each for each in receipts if each.state == "open"]
        self.open_count = len(still_open)
        self._metrics.receipts_open.set(self.open_count)
        epoch = self._epoch()
        if epoch is None:
            return
        reports = await reports_of_all(self._session, self._deployment)
        await self._write_pending(receipts)
        now_ms = self._clock.unix_ms()
        own = reports.get(self._region)
        if self._pending is None and self._taken_over is None:
            for case in other_cases(self._lives(), receipts, own, now_ms, self._unreachable_seconds):
                if case.life.region in reports and not case.life.sealed:
                    continue  # its processes answer: what is silent is not the region
                evidence = await self._evidence(case.life, reports)
                await self._write(case, epoch, evidence, self._survivors(case, reports), receipts, None)
        await self._advance(still_open, reports)

    async def _collect(self, takeover: Takeover) -> None:
        """What is known at the moment of the takeover."""
        case = takeover_case(takeover, self._lives(), self._region)
        if case is not None:
            reports = await reports_of_all(self._session, self._deployment)
            waited_ms = self._clock.unix_ms() - takeover.acquired_ms
            has_looked = says_all([events_log(case.life.incarnation)], reports.get(self._region))
            if not has_looked and waited_ms < SERVING_SECONDS_MAX * 1000:
                return  # its replicator has just started: what it holds would be listed as missing
            evidence = await self._evidence(case.life, reports)
            self._pending = (case, takeover, evidence, self._survivors(case, reports))
        if self._taken_over is takeover:
            self._taken_over = None

    async def _write_pending(self, receipts: list[Receipt]) -> None:
        if self._pending is None:
            return
        case, takeover, evidence, survivors = self._pending
        waited_ms = self._clock.unix_ms() - takeover.acquired_ms
        if not self._serving_ms() and waited_ms < SERVING_SECONDS_MAX * 1000:
            return
        await self._write(case, takeover.epoch, evidence, survivors, receipts, takeover)
        self._pending = None

    async def _evidence(self, life: Life, reports: dict[str, ReplicationReport]) -> list[LogEvidence]:
        """What everybody but the life itself knows of its logs."""
        others = [report for name, report in reports.items() if name != life.region or life.sealed]
        logs = [of(life.incarnation) for of in (events_log, rankings_log, dead_log)]
        return [log_evidence(name, others, await acknowledged_ends(self._store, name), life.cuts) for name in logs]

    def _survivors(self, case: Case, reports: dict[str, ReplicationReport]) -> list[str]:
        return sorted({*reports, self._region} - {case.life.region})

    async def _write(
        self,
        case: Case,
        epoch: tuple[int, int],
        evidence: list[LogEvidence],
        survivors: list[str],
        receipts: list[Receipt],
        takeover: Takeover | None,
    ) -> None:
        """Keep the case's receipt, and add it to `receipts`: the next case of this cycle has to know of it."""
        operation = takeover.operation if takeover is not None else None
        wanted = new_receipt_id(case.life.incarnation, epoch)
        receipt = issue(
            receipt_id=_free_id(wanted, case, receipts),
            kind=case.kind,
            life=case.life,
            was_active=case.was_active,
            issued_by=self._region,
            epoch=epoch,
            now_ms=self._clock.unix_ms(),
            reason=case.reason,
            survivors=survivors,
            evidence=evidence,
            operation_id=operation.operation_id if operation is not None else "",
            accepted_loss_events=operation.accepted_loss_events if operation is not None else None,
            timeline=_timeline(takeover, self._serving_ms()),
        )
        kept = await self._book.put(receipt)
        receipts.append(kept)
        while not _is_of(kept, case):
            # Somebody else took the id meanwhile, for something else.
            receipt = msgspec.structs.replace(receipt, receipt_id=_free_id(wanted, case, receipts))
            kept = await self._book.put(receipt)
            receipts.append(kept)
        receipt = kept
        events = "an unknown number of" if receipt.events_listed is None else str(receipt.events_listed)
        sentence = f"receipt {receipt.receipt_id} ({receipt.kind}): {events} events in {len(receipt.ranges)} ranges"
        log.warning(sentence, reason=receipt.reason, last_contact_ms=receipt.last_contact_ms)
        self._note("receipt", sentence)

    async def _advance(self, receipts: Sequence[Receipt], reports: dict[str, ReplicationReport]) -> None:
        lives, now_ms = self._lives(), self._clock.unix_ms()
        names = [site.name for site in self._deployment.regions]
        for receipt in receipts:
            held, contact = held_by_log(receipt, reports, lives), contact_of(receipt, reports, names)
            step = partial(advance, held_by_log=held, lives=lives, contact=contact, now_ms=now_ms)
            after = await self._book.change(receipt.receipt_id, step)
            if after.state != receipt.state:
                self._note("receipt", f"receipt {after.receipt_id} is {after.state}: {after.closed_because}")


def _timeline(takeover: Takeover | None, serving_ms: int) -> Timeline:
    if takeover is None:
        return Timeline()
    return Timeline(
        last_seen_ms=takeover.last_seen_ms,
        lease_gone_ms=takeover.lease_gone_ms,
        acquired_ms=takeover.acquired_ms,
        serving_ms=serving_ms,
    )


def _is_of(receipt: Receipt, case: Case) -> bool:
    """Whether a receipt that has the id which a case wants is that case's own: written before, and not heard of."""
    return receipt.state == "open" and receipt.kind == case.kind


def _free_id(wanted: str, case: Case, receipts: Sequence[Receipt]) -> str:
    """The usual id, unless an earlier receipt of another kind, or one that is closed, has it."""
    taken = {each.receipt_id: each for each in receipts}
    found = taken.get(wanted)
    if found is None or _is_of(found, case):
        return wanted
    number = 2
    while f"{wanted}-{number}" in taken:
        number += 1
    return f"{wanted}-{number}"
