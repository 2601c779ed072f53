"""Clocks, the coordination store, and operators."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import msgspec

from region_sim.memory.clients import MemoryBareApp, outside_session
from region_sim.memory.hands import Hands, MemoryPlay
from region_sim.spec import ClockFault, Herd, StoreFault, Switchover
from services.controller.model import Operation

ANSWER_SECONDS = 2.0
OPERATION_SECONDS_MAX = 60.0
POLL_SECONDS = 0.25
LOST_REPLY_SHARE = 0.5
HELD_SECONDS = 3_600
"""Longer than any drill: `resume` ends it."""


class ClockPlay(MemoryPlay):
    """Set a machine's wall clock, and let all its clocks run at another rate."""

    def __init__(self, hands: Hands, fault: ClockFault, target: str) -> None:
        self._clock = hands.world.sites[target].clock
        self._fault = fault
        self._target = target

    async def inject(self) -> str:
        """See FaultPlay."""
        self._clock.step_wall(self._fault.step_seconds)
        self._clock.set_rate(self._fault.rate)
        return f"{self._target}'s wall clock set by {self._fault.step_seconds:+g} s, rate {self._fault.rate:g}"

    async def heal(self) -> None:
        """See FaultPlay. The wall clock stays as wrong as it is: whoever counts on it finds that out."""
        self._clock.set_rate(1.0)


class StorePlay(MemoryPlay):
    """Something that etcd does to the clients of one site, or to all."""

    def __init__(self, hands: Hands, fault: StoreFault, target: str) -> None:
        self._etcd = hands.world.etcd
        self._fault = fault
        self._target = target

    async def inject(self) -> str:
        """See FaultPlay."""
        faults = self._etcd.faults_of(self._target)
        match self._fault.how:
            case "lost-replies":
                faults.lost_reply_share = LOST_REPLY_SHARE
                return f"{LOST_REPLY_SHARE:.0%} of the answers to writes of {self._target} get lost"
            case "silent-watches":
                faults.silent_watches = True
                return f"the watches of {self._target} say nothing more"
            case "compaction":
                return f"{self._etcd.fall_behind(self._target)} watches of {self._target} fell behind a compaction"
            case "new-leader":
                moved = self._etcd.move_leader()
                return f"another member leads: {self._etcd.leader}" if moved else "no other member can lead"
            case "stale-revocation":
                self._etcd.stale_revocation = True
                many = self._etcd.revoke_as_former_leader(self._target)
                return f"{many} leases of {self._target} were revoked although they had been renewed"

    async def heal(self) -> None:
        """See FaultPlay."""
        faults = self._etcd.faults_of(self._target)
        if self._fault.how == "lost-replies":
            faults.lost_reply_share = 0.0
        elif self._fault.how == "silent-watches":
            faults.silent_watches = False
        elif self._fault.how == "stale-revocation":
            self._etcd.stale_revocation = False


class Operator:
    """Somebody at a command line: asks one controller after the other, in the deployment's order."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._session = outside_session(hands.world)
        self.refusal = ""
        """Why the last question had no good answer."""

    async def ask(self, path: str, body: object = None) -> bytes | None:
        """What the first controller says that answers; None when none says yes."""
        said: Sequence[str] = ()
        for site in self._hands.world.deployment.regions:
            limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
            url = site.url("control") + path
            try:
                asked = (
                    self._session.get(url, timeout=limit)
                    if body is None
                    else self._session.post(url, data=msgspec.json.encode(body), timeout=limit)
                )
                async with asked as response:
                    answer = await response.read()
                    if response.status < 300:
                        return answer
                    said = [*said, f"{site.name}: {response.status} {answer[:150].decode(errors='replace')}"]
                    if response.status != 503:
                        break
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                said = [*said, f"{site.name}: {type(error).__name__} {error}"]
        self.refusal = "; ".join(said)
        return None

    def new_id(self) -> str:
        """An id for an operation."""
        self._hands.operations += 1
        return f"drill-{self._hands.operations}"


class SwitchoverPlay(MemoryPlay):
    """Move the activity. Among other faults a refusal is no failure: controllers refuse what would not be safe."""

    def __init__(self, hands: Hands, fault: Switchover, target: str) -> None:
        self._hands = hands
        self._target = target
        self._to = fault.to or next(region for region in hands.world.regions if region != target)
        self._operator = Operator(hands)
        self._problem: str | None = None

    async def inject(self) -> str:
        """See FaultPlay."""
        body = {"operation_id": self._operator.new_id(), "to": self._to, "by": "drill", "reason": "drill"}
        answer = await self._operator.ask("/v1/switchover", body)
        if answer is None:
            self._problem = f"refused: {self._operator.refusal}"
            return f"the switchover from {self._target} to {self._to} was {self._problem}"
        operation = msgspec.json.decode(answer, type=Operation)
        waited = 0.0
        while operation.state not in {"done", "aborted"} and waited < OPERATION_SECONDS_MAX:
            await asyncio.sleep(POLL_SECONDS)
            waited += POLL_SECONDS
            answer = await self._operator.ask(f"/v1/operations/{operation.operation_id}")
            if answer is not None:
                operation = msgspec.json.decode(answer, type=Operation)
        self._problem = None if operation.state == "done" else f"{operation.state} {operation.detail}".strip()
        return f"switchover from {self._target} to {self._to}: {operation.state} {operation.detail}".rstrip()

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        return self._problem if self._hands.is_alone else None


class HoldPlay(MemoryPlay):
    """A pause by an operator, ended by a resume."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._operator = Operator(hands)
        self._is_held = False

    async def inject(self) -> str:
        """See FaultPlay."""
        body = {"operation_id": self._operator.new_id(), "by": "drill", "reason": "drill", "seconds": HELD_SECONDS}
        self._is_held = await self._operator.ask("/v1/pause", body) is not None
        return "pause by an operator" if self._is_held else f"the pause was refused: {self._operator.refusal}"

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        return None if self._is_held or not self._hands.is_alone else self._operator.refusal

    async def heal(self) -> None:
        """See FaultPlay. Resumed also when the pause was refused: the refusal may have been an answer that was lost."""
        self._is_held = True
        await self._resume()

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        if self._is_held:
            await self._resume()
        return f"the pause goes on: {self._operator.refusal}" if self._is_held else None

    async def _resume(self) -> None:
        body = {"operation_id": self._operator.new_id(), "by": "drill"}
        self._is_held = await self._operator.ask("/v1/resume", body) is None


class HerdPlay(MemoryPlay):
    """Clients that all ask at once. Their searches stand in the history, as those of bare clients."""

    def __init__(self, hands: Hands, fault: Herd, target: str) -> None:
        self._hands = hands
        self._fault = fault
        self._target = target

    async def inject(self) -> str:
        """See FaultPlay."""
        self._hands.herds += 1
        herd = f"herd{self._hands.herds}-{self._target}"
        await asyncio.gather(*(self._client(f"{herd}-{number}") for number in range(self._fault.clients)))
        return f"{self._fault.clients} clients asked {self._target} {self._fault.searches_each} times each at once"

    async def _client(self, process: str) -> None:
        hands = self._hands
        url = hands.world.url(self._target, "gateway")
        async with MemoryBareApp(process, url, hands.load, hands.history, hands.world) as app:
            for number in range(self._fault.searches_each):
                await app.search(hands.script.search(process, number))
