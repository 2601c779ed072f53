"""Calls between sites over directed links that are late, lose and are cut.

A call is a request and a reply, each of which can be lost alone: then the callee did it and the caller does not know.
Nobody is told that something was lost; a caller waits until its own patience ends. A process that is dead refuses at
once, as a port without a listener does, and one that dies resets its connections; one that is stopped says nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from region_sim.memory.kernel import Kernel, Process

T = TypeVar("T")
Answer = asyncio.Future[tuple[bool, Any]]
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
        found = self._links.get((source, target))
        if found is None:
            found = self._links[source, target] = DirectedLink()
        return found

    def passes(self, source: str, target: str, *, is_etcd: bool = False) -> float | None:
        """Seconds that one message takes; None when it is lost."""
        if source == target:
            return LOCAL_SECONDS
        found = self._links.get((source, target)) or self.link(source, target)
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
        limit_seconds: float | None = None,
    ) -> T:
        """Have `do` run in a process of another site, and return what it returns; raises what it raises.

        `process` is asked when the request arrives. Raises Unreachable for a process that is dead, or dies at it, and
        TimeoutError after `limit_seconds`: without them, a message that is lost leaves the caller waiting for ever.
        """
        answer = self.ask(source, target, process, do, is_etcd=is_etcd)
        if limit_seconds is None:
            is_good, value = await answer
        else:
            timer = self._kernel.call_later(limit_seconds, settle, answer, (False, TimeoutError()))
            try:
                is_good, value = await answer
            finally:
                timer.cancel()
        if not is_good:
            raise value
        result: T = value
        return result

    def ask(
        self,
        source: str,
        target: str,
        process: Callable[[], Process | None],
        do: Callable[[], Any],
        *,
        is_etcd: bool = False,
    ) -> Answer:
        """What `call` waits for: true and what `do` returned, or false and what it raised.

        Here `do` may also be a plain function, of what takes no time: that costs no task.
        """
        there = self.passes(source, target, is_etcd=is_etcd)
        answer: Answer = self._kernel.create_future()
        if there is not None:
            connection = _Connection(self, source, target, answer, is_etcd=is_etcd)
            if source == target:
                # Nothing can come between: the time of this way is added to that of the way back.
                self._arrive(connection, process, do)
            else:
                self._later(there, self._arrive, connection, process, do)
        return answer

    def _arrive(self, connection: _Connection, process: Callable[[], Process | None], do: Callable[[], Any]) -> None:
        callee = process()
        if callee is None or not callee.is_alive:
            connection.close(f"nobody listens at {connection.target}")
            return
        callee.at_end[connection] = connection.break_off
        if callee.runs:
            callee.context.run(connection.begin, callee, do)
        else:
            self._kernel.call_soon(connection.begin, callee, do, context=callee.context)

    def _later(self, seconds: float, do: Callable[..., object], *given: Any) -> None:
        kernel = self._kernel
        kernel.call_at(kernel.now + seconds, do, *given, context=kernel.outside)


class _Connection:
    """One call that has arrived: its way back."""

    __slots__ = ("_answer", "_is_etcd", "_network", "_source", "target")

    def __init__(
        self,
        network: Network,
        source: str,
        target: str,
        answer: Answer,
        *,
        is_etcd: bool,
    ) -> None:
        self.target = target
        self._network = network
        self._source = source
        self._answer = answer
        self._is_etcd = is_etcd

    def begin(self, callee: Process, do: Callable[[], Any]) -> None:
        """Do what was asked, as part of the process that was asked; what takes time is a task of its own."""
        try:
            found = do()
        except Exception as error:  # noqa: BLE001 - it is the caller's answer, as over any wire
            self._end(callee, (False, error))
            return
        if isinstance(found, Coroutine):
            _ = self._network._kernel.create_task(self._finish(callee, found))  # noqa: SLF001 - its own part
        else:
            self._end(callee, (True, found))

    async def _finish(self, callee: Process, work: Awaitable[Any]) -> None:
        try:
            found = True, await work
        except Exception as error:  # noqa: BLE001 - it is the caller's answer, as over any wire
            found = False, error
        self._end(callee, found)

    def _end(self, callee: Process, found: tuple[bool, Any]) -> None:
        callee.at_end.pop(self, None)
        self._send(found)

    def close(self, why: str) -> None:
        """Refuse it."""
        self._send((False, Unreachable(why)))

    def break_off(self) -> None:
        """The process has died: its machine resets the connection."""
        self.close(f"the process at {self.target} ended")

    def _send(self, found: tuple[bool, Any]) -> None:
        is_local = self.target == self._source
        back = 2 * LOCAL_SECONDS if is_local else self._network.passes(self.target, self._source, is_etcd=self._is_etcd)
        if back is not None:
            self._network._later(back, settle, self._answer, found)  # noqa: SLF001 - its own part


def settle(answer: Answer, found: tuple[bool, Any]) -> None:
    """Give an answer, unless there was one before, or nobody waits any more."""
    if not answer.done():
        answer.set_result(found)
