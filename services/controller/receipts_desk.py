"""Writing receipts and bringing them up to date, while this region leads; keeping copies of them in every region.

The evidence for a takeover is collected when the lease was acquired and the receipt written once the region serves, so
that nothing is waited for on the way to the first answer, and nothing that came back later hides what was missing.

Whoever took over may not live to write it. So the terms that the store keeps are held against the receipts, in every
term anew, and what an earlier one left owed is written with what is known now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.deployment import Deployment
from services.common.logging import get_logger
from services.common.waiting import news_within
from services.controller.cases import Case, Takeover, other_cases
from services.controller.metrics import ControllerMetrics
from services.controller.mirror import FormerLeader
from services.controller.peers import reports_of_all
from services.controller.perform import Acquired
from services.controller.takeovers import case_of, follow, is_settled, own_takeover
from services.coordination.base import CoordinationError, KeyValueStore
from services.coordination.inbox_record import inbox_marks
from services.coordination.lease import LeaseStore
from services.coordination.lives import Life
from services.coordination.region_record import acknowledged_ends
from services.coordination.terms import forget_terms
from services.receipts import (
    InboxEvidence,
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
from streams.logs import dead_log, events_log, inbox_topic, rankings_log

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
        self._acquired: tuple[Acquired, FormerLeader] | None = None
        self._newest: tuple[int, int] | None = None
        """The last term of this process that was noticed here."""
        self._taken_over: Takeover | None = None
        self._pending: tuple[Case, Takeover, list[LogEvidence], list[str]] | None = None
        self._nothing_owed_in: tuple[int, int] | None = None
        """The term in which all takeovers before had their receipts: until the next one there is none more."""
        self._owed_since: dict[tuple[int, int], float] = {}
        """When a takeover was first found to be owed its receipt here, on `Clock.boottime`."""

    def took_over(self, acquired: Acquired, former: FormerLeader) -> None:
        """The lease was acquired: collect the evidence now. `former`: the last holder that was seen from here."""
        self._acquired, self._newest = (acquired, former), acquired.epoch
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
        if self._acquired is not None:
            await self._look_back(*self._acquired)
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
        await self._work_off(epoch, receipts, reports)
        now_ms = self._clock.unix_ms()
        own = reports.get(self._region)
        if self._is_settled(epoch) and self._nothing_owed_in == epoch:
            for case in other_cases(self._lives(), receipts, own, now_ms, self._unreachable_seconds):
                if case.life.region in reports and not case.life.sealed:
                    continue  # its processes answer: what is silent is not the region
                evidence = await self._evidence(case.life, reports)
                await self._write(case, epoch, evidence, self._survivors(case, reports), receipts, None)
        await self._advance(still_open, reports)

    def _is_settled(self, epoch: tuple[int, int]) -> bool:
        """Whether the present term was noticed, and no takeover of this process waits for its receipt."""
        waits = self._acquired is not None or self._taken_over is not None or self._pending is not None
        return self._newest == epoch and not waits

    async def _look_back(self, acquired: Acquired, former: FormerLeader) -> None:
        """Find out whom a campaign of this process followed."""
        takeover = await own_takeover(self._store, acquired, self._region, former)
        if takeover.before not in {"", self._region}:
            self._metrics.failovers.labels("operator" if acquired.operation_id else "automatic").inc()
        self._taken_over = takeover
        if self._acquired is not None and self._acquired[0] is acquired:
            self._acquired = None

    async def _collect(self, takeover: Takeover) -> None:
        """What is known at the moment of the takeover."""
        case = await case_of(self._store, takeover)
        if case is not None:
            reports = await reports_of_all(self._session, self._deployment)
            waited_ms = self._clock.unix_ms() - takeover.acquired_ms
            if not self._has_looked(case.life, reports) and waited_ms < SERVING_SECONDS_MAX * 1000:
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
        if not is_settled(takeover.epoch, receipts):
            await self._write(case, takeover.epoch, evidence, survivors, receipts, takeover)
        self._pending = None

    async def _work_off(
        self, epoch: tuple[int, int], receipts: list[Receipt], reports: dict[str, ReplicationReport]
    ) -> None:
        """Write what is owed for takeovers whose own winner did not write it, and forget the terms that are settled."""
        if self._nothing_owed_in == epoch:
            return
        chain = await follow(self._store, receipts)
        now, since = self._clock.boottime(), self._owed_since
        self._owed_since = {takeover.epoch: since.get(takeover.epoch, now) for _, takeover in chain.owed}
        for case, takeover in chain.owed:
            if takeover.epoch >= epoch and not self._is_settled(epoch):
                continue  # its evidence was collected when it happened, or is about to be
            waited = now - self._owed_since[takeover.epoch]
            if not self._has_looked(case.life, reports) and waited < SERVING_SECONDS_MAX:
                continue
            evidence = await self._evidence(case.life, reports)
            await self._write(case, takeover.epoch, evidence, self._survivors(case, reports), receipts, takeover)
        await forget_terms(self._store, chain.over)
        if not chain.owed and self._is_settled(epoch):
            self._nothing_owed_in = epoch

    def _has_looked(self, life: Life, reports: dict[str, ReplicationReport]) -> bool:
        """Whether this region knows what it holds of a life: until its replicator has looked, that seems nothing."""
        return self._is_lived_here(life) or says_all([events_log(life.incarnation)], reports.get(self._region))

    def _is_lived_here(self, life: Life) -> bool:
        """Whether a life that was lost or left is this region's own, and goes on."""
        return life.region == self._region and not life.sealed

    async def _evidence(self, life: Life, reports: dict[str, ReplicationReport]) -> list[LogEvidence]:
        """What everybody but the life itself knows of its logs; all is held if it is this region's, and goes on."""
        others = [report for name, report in reports.items() if name != life.region or life.sealed]
        logs = [of(life.incarnation) for of in (events_log, rankings_log, dead_log)]
        found = [log_evidence(name, others, await acknowledged_ends(self._store, name), life.cuts) for name in logs]
        if self._is_lived_here(life):
            now_ms = self._clock.unix_ms()
            found = [replace(each, held=each.known_ends, last_contact_ms=now_ms) for each in found]
        return found

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
            timeline=self._timeline(takeover),
            taken_over_by=takeover.region if takeover is not None else "",
            inbox=await inbox_evidence(self._store, case.life.incarnation),
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

    def _timeline(self, takeover: Takeover | None) -> Timeline:
        if takeover is None:
            return Timeline()
        return Timeline(
            last_seen_ms=takeover.last_seen_ms,
            lease_gone_ms=takeover.lease_gone_ms,
            acquired_ms=takeover.acquired_ms,
            serving_ms=self._serving_ms() if takeover.epoch == self._newest else 0,
        )

    async def _advance(self, receipts: Sequence[Receipt], reports: dict[str, ReplicationReport]) -> None:
        lives, now_ms = self._lives(), self._clock.unix_ms()
        names = [site.name for site in self._deployment.regions]
        for receipt in receipts:
            held, contact = held_by_log(receipt, reports, lives), contact_of(receipt, reports, names)
            if receipt.inbox_remaining:
                inbox = await inbox_evidence(self._store, receipt.incarnation)
                contact = replace(contact, inbox_moved=inbox.moved)
            step = partial(advance, held_by_log=held, lives=lives, contact=contact, now_ms=now_ms)
            after = await self._book.change(receipt.receipt_id, step)
            if after.state != receipt.state:
                self._note("receipt", f"receipt {after.receipt_id} is {after.state}: {after.closed_because}")


async def inbox_evidence(store: KeyValueStore, incarnation: str) -> InboxEvidence:
    """What the gateway of a life recorded of its inbox."""
    inbox = inbox_topic(incarnation)
    marks = await inbox_marks(store, inbox)
    return InboxEvidence(inbox, marks.ends, marks.moved, marks.at_ms)


def _is_of(receipt: Receipt, case: Case) -> bool:
    """Whether a receipt that has the id which a case wants is that case's own: written before, and not heard of.

    The id names the life and the term, so a takeover has one receipt under it, whatever has become of that since.
    """
    if case.was_active:
        return receipt.was_active
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
