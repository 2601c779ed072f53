"""How this region's own processes are: asked all the time, so that a decision never waits for an answer.

Every answer is remembered with the time before its question, because "the gate is shut" counts only if it was asked
after the gate was told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.logging import get_logger
from services.common.waiting import news_within
from services.controller.model import DataPlane, GateSeen, Lag
from services.gateway import client as gateway_client
from services.gateway.client import HeldRequest
from services.inference import asking as inference_client
from services.processor import client as processor_client
from services.processor.client import FrontierPassed
from services.replicator import client as replicator_client
from services.replicator.client import LogReport, ReplicationReport
from streams.logs import events_log

EVENTS: Final = events_log("")
PROBE_SECONDS: Final = 1.0
HURRY_SECONDS: Final = 0.03
SHUT_ASKS_MAX: Final = 32
"""At one each HURRY_SECONDS they reach back further than effects under way may take."""
FAILED_PROBES_MAX: Final = 2
"""A process that was ready is sick after so many failures in a row: one slow answer is none."""
NOT_HEARD: Final = Lag(unknown="the coordination store was not heard yet")
ASK_FAILED: Final = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError, FrontierPassed)

Acknowledged = Mapping[str, Mapping[int, int]]
"""By log and partition: an end that was acknowledged to somebody."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the region's processes are."""

    gateway: str
    processor: str
    inference: str
    replicator: str


class Observer:
    """`run` is its task; `data` what is known now; `on_change` is called when something that matters changed."""

    def __init__(
        self,
        urls: Urls,
        session: aiohttp.ClientSession,
        clock: Clock,
        *,
        interval_seconds: float,
        on_change: Callable[[], None],
        acknowledged: Callable[[], Acknowledged | None] = dict,
        hurry_seconds: float = HURRY_SECONDS,
        gateway_token: str = "",
    ) -> None:
        """`acknowledged`: what the coordination store knows of the other regions' logs; None before it was heard."""
        self._urls = urls
        self._session = session
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._on_change = on_change
        self._acknowledged = acknowledged
        self._hurry_seconds = hurry_seconds
        self._gateway_token = gateway_token
        self._failures: dict[str, int] = {}
        self._reasons: dict[str, str | None] = dict.fromkeys(("processor", "inference", "gateway"), "not asked yet")
        self._hurry = asyncio.Event()
        self.data = DataPlane(unproven="whether its state had to be rebuilt is not known yet")
        self.report: ReplicationReport | None = None

    def hurry(self, wanted: bool) -> None:  # noqa: FBT001 - a switch
        """Ask about the gate and the frontier all the time, because somebody waits for the answer."""
        if wanted:
            self._hurry.set()
        else:
            self._hurry.clear()

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as tasks:
            for name, url in (
                ("processor", self._urls.processor),
                ("inference", self._urls.inference),
                ("gateway", self._urls.gateway),
            ):
                tasks.create_task(self._watch_readiness(name, url))
            tasks.create_task(self._watch_champion())
            tasks.create_task(self._watch_gate())
            tasks.create_task(self._watch_replication())

    def set_unproven(self, reason: str | None) -> None:
        """Take note of whether the state was proven equal to another region's."""
        self._change(replace(self.data, unproven=reason))

    async def _watch_readiness(self, name: str, url: str) -> None:
        while True:
            reason = await self._readiness(url)
            failures = 0 if reason is None else self._failures.get(name, 0) + 1
            self._failures[name] = failures
            if reason is None or failures >= FAILED_PROBES_MAX or self._reasons[name] is not None:
                self._reasons[name] = reason
                self._take_reasons()
            await self._clock.sleep(self._interval_seconds)

    async def _readiness(self, url: str) -> str | None:
        """Return why a process is not ready, in its own words, or None."""
        try:
            async with asyncio.timeout(PROBE_SECONDS), self._session.get(f"{url}/readyz") as response:
                if response.status == 200:
                    return None
                lines = (await response.text()).splitlines()
                return next((line.removeprefix("[-] ") for line in lines if line.startswith("[-]")), "not ready")
        except ASK_FAILED as problem:
            return f"does not answer ({named(problem)})"

    def _take_reasons(self) -> None:
        sick = next((f"{name}: {why}" for name, why in self._reasons.items() if why is not None), None)
        if (sick is None) == (self.data.sick is None) and sick == self.data.sick:
            return
        since = None if sick is None else self.data.sick_since or self._clock.boottime()
        self._change(replace(self.data, sick=sick, sick_since=since))

    async def _watch_champion(self) -> None:
        """Ask whether what ranks here is what the alias names, and gave its golden scores; unknown is a no."""
        failures = 0
        while True:
            try:
                reason = (await inference_client.champion(self._session, self._urls.inference)).blocker
                failures = 0
            except ASK_FAILED as problem:
                reason, failures = f"inference: does not say ({named(problem)})", failures + 1
            if failures in {0, FAILED_PROBES_MAX} or self.data.champion is not None:
                self._change(replace(self.data, champion=reason))
            await self._clock.sleep(self._interval_seconds)

    async def _watch_gate(self) -> None:
        while True:
            asked_at = self._clock.boottime()
            try:
                found = await processor_client.gate(self._session, self._urls.processor)
                before = self.data.gate.shut_asks if self.data.gate is not None else ()
                shut_asks = () if found.open else (*before, asked_at)[-SHUT_ASKS_MAX:]
                self.take_gate(GateSeen(found.open, found.epoch, found.reason, asked_at, shut_asks, found.fold))
                if self._hurry.is_set():
                    await self._look_at_state()
            except ASK_FAILED as problem:
                log.debug("the processor does not say how its gate is", reason=str(problem))
            if self._hurry.is_set():
                await self._clock.sleep(self._hurry_seconds)
                continue
            await news_within(self._hurry, self._interval_seconds)

    def take_gate(self, gate: GateSeen) -> None:
        """When it was asked is news only for who waits for it to be shut, and that is when there is hurry."""
        before, self.data = self.data.gate, replace(self.data, gate=gate)
        is_same = before is not None and (before.open, before.epoch, before.reason) == (
            gate.open,
            gate.epoch,
            gate.reason,
        )
        if self._hurry.is_set() or not is_same:
            self._on_change()

    async def _look_at_state(self) -> None:
        """Learn what is folded here and, asked at the same time, what this region has acknowledged."""
        asked_at = self._clock.boottime()
        found = await processor_client.state(self._session, self._urls.processor)
        frontier = {(name, partition): end for name, partition, end in found.frontier}
        self._change(replace(self.data, frontier=frontier))
        own = events_log(found.incarnation)
        body = HeldRequest(region=found.region, incarnation=found.incarnation, log=own, held={})
        said = await gateway_client.report_held(self._session, self._urls.gateway, body, self._gateway_token)
        ends = {partition: each.acknowledged_end for partition, each in said.partitions.items()}
        # A gateway that was just started knows only of its own acknowledgements; the fold knows what came before.
        for (name, partition), end in frontier.items():
            if name == own:
                ends[partition] = max(end, ends.get(partition, 0))
        rows = [(own, partition, end) for partition, end in sorted(ends.items())]
        self._change(replace(self.data, acknowledged=rows, acknowledged_at=asked_at))

    async def _watch_replication(self) -> None:
        while True:
            try:
                self.report = await replicator_client.replication(self._session, self._urls.replicator)
                ends = self._acknowledged()
                found = NOT_HEARD if ends is None else lag_of(self.report, ends)
            except ASK_FAILED as problem:
                found = replace(self.data.lag, unknown=f"replicator: does not answer ({named(problem)})")
            if found != self.data.lag:
                self._change(replace(self.data, lag=found))
            await self._clock.sleep(self._hurry_seconds if found == NOT_HEARD else self._interval_seconds)

    def _change(self, data: DataPlane) -> None:
        before, self.data = self.data, data
        if before != data:
            self._on_change()


