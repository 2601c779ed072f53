"""Calls between sites over directed links that are late, lose and are cut.

A call is a request and a reply, each of which can be lost alone: then the callee did it and the caller does not know.
Nobody is told that something was lost; a caller waits until its own patience ends. A process that is dead refuses at
once, as a port without a listener does; one that is stopped says nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from region_sim.memory.kernel import Kernel, Process

T = TypeVar("T")
OUTSIDE: Final = "outside"
"""Where clients are: every link to and from it is whole."""
LOCAL_SECONDS: Final = 0.000_2
NEAR_SECONDS: Final = 0.002


class Unreachable(OSError):
    """Refused: nobody listens there."""


@dataclass(slots=True)
class DirectedLink:
    """What happens to what one site sends to another."""

    delay_seconds: float = NEAR_SECONDS
    jitter_seconds: float = 0.0
    loss_share: float = 0.0
    is_cut: bool = False
    etcd_cut: bool = False
    """Only what etcd and its clients say is dropped."""
    data_cut: bool = False
    """Only what is not etcd's is dropped."""


class Network:
    """All links of a world."""

    def __init__(self, kernel: Kernel, draw: random.Random) -> None:
        self._kernel = kernel
        self._draw = draw
        self._links: dict[tuple[str, str], DirectedLink] = {}

    def link(self, source: str, target: str) -> DirectedLink:
        """The link in one direction."""
        return self._links.setdefault((source, target), DirectedLink())

    def passes(self, source: str, target: str, *, is_etcd: bool = False) -> float | None:
        """Seconds that one message takes; None when it is lost."""
        if source == target:
            return LOCAL_SECONDS
        found = self.link(source, target)
        if found.is_cut or (found.etcd_cut and is_etcd) or (found.data_cut and not is_etcd):
            return None
        # Drawn whether it matters or not, so that a link that is mended leaves the numbers of all others alone.
        lost, late = self._draw.random(), self._draw.random()
        return None if lost < found.loss_share else found.delay_seconds + late * found.jitter_seconds

    async def call(
        self,
        source: str,
        target: str,
        process: Callable[[], Process | None],
        do: Callable[[], Awaitable[T]],
        *,
        is_etcd: bool = False,
    ) -> T:
        """Have `do` run in a process of another site, and return what it returns; raises what it raises.

        `process` is asked when the request arrives. Raises Unreachable for a dead process. A message that is lost
        leaves the caller waiting for ever: bound it with `asyncio.timeout`.
        """
        there = self.passes(source, target, is_etcd=is_etcd)
        if there is None:
            await self._kernel.create_future()
        await asyncio.sleep(there or 0.0)
        callee = process()
        answer: asyncio.Future[tuple[bool, Any]] = self._kernel.create_future()
        if callee is None or not callee.is_alive:
            answer.set_result((False, Unreachable(f"nobody listens at {target}")))
        else:
            _ = self._kernel.start(callee, _answer(do, answer))
        is_good, value = await answer
        back = self.passes(target, source, is_etcd=is_etcd)
        if back is None:
            await self._kernel.create_future()
        await asyncio.sleep(back or 0.0)
        if not is_good:
            raise value
        result: T = value
        return result


async def _answer(do: Callable[[], Awaitable[Any]], answer: asyncio.Future[tuple[bool, Any]]) -> None:
    try:
        found = True, await do()
    except Exception as error:  # noqa: BLE001 - it is the caller's answer, as over any wire
        found = False, error
    if not answer.done():
        answer.set_result(found)
