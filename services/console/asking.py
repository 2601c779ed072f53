"""Asking the processes of a deployment. Whatever goes wrong is an answer as well: unknown, and why."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import aiohttp
import msgspec

T = TypeVar("T")
ANSWER_SECONDS: Final = 1.5
ASK_FAILED: Final = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError, ValueError)


@dataclass(frozen=True, slots=True)
class Heard(Generic[T]):
    """The last answer to a question, and how the last try went."""

    value: T | None = None
    at_seconds: float = float("-inf")
    """On the console's monotonic clock, *before* the question that was answered was sent."""
    problem: str = "not asked yet"
    """Why the last try brought nothing; empty when it did."""

    def is_fresh(self, now_seconds: float, age_seconds_max: float) -> bool:
        """Whether the answer may be taken for what holds now."""
        return self.value is not None and now_seconds - self.at_seconds <= age_seconds_max

    def failed(self, problem: str) -> Heard[T]:
        """The same answer, after a try that brought none."""
        return Heard(self.value, self.at_seconds, problem)


@dataclass(frozen=True, slots=True)
class Readiness:
    """How one process is, in its own words."""

    state: str = "unknown"
    """`ready`, `impaired` (it works, and says what is wrong), `not ready`, `silent`, `unknown`."""
    reason: str = ""


async def get(
    session: aiohttp.ClientSession, url: str, shape: type[T], seconds: float = ANSWER_SECONDS, **params: int
) -> T:
    """Ask for JSON. Raises what ASK_FAILED lists."""
    asked = {name: str(value) for name, value in params.items()}
    async with asyncio.timeout(seconds), session.get(url, params=asked, allow_redirects=False) as response:
        raw = await response.read()
        if response.status != 200:
            raise ValueError(_refusal(response.status, raw))
        return msgspec.json.decode(raw, type=shape)


async def readiness(session: aiohttp.ClientSession, url: str) -> Readiness:
    """Ask a process of ours whether it is ready."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS), session.get(f"{url}/readyz?verbose") as response:
            lines = (await response.text()).splitlines()
            ready = response.status == 200
    except ASK_FAILED as problem:
        return Readiness("silent", f"does not answer ({words(problem)})")
    mark, state = ("[~] ", "impaired") if ready else ("[-] ", "not ready")
    # A controller's notice about its election is what it does, not what ails it; the page shows that elsewhere.
    found = [line.removeprefix(mark) for line in lines if line.startswith(mark) and "election:" not in line]
    if ready and not found:
        return Readiness("ready")
    return Readiness(state, "; ".join(found) or "it does not say why")


async def etcd_health(session: aiohttp.ClientSession, url: str) -> Readiness:
    """Ask an etcd member whether it and the quorum work."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS), session.get(f"{url}/health") as response:
            said = msgspec.json.decode(await response.read(), type=dict[str, str])
    except ASK_FAILED as problem:
        return Readiness("silent", f"does not answer ({words(problem)})")
    if said.get("health") == "true":
        return Readiness("ready")
    return Readiness("not ready", said.get("reason") or "it does not say why")


async def listens(host: str, port: int) -> Readiness:
    """Whether something takes connections there: all that Kafka says to somebody who does not speak its language."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (TimeoutError, OSError) as problem:
        return Readiness("silent", f"takes no connection ({words(problem)})")
    writer.close()
    return Readiness("ready")


def words(problem: Exception) -> str:
    """What went wrong, also when the exception has no words for it."""
    if isinstance(problem, TimeoutError):
        return f"no answer within {ANSWER_SECONDS:g} s"
    if isinstance(problem, OSError) and problem.errno:
        return os.strerror(problem.errno).lower()
    return str(problem) or type(problem).__name__


def _refusal(status: int, raw: bytes) -> str:
    try:
        detail = msgspec.json.decode(raw, type=dict[str, object]).get("detail")
    except msgspec.DecodeError:
        detail = None
    return f"it refused ({status}): {detail}" if detail else f"it refused ({status})"