def named(problem: Exception) -> str:
    """What went wrong, also when the exception has no words for it."""
    return str(problem) or type(problem).__name__


def lag_of(report: ReplicationReport, acknowledged: Acknowledged) -> Lag:
    """Return how far behind this region was when the origins were last heard.

    Since then nobody knows, and it is no reason to wait: an origin that is gone does not come nearer, and a region that
    was caught up must not become ineligible while it is needed. A log that is over counts while somebody else
    still holds more of it. A replicator that has never heard an origin knows of no lag; the coordination store does.
    """
    counted = {
        found.log: (_events(found), _seconds(found, report.at_ms))
        for found in report.logs
        if found.log.endswith(EVENTS) and not (found.sealed and _no_more_to_have(found))
    }
    for name, ends in acknowledged.items():
        events, seconds = counted.get(name, (0, 0.0))
        counted[name] = max(events, _records_missing(report.log(name), ends)), seconds
    if not counted:
        return Lag(unknown="")
    events, seconds = sum(each[0] for each in counted.values()), max(each[1] for each in counted.values())
    return Lag(events, round(seconds, 2), log=max(counted, key=lambda name: counted[name]), unknown="")


def _records_missing(found: LogReport | None, ends: Mapping[int, int]) -> int:
    held = {each.partition: each.held for each in found.partitions} if found is not None else {}
    return sum(max(0, end - held.get(partition, 0)) for partition, end in ends.items())


def _no_more_to_have(found: LogReport) -> bool:
    return found.caught_up or not found.source


def _events(found: LogReport) -> int:
    # A record holds at least one event; it is the best that is known when the origin's gateway did not say.
    return found.lag_records if found.lag_events is None else found.lag_events


def _seconds(found: LogReport, at_ms: int) -> float:
    behind_since_ms = at_ms - found.lag_seconds * 1000
    return max(0.0, (found.last_contact_ms - behind_since_ms) / 1000) if found.last_contact_ms else 0.0
