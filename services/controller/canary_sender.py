"""Sends this region's canaries and keeps what they said: one after the other, so that a lost one never piles up.

The controller asks its own gateway over HTTP, as an app would, so everything between an app and its answer is in it.
A gateway that does not answer is a lost canary like any other. One that does not know the route is of an older
version: that is neither a loss nor a success, and is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.common.clock import Clock
from services.common.metrics import SECONDS_BUCKETS
from services.controller.canary import CanaryReading, Epoch, Judged, judge
from services.gateway.client import CANARIES_FULL, CanaryRefused, CanaryRequest, send_canary
from streams.errors import DECODE_ERRORS

TELL_SECONDS: Final = 5.0
"""What is no news is told to the other controllers this often: each telling is a write of the coordination store."""


START_SECONDS_MAX: Final = 30.0
"""A region that is not ready so long after its controller was started is asked all the same, and shown as lost."""
READY_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class CanaryPlan:
    """How canaries are sent: see ControllerSettings."""

    interval_seconds: float
    deadline_ms: int
    query: str
    gateway_token: str


class CanaryMetrics:
    """What is counted about them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sent = Counter(
            "meridian_canary_sent", "Heartbeat searches that were sent through this region.", registry=registry
        )
        self.lost = Counter(
            "meridian_canary_lost", "Heartbeat searches that did not come as far as they had to.", registry=registry
        )
        self._latency = Histogram(
            "meridian_canary_latency_seconds",
            "From sending a heartbeat search to where it had to come: an answer, or the closed gate.",
            ["reached"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.latency = {reached: self._latency.labels(reached) for reached in ("answer", "gate")}
        self.last_success = Gauge(
            "meridian_canary_last_success_timestamp_seconds",
            "Unix time at which the last heartbeat search arrived; 0: none yet.",
            registry=registry,
        )


class CanarySender:
    """`run` is its task."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        gateway_url: str,
        clock: Clock,
        plan: CanaryPlan,
        metrics: CanaryMetrics,
        acts: Callable[[], Epoch | None],
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """`acts`: the epoch under which this region may act now; None when it may not.

        `is_ready`: whether its processes all say that they are ready; asked until they do for the first time.
        """
        self._session = session
        self._gateway_url = gateway_url
        self._clock = clock
        self._plan = plan
        self._metrics = metrics
        self._acts = acts
        self._is_ready = is_ready
        self._sent = self._lost = 0
        self._told_at = float("-inf")
        self.reading: CanaryReading | None = None
        """Of the newest canary; None before the first."""
        self.told: CanaryReading | None = None
        """What the other controllers are told: it changes when there is news, and else now and then."""

    async def run(self) -> None:
        """Send for ever, one each interval, once the region has started: what is not up yet loses nothing."""
        until = self._clock.monotonic() + START_SECONDS_MAX
        while not self._is_ready() and self._clock.monotonic() < until:
            await self._clock.sleep(READY_SECONDS)
        while True:
            began = self._clock.monotonic()
            await self.send()
            await self._clock.sleep(max(0.0, self._plan.interval_seconds - (self._clock.monotonic() - began)))

    async def send(self) -> CanaryReading:
        """Send one and take note of what became of it."""
        at_ms, acted = self._clock.unix_ms(), self._acts()
        body = CanaryRequest(query=self._plan.query, deadline_ms=self._plan.deadline_ms)
        deadline_seconds, token = self._plan.deadline_ms / 1000, self._plan.gateway_token
        latency_ms: float | None = None
        began = self._clock.monotonic()
        try:
            found = await send_canary(self._session, self._gateway_url, body, deadline_seconds, token)
        except CanaryRefused as refused:
            judged = _refused(refused)
        except TimeoutError:
            judged = Judged("", lost=True, problem="the gateway does not answer")
        except (aiohttp.ClientError, OSError, *DECODE_ERRORS) as problem:
            judged = Judged("", lost=True, problem=f"the gateway cannot be asked: {type(problem).__name__}")
        else:
            judged = judge(found, acted, self._acts())
            # Including HTTP: what an app would have waited. The gateway's own time is in its answer.
            latency_ms = round((self._clock.monotonic() - began) * 1000, 2) if judged.reached else None
        return self._note(at_ms, judged, latency_ms)

    def _note(self, at_ms: int, judged: Judged, latency_ms: float | None) -> CanaryReading:
        if judged.reached or judged.lost:
            self._sent += 1
            self._metrics.sent.inc()
        if judged.lost:
            self._lost += 1
            self._metrics.lost.inc()
        if latency_ms is not None:
            self._metrics.latency[judged.reached].observe(latency_ms / 1000)
            self._metrics.last_success.set(self._clock.unix_ms() / 1000)
        found = CanaryReading(
            at_ms=at_ms,
            reached=judged.reached,
            latency_ms=latency_ms,
            sent=self._sent,
            lost=self._lost,
            problem=judged.problem,
            unknown=not judged.reached and not judged.lost,
        )
        self.reading, now = found, self._clock.monotonic()
        if not found.says_the_same(self.told) or now - self._told_at >= TELL_SECONDS:
            self.told, self._told_at = found, now
        return found


def _refused(refused: CanaryRefused) -> Judged:
    if refused.status == 404:
        return Judged("", lost=False, problem="the gateway knows no canaries: it is of an older version")
    if refused.status == 401:
        return Judged(
            "", lost=False, problem="the gateway wants a token: set MERIDIAN_CONTROLLER_GATEWAY_TOKEN to one of its own"
        )
    if refused.kind == CANARIES_FULL:
        return Judged("", lost=False, problem=f"canaries of others left no place for it: {refused}")
    return Judged("", lost=True, problem=f"the gateway turned it away: {refused}")
