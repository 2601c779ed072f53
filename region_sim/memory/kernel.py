"""Virtual time: an event loop that jumps to the next thing that happens, and processes that can be stopped or killed.

The shipped code runs on asyncio, so the simulator is an event loop: tasks, futures, timeouts and locks are asyncio's.
Two things differ. Time is a number that jumps, and every callback belongs to a process (by its context), so that one
can be stopped as SIGSTOP does (what becomes due waits until it goes on) or killed as SIGKILL does (nothing of it ever
runs again: no `finally`, no last words). Nothing here reads a clock or draws a number: one seed gives one course.

Two things of Python would break that, so they are kept out. The collector of garbage, which would close the coroutines
of killed processes at moments of its own, rests while a world runs; the kernel holds all tasks, and closes those that
are left when the world is over. And sets of tasks (TaskGroup cancels its tasks in the order of one) are ordered by
number here, not by address.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import heapq
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
WORLD_TIME_BEGINS: Final = 1_000.0
TASKS_KEPT_MIN: Final = 512
"""As many tasks are held before the kernel looks which are done."""
CLOSINGS_MAX: Final = 100
"""How often a coroutine that awaits while it is closed is closed again."""


class SimulationError(Exception):
    """The simulator is wrong, or ran out of things to do: no verdict can come of it."""


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Process:
    """Something that is stopped, goes on and is killed as one. Made by `Kernel.process`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.is_paused = False
        self.runs = True
        """Alive and not paused."""
        self.waiting: deque[Callback] = deque()
        """What became due while it was stopped, in order."""
        self.at_end: dict[object, Callable[[], None]] = {}
        """What happens outside when it is killed, such as that its connections break; by whoever asked for it."""
        self.context = contextvars.Context()
        """For callbacks of its own: `call_soon(..., context=process.context)`."""
        self.context.run(_process.set, self)

    def __repr__(self) -> str:
        state = "dead" if not self.is_alive else "paused" if self.is_paused else "running"
        return f"<process {self.name}: {state}>"


def running_process() -> Process | None:
    """Return the process that runs now; None for the world outside (conductor, clients, network)."""
    return _process.get()


class Callback:
    """What asyncio calls a handle, and as quick as can be: a world makes a million of them."""

    __slots__ = ("args", "callback", "context", "due", "is_cancelled")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        due: float = 0.0,
    ) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = contextvars.copy_context() if context is None else context
        self.due = due
        self.is_cancelled = False

    def cancel(self) -> None:
        """See asyncio.Handle."""
        self.is_cancelled = True
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        """See asyncio.Handle."""
        return self.is_cancelled

    def when(self) -> float:
        """See asyncio.TimerHandle."""
        return self.due

    def __repr__(self) -> str:
        return f"<{'cancelled ' if self.is_cancelled else ''}callback {self.callback}>"


class NumberedTask(asyncio.Task[T]):
    """A task whose place in a set does not depend on its address."""

    _number = 0

    def __hash__(self) -> int:
        if not self._number:
            loop = self.get_loop()
            assert isinstance(loop, Kernel)
            loop.tasks_made += 1
            self._number = loop.tasks_made
        return self._number


