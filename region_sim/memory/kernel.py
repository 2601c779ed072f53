"""Virtual time: an event loop that jumps to the next thing that happens, and processes that can be stopped or killed.

The shipped code runs on asyncio, so the simulator is an event loop: tasks, futures, timeouts and locks are asyncio's.
Two things differ. Time is a number that jumps, and every callback belongs to a process (by its context), so that one
can be stopped as SIGSTOP does (what becomes due waits until it goes on) or killed as SIGKILL does (nothing of it ever
runs again: no `finally`, no last words). Nothing here reads a clock or draws a number: one seed gives one course.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
WORLD_TIME_BEGINS: Final = 1_000.0


class SimulationError(Exception):
    """The simulator is wrong, or ran out of things to do: no verdict can come of it."""


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Process:
    """Something that is stopped, goes on and is killed as one. Made by `Kernel.process`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.is_paused = False
        self.waiting: deque[asyncio.Handle] = deque()
        """What became due while it was stopped, in order."""
        self.context = contextvars.Context()
        """For callbacks of its own: `call_soon(..., context=process.context)`."""
        self.context.run(_process.set, self)

    def __repr__(self) -> str:
        state = "dead" if not self.is_alive else "paused" if self.is_paused else "running"
        return f"<process {self.name}: {state}>"


def running_process() -> Process | None:
    """Return the process that runs now; None for the world outside (conductor, clients, network)."""
    return _process.get()


class Kernel(asyncio.AbstractEventLoop):
    """The event loop of one world. Use it through `run`."""

    def __init__(self) -> None:
        self._now = WORLD_TIME_BEGINS
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._made = 0
        self._stopping = False
        self._closed = False
        self._running = False
        self.outside = contextvars.Context()
        """For callbacks that belong to no process, whoever asks for them."""
        self.failures: list[BaseException] = []
        """What tasks raised that nobody awaited: bugs of the code under test, or of the simulator."""
        self.steps = 0
        """Callbacks that ran."""

    # Processes.

    def process(self, name: str) -> Process:
        """Return a new process; give it work with `start`."""
        return Process(name)

    def start(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine as part of a process, and all that it starts."""
        context = contextvars.copy_context()
        context.run(_process.set, process)
        return asyncio.Task(work, loop=self, context=context)

    def pause(self, process: Process) -> None:
        """SIGSTOP."""
        process.is_paused = True

    def resume(self, process: Process) -> None:
        """SIGCONT: what became due meanwhile happens now, in its order."""
        process.is_paused = False
        self._ready.extend(process.waiting)
        process.waiting.clear()

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        process.is_alive = False
        process.waiting.clear()

    # The loop, as asyncio asks for it.

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run until `main` is done. Raises what it raises, and SimulationError when nothing could ever happen again."""
        before = asyncio._get_running_loop()  # noqa: SLF001 - how an event loop announces itself
        assert before is None, "a world cannot run inside another event loop"
        asyncio._set_running_loop(self)  # noqa: SLF001
        self._running = True
        try:
            task = asyncio.Task(main, loop=self)
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._running = False
            self._closed = True
            asyncio._set_running_loop(None)  # noqa: SLF001

    def _step(self) -> None:
        if not self._ready:
            if not self._timers:
                raise SimulationError("nothing is left that could happen, and the main task is not done")
            when, _, timer = heapq.heappop(self._timers)
            if timer.cancelled():
                return
            self._now = max(self._now, when)
            self._ready.append(timer)
        handle = self._ready.popleft()
        if handle.cancelled():
            return
        process = handle._context.get(_process)  # type: ignore[attr-defined]  # noqa: SLF001 - whose callback it is
        if process is not None:
            if not process.is_alive:
                return
            if process.is_paused:
                process.waiting.append(handle)
                return
        self.steps += 1
        handle._run()  # noqa: SLF001 - what a loop does with a handle

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """See asyncio."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """See asyncio; there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Told by timers; a cancelled one is thrown away when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        """See asyncio."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(  # type: ignore[override]
        self, _executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run it now, in no time: there are no threads here. What returns a coroutine takes as long as that takes."""
        done: asyncio.Future[T] = self.create_future()
        try:
            found: Any = func(*args)
            if asyncio.iscoroutine(found):
                # A blocking call of the shipped code whose model has to wait, as for an answer over the network.
                return asyncio.Task(found, loop=self)
            done.set_result(found)
        except Exception as error:  # noqa: BLE001 - handed on, as an executor does
            done.set_exception(error)
        return done

    def is_running(self) -> bool:
        """See asyncio."""
        return self._running

    def is_closed(self) -> bool:
        """See asyncio."""
        return self._closed

    def get_debug(self) -> bool:
        """See asyncio."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody awaited; tasks of killed processes are expected to be pending."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.failures.append(error)

    async def shutdown_asyncgens(self) -> None:
        """See asyncio."""

    async def shutdown_default_executor(self) -> None:
        """See asyncio."""
