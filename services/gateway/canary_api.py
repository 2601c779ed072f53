"""`POST /v1/canary`: one heartbeat search through log, processor and inference worker, and back.

It is answered by the gateway that was asked, active or not, and never shows items. Two ways lead back: the ranking
through the rankings log, as a user's would come, and the processor's own word how far it came, which is the only one
where the gate is shut. The gateway's last check is made as for a user; what passes it is counted as an answer and
thrown away.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, cast

import aiohttp
import msgspec
from aiohttp import web

from services.common.problem import Problem
from services.gateway.canary import held_up, step_of
from services.gateway.client import CanaryAnswer, CanaryRequest, CanaryStep
from services.gateway.core import Core
from services.gateway.events_log import EventsLog, NotKept, Waiting
from services.gateway.rankings_api import in_time, read_json
from services.gateway.wire import RungWord
from services.processor.client import CanaryTrail
from streams.asks import Ask, Ranking
from streams.errors import DECODE_ERRORS

TRAIL_SECONDS: Final = 0.1
"""After the answer came, so long is waited for the processor's account of it; what it reached is known already."""
_encode: Final = msgspec.json.Encoder().encode


class CanaryApi:
    """The handler of the route."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._decoder = msgspec.json.Decoder(CanaryRequest)

    async def canary(self, request: web.Request) -> web.Response:
        """Send one, and say how far it came."""
        core = self._core
        said = await read_json(core, request, self._decoder)
        with core.canaries.under_way(asyncio.get_running_loop().time()):
            return web.Response(body=_encode(await self._fly(said)), content_type="application/json")

    async def _fly(self, said: CanaryRequest) -> CanaryAnswer:
        core, loop = self._core, asyncio.get_running_loop()
        deadline_ms = min(said.deadline_ms or core.settings.deadline_ms, core.settings.deadline_ms_max)
        flight = _Flight(core, loop.time(), deadline_ms)
        try:
            log = await self._admitted(flight)
        except Problem as problem:
            return flight.lost("", problem.detail)
        flight.canary_id, key = core.canaries.next(log.partitions)
        answer = core.canaries.expect(flight.canary_id)
        follower = asyncio.ensure_future(flight.follow())
        try:
            waiting = log.put_with_ask(None, self._ask(said, flight), key)
            return await self._followed(flight, answer, waiting, follower)
        finally:
            core.canaries.forget(flight.canary_id)
            follower.cancel()

    async def _admitted(self, flight: _Flight) -> EventsLog:
        """The log, if a user's ask would be taken now. Raises Problem: what would turn a user away is no secret."""
        core = self._core
        if core.rights.term().active and not await core.opening.wait(flight.left_seconds()):
            raise Problem(503, "taking-over", f"region {core.region} is taking over: its processor has not begun yet")
        log = core.log()
        blocker = core.desk.blocker() or core.admission.blocker(1)
        if blocker is not None:
            raise blocker
        return log

    def _ask(self, said: CanaryRequest, flight: _Flight) -> Ask:
        now_ms = self._core.clock.unix_ms()
        return Ask(
            ask_id=flight.canary_id,
            reply_to=self._core.desk.reply_to,
            kind="search",
            deadline_unix_ms=now_ms + int(flight.left_seconds() * 1000),
            at_ms=now_ms,
            query=said.query,
            canary=True,
        )

    async def _followed(
        self,
        flight: _Flight,
        answer: asyncio.Future[Ranking],
        waiting: Waiting,
        follower: asyncio.Future[CanaryTrail | None],
    ) -> CanaryAnswer:
        await in_time(waiting.done, flight.deadline)
        if not waiting.done.done():
            return flight.lost("")
        outcome = waiting.outcomes[0]
        if isinstance(outcome, NotKept):
            return flight.lost("", f"the log did not keep it ({outcome.cause})")
        flight.stage("acknowledged")
        with suppress(TimeoutError):
            async with asyncio.timeout_at(flight.deadline):
                both: set[asyncio.Future[Any]] = {answer, follower}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done() and not _stays_inside(follower.result()):
                    await asyncio.wait({answer})
        if answer.done():
            return await self._checked(flight, answer.result(), follower)
        trail = follower.result() if follower.done() else None
        step = step_of(trail, acknowledged=True)
        if step == "gate" and trail is not None:
            return flight.reached("gate", trail, stopped_by=trail.detail)
        return flight.lost(step, held_up(step, trail, flight.silence), trail)

    async def _checked(
        self, flight: _Flight, ranking: Ranking, follower: asyncio.Future[CanaryTrail | None]
    ) -> CanaryAnswer:
        """The last check, as before an answer to a user."""
        core = self._core
        refused = core.desk.refusal(ranking)
        flight.arrived()
        await in_time(follower, asyncio.get_running_loop().time() + TRAIL_SECONDS)
        trail = follower.result() if follower.done() else None
        if refused is None:
            return flight.reached("answer", trail, rung=ranking.rung, reason=ranking.reason)
        if not core.rights.term().active:
            return flight.reached("gate", trail, rung=ranking.rung, reason=ranking.reason, stopped_by=refused[1])
        return flight.lost("published", f"its ranking {refused[1]}", trail)