class Kernel(asyncio.AbstractEventLoop):
    """The event loop of one world. Use it through `run`, once."""

    def __init__(self) -> None:
        self.now = WORLD_TIME_BEGINS
        """What `time` returns: virtual seconds."""
        self._ready: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Callback]] = []
        self._made = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._look_at = TASKS_KEPT_MIN
        self._is_over = False
        self._running = False
        self.outside = contextvars.Context()
        """For callbacks that belong to no process, whoever asks for them."""
        self.failures: list[BaseException] = []
        """What tasks and callbacks raised that nobody awaited: bugs of the code under test, or of the simulator."""
        self.steps = 0
        """Callbacks that ran."""
        self.steps_max = 50_000_000
        """More of them mean that the world does not come to rest."""
        self.tasks_made = 0

    get_debug = staticmethod(bool)
    """See asyncio; False, and without a frame of Python: every future and every task asks."""

    # Processes.

    def process(self, name: str) -> Process:
        """Return a new process; give it work with `start`."""
        return Process(name)

    def start(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine as part of a process, and all that it starts."""
        context = contextvars.copy_context()
        context.run(_process.set, process)
        return self.create_task(work, context=context)

    def pause(self, process: Process) -> None:
        """SIGSTOP."""
        process.is_paused = True
        process.runs = False

    def resume(self, process: Process) -> None:
        """SIGCONT: what became due meanwhile happens now, in its order."""
        process.is_paused = False
        process.runs = process.is_alive
        self._ready.extend(process.waiting)
        process.waiting.clear()

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        process.is_alive = process.runs = False
        process.waiting.clear()
        at_end = list(process.at_end.values())
        process.at_end.clear()
        for tell in at_end:
            tell()

    # The loop, as asyncio asks for it.

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run until `main` is done. Raises what it raises, and SimulationError when nothing could ever happen again."""
        before = asyncio._get_running_loop()  # noqa: SLF001 - how an event loop announces itself
        assert before is None, "a world cannot run inside another event loop"
        assert not self._is_over, "a world runs once"
        collects, hooks = gc.isenabled(), sys.get_asyncgen_hooks()
        gc.disable()
        asyncio._set_running_loop(self)  # noqa: SLF001
        sys.set_asyncgen_hooks(finalizer=self._dropped)
        # asyncio notes every task in a set of weak references, for `all_tasks`. Nobody in a world asks for that.
        asyncio.tasks._all_tasks.add = _noted_elsewhere  # type: ignore[attr-defined]  # noqa: SLF001
        self._running = True
        try:
            task = self.create_task(main)
            self._turn(task)
            result: T = task.result()
            return result
        finally:
            self._end()
            asyncio._set_running_loop(None)  # noqa: SLF001
            sys.set_asyncgen_hooks(*hooks)
            del asyncio.tasks._all_tasks.add  # type: ignore[attr-defined]  # noqa: SLF001 - the method is there again
            if collects:
                gc.enable()

    def _turn(self, main: asyncio.Task[Any]) -> None:
        ready, process_of = self._ready, _process
        is_done, take = main.done, ready.popleft
        while not is_done():
            handle = take() if ready else self._next_due()
            callback = handle.callback
            if callback is None:
                continue  # it was cancelled
            context = handle.context
            process: Process | None = context.get(process_of)
            if process is not None and not process.runs:
                if process.is_alive:
                    process.waiting.append(handle)
                continue
            self.steps += 1
            if self.steps > self.steps_max:
                raise SimulationError(f"{self.steps} callbacks ran, the last at {self.now:.3f} s: {handle!r}")
            try:
                context.run(callback, *handle.args)
            except Exception as error:  # noqa: BLE001 - as in every event loop: it is noted, and the world goes on
                self.failures.append(error)

    def _next_due(self) -> Callback:
        """Go to the time of the next timer."""
        if not self._timers:
            raise SimulationError("nothing is left that could happen, and the main task is not done")
        timer = heapq.heappop(self._timers)[2]
        if not timer.is_cancelled and timer.due > self.now:
            self.now = timer.due
        return timer

    def _end(self) -> None:
        """Close what never came to its end, in silence: what it does or says now is not part of the world any more."""
        self._is_over = True
        for task in self._tasks:
            if task.done():
                self._note_failure(task)
            else:
                _close(task.get_coro())
        self._running = False
        self._tasks.clear()
        self._ready.clear()
        self._timers.clear()

    def _note_failure(self, task: asyncio.Task[Any]) -> None:
        if _failed_unheard(task):
            error = task.exception()
            assert error is not None
            self.failures.append(error)

    def _dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Nobody holds an asynchronous generator any more that has not come to its end."""
        if self._is_over:
            _close(generator.aclose())
        else:
            _ = self.create_task(generator.aclose())

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Callback:
        """See asyncio."""
        handle = Callback(callback, args, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Callback:
        """See asyncio; there is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Callback:
        """See asyncio."""
        when = self.now + delay
        timer = Callback(callback, args, context, when)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, timer))
        return timer

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Callback:
        """See asyncio. What is due at one time happens in the order in which it was asked for."""
        timer = Callback(callback, args, context, when)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        """See asyncio."""
        # The name costs more than the task: it is only looked at by people.
        task = NumberedTask(coro, loop=self, name=name or "task", context=context)
        tasks = self._tasks
        tasks.append(task)
        if len(tasks) > self._look_at:
            # Tasks that failed stay until the end: somebody may still ask for their error.
            tasks[:] = [one for one in tasks if not one.done() or _failed_unheard(one)]
            self._look_at = max(TASKS_KEPT_MIN, 2 * len(tasks))
        return task

    def run_in_executor(  # type: ignore[override]
        self, _executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run it now, in no time: there are no threads here. What returns a coroutine takes as long as that takes."""
        done: asyncio.Future[T] = self.create_future()
        try:
            found: Any = func(*args)
            if asyncio.iscoroutine(found):
                # A blocking call of the shipped code whose model has to wait, as for an answer over the network.
                return self.create_task(found)
            done.set_result(found)
        except Exception as error:  # noqa: BLE001 - handed on, as an executor does
            done.set_exception(error)
        return done

    def is_running(self) -> bool:
        """See asyncio."""
        return self._running

    def is_closed(self) -> bool:
        """See asyncio."""
        return self._is_over

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody awaited. Tasks that are pending when the world ends are no news."""
        error = context.get("exception")
        if isinstance(error, BaseException) and not self._is_over:
            self.failures.append(error)

    async def shutdown_asyncgens(self) -> None:
        """See asyncio."""

    async def shutdown_default_executor(self) -> None:
        """See asyncio."""


def _noted_elsewhere(_task: asyncio.Task[Any]) -> None:
    """The kernel holds its tasks itself."""


def _failed_unheard(task: asyncio.Task[Any]) -> bool:
    """Whether a task that is done raised something, and nobody has asked for it."""
    return bool(task._log_traceback)  # noqa: SLF001 - what asyncio's own complaint hangs on


def _close(work: Any) -> None:
    """Let a coroutine end where it stands. One that awaits something on its way out is closed again and again."""
    for _ in range(CLOSINGS_MAX):
        try:
            work.close()
        except (Exception, asyncio.CancelledError, GeneratorExit):  # noqa: BLE001 - nobody is left to hear of it
            again = True
        else:
            again = False
        if not again:
            return