class _Flight:
    """One canary, and what is known of it so far."""

    def __init__(self, core: Core, began: float, deadline_ms: int) -> None:
        self.canary_id = ""
        self.deadline = began + deadline_ms / 1000
        self.silence = ""
        """Why the processor does not say how far it came."""
        self._core = core
        self._began = began
        self._stages_ms: dict[str, float] = {}
        self._latency_ms: float | None = None

    def left_seconds(self) -> float:
        """Until the deadline."""
        return max(0.0, self.deadline - asyncio.get_running_loop().time())

    def stage(self, name: str) -> None:
        """This much is behind it."""
        self._stages_ms[name] = self._so_far_ms()

    def arrived(self) -> None:
        """What comes from now on is no part of the way."""
        self._latency_ms = self._so_far_ms()

    async def follow(self) -> CanaryTrail | None:
        """The processor's word; None when it has none, for the reason in `silence`."""
        # Asked to answer a little before the deadline: what it knows by then says more than that time ran out.
        left_seconds = self.left_seconds()
        try:
            async with asyncio.timeout(0.95 * left_seconds):
                return await self._core.canaries.trail_of(self.canary_id, 0.8 * left_seconds)
        except aiohttp.ClientResponseError as error:
            is_old = error.status == 404
            self.silence = "it knows no canaries: an older version" if is_old else f"it says {error.status}"
        except TimeoutError:
            self.silence = "it does not answer"
        except (aiohttp.ClientError, OSError, *DECODE_ERRORS) as error:
            self.silence = f"it cannot be reached: {type(error).__name__}"
        return None

    def reached(
        self, goal: str, trail: CanaryTrail | None, *, rung: str = "", reason: str = "", stopped_by: str = ""
    ) -> CanaryAnswer:
        """It came as far as an answer, or as the gate."""
        if self._latency_ms is None:
            self.arrived()
        step = cast("CanaryStep", goal)
        return self._said(step, trail, rung=rung, reason=reason, stopped_by=stopped_by, latency_ms=self._latency_ms)

    def lost(self, step: CanaryStep, problem: str = "", trail: CanaryTrail | None = None) -> CanaryAnswer:
        """It came no further than `step`."""
        return self._said(step, trail, problem=problem or held_up(step, trail, ""))

    def _said(
        self,
        step: CanaryStep,
        trail: CanaryTrail | None,
        *,
        rung: str = "",
        reason: str = "",
        stopped_by: str = "",
        problem: str = "",
        latency_ms: float | None = None,
    ) -> CanaryAnswer:
        return CanaryAnswer(
            canary_id=self.canary_id,
            region=self._core.region,
            reached=step if step in {"answer", "gate"} else "",
            step=step,
            latency_ms=latency_ms,
            stages_ms=self._stages_ms | (trail.stages_ms if trail is not None else {}),
            rung=cast("RungWord", rung or (trail.rung if trail is not None else "")) or None,
            reason=reason or (trail.reason if trail is not None else ""),
            stopped_by=stopped_by,
            problem=problem,
        )

    def _so_far_ms(self) -> float:
        return round((asyncio.get_running_loop().time() - self._began) * 1000, 2)


def _stays_inside(trail: CanaryTrail | None) -> bool:
    """Whether no ranking will come, by the processor's own word."""
    return trail is not None and trail.outcome not in {"", "answered"}
