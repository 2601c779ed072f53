"""Virtual time: what it promises about order, stopping, killing and being the same everywhere."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from region_sim.memory.kernel import WORLD_TIME_BEGINS, Kernel, SimulationError, running_process

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def kernel() -> Kernel:
    """A world's time."""
    return Kernel()


def test_time_jumps_to_the_next_thing_that_happens(kernel: Kernel) -> None:
    """A day takes no time, and everybody wakes when it said."""
    woken: list[tuple[float, str]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((kernel.time() - WORLD_TIME_BEGINS, name))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name, seconds in (("day", 86_400.0), ("now", 0.0), ("second", 1.0), ("hour", 3_600.0)):
                group.create_task(sleeper(name, seconds))

    kernel.run(main())
    assert woken == [(0.0, "now"), (1.0, "second"), (3_600.0, "hour"), (86_400.0, "day")]


def test_ties_happen_in_the_order_of_making(kernel: Kernel) -> None:
    """Also when one of them was asked for in another way, or taken back."""
    seen: list[int] = []

    async def main() -> None:
        at = kernel.time() + 1
        kernel.call_at(at, seen.append, 1)
        taken_back = kernel.call_at(at, seen.append, 2)
        kernel.call_later(1, seen.append, 3)
        kernel.call_at(at, seen.append, 4)
        taken_back.cancel()
        assert taken_back.cancelled()
        await asyncio.sleep(1)

    kernel.run(main())
    assert seen == [1, 3, 4]


def test_a_stopped_process_does_everything_when_it_goes_on(kernel: Kernel) -> None:
    """In its order, and late; others do not wait for it."""
    seen: list[tuple[str, float]] = []

    async def ticking(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            seen.append((name, kernel.time() - WORLD_TIME_BEGINS))

    async def main() -> None:
        stopped, other = kernel.process("stopped"), kernel.process("other")
        tasks = [kernel.start(stopped, ticking("stopped")), kernel.start(other, ticking("other"))]
        kernel.call_at(kernel.time() + 1.5, seen.append, ("timer of the stopped", 0.0), context=stopped.context)
        await asyncio.sleep(0.5)
        kernel.pause(stopped)
        await asyncio.sleep(2.0)
        assert "paused" in repr(stopped)
        kernel.resume(stopped)
        await asyncio.gather(*tasks)

    kernel.run(main())
    assert seen == [
        ("other", 1.0),
        ("other", 2.0),
        ("timer of the stopped", 0.0),
        ("stopped", 2.5),
        ("other", 3.0),
        ("stopped", 3.5),
        ("stopped", 4.5),
    ]


def test_what_a_process_starts_is_stopped_with_it(kernel: Kernel) -> None:
    """Tasks inherit the process, however deep."""
    seen: list[str] = []

    async def leaf() -> None:
        process = running_process()
        assert process is not None
        seen.append(process.name)
        await asyncio.sleep(1)
        seen.append("leaf went on")

    async def branch() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(leaf())

    async def main() -> None:
        process = kernel.process("tree")
        work = kernel.start(process, branch())
        await asyncio.sleep(0.5)
        kernel.pause(process)
        await asyncio.sleep(10)
        assert seen == ["tree"]
        assert not work.done()
        kernel.resume(process)
        await work
        assert running_process() is None

    kernel.run(main())
    assert seen == ["tree", "leaf went on"]


class Dying:
    """Something with last words of every kind."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def numbers(self) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(1)
        finally:
            self.said.append("generator")

    async def sleeps(self) -> None:
        try:
            await asyncio.sleep(5)
        finally:
            self.said.append("sleeper")

    async def waits(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except BaseException:
            self.said.append("waiter")
            raise

    async def reads(self) -> None:
        async for _ in self.numbers():
            pass

    async def stubborn(self) -> None:
        try:
            await asyncio.sleep(5)
        finally:
            await asyncio.sleep(5)
            self.said.append("stubborn")

    async def all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for work in (self.sleeps(), self.waits(), self.reads(), self.stubborn()):
                group.create_task(work)


def test_a_killed_process_says_nothing_more(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    """No finally, no except, no clean-up, not even when garbage is collected; and nobody complains of it."""
    dying = Dying()

    async def main() -> list[str]:
        process = kernel.process("dying")
        kernel.start(process, dying.all())
        await asyncio.sleep(2)
        kernel.kill(process)
        await asyncio.sleep(100)
        gc.collect()
        return list(dying.said)

    assert kernel.run(main()) == []
    assert kernel.failures == []
    gc.collect()
    assert capfd.readouterr().err == ""


def test_who_waits_for_a_killed_process_waits_for_ever(kernel: Kernel) -> None:
    """Nothing tells it: the caller's own patience has to end."""

    async def main() -> None:
        process = kernel.process("dying")
        work = kernel.start(process, asyncio.sleep(1))
        kernel.kill(process)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50):
                await asyncio.shield(work)

    kernel.run(main())


def test_a_process_that_is_killed_while_stopped_does_not_come_back(kernel: Kernel) -> None:
    """What was waiting is thrown away."""
    seen: list[str] = []

    async def main() -> None:
        process = kernel.process("dying")
        kernel.pause(process)
        kernel.call_soon(seen.append, "waiting", context=process.context)
        await asyncio.sleep(1)
        kernel.kill(process)
        kernel.resume(process)
        kernel.call_soon(seen.append, "new", context=process.context)
        await asyncio.sleep(1)
        assert "dead" in repr(process)

    kernel.run(main())
    assert seen == []


def test_what_nobody_awaits_is_not_forgotten(kernel: Kernel) -> None:
    """A task or a callback that fails is a bug somewhere, and the world goes on."""

    async def fails(text: str) -> None:
        raise RuntimeError(text)

    async def main() -> None:
        heard = asyncio.create_task(fails("heard"))
        kernel.start(kernel.process("p"), fails("unheard"))
        kernel.call_soon(int, "no number")
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="heard"):
            await heard

    kernel.run(main())
    assert sorted(type(error).__name__ for error in kernel.failures) == ["RuntimeError", "ValueError"]
    assert "unheard" in str(kernel.failures)


def test_a_failure_outlives_the_tasks_that_came_after_it(kernel: Kernel) -> None:
    """Tasks that are done are let go, but not with an error that nobody has heard."""

    async def fails() -> None:
        raise RuntimeError("early")

    async def main() -> None:
        failing = asyncio.create_task(fails())
        for _number in range(3_000):
            await asyncio.create_task(asyncio.sleep(0))
        assert failing.done()
        assert len(kernel._tasks) < 2_000

    kernel.run(main())
    assert [str(error) for error in kernel.failures] == ["early"]


def test_a_world_without_anything_to_come_says_so(kernel: Kernel) -> None:
    """Instead of hanging."""

    async def main() -> None:
        await kernel.create_future()

    with pytest.raises(SimulationError, match="nothing is left"):
        kernel.run(main())


def test_a_world_that_does_not_come_to_rest_says_so(kernel: Kernel) -> None:
    """Instead of running for ever at one moment."""
    kernel.steps_max = 10_000

    async def main() -> None:
        for _ in range(10**9):
            await asyncio.sleep(0)

    with pytest.raises(SimulationError, match="10001 callbacks"):
        kernel.run(main())


def test_what_main_raises_is_raised(kernel: Kernel) -> None:
    """And the collector of garbage works again afterwards."""

    async def main() -> None:
        assert not gc.isenabled()
        raise LookupError("main")

    with pytest.raises(LookupError, match="main"):
        kernel.run(main())
    assert gc.isenabled()
    assert kernel.is_closed()


def test_threads_are_none(kernel: Kernel) -> None:
    """What would go to a thread happens at once, errors included."""

    async def main() -> None:
        assert await asyncio.to_thread(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(divmod, 7, 0)
        assert kernel.time() == WORLD_TIME_BEGINS

    kernel.run(main())


def test_a_dropped_generator_is_closed_as_in_any_loop(kernel: Kernel) -> None:
    """Its last words may await something."""
    said: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(1)
            said.append("closed")

    async def main() -> None:
        async for _ in numbers():
            break
        await asyncio.sleep(2)

    kernel.run(main())
    assert said == ["closed"]


COURSE = """
import asyncio, random
from region_sim.memory.kernel import Kernel
kernel, draw, seen = Kernel(), random.Random(7), []
junk = [object() for _ in range(10_000)]

async def worker(name):
    try:
        while True:
            await asyncio.sleep(draw.random())
            seen.append(name)
    finally:
        seen.append("end of " + name)

async def main():
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(worker(str(number)))
            await asyncio.sleep(20)
            raise LookupError
    except* LookupError:
        pass
    tasks = {asyncio.create_task(worker("set" + str(number))) for number in range(40)}
    await asyncio.sleep(1)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

kernel.run(main())
print(*seen)
"""


def test_the_course_is_the_same_in_every_process() -> None:
    """Whatever the seed of hashes and wherever objects lie: also where tasks are held in sets."""
    courses = set()
    for seed in ("0", "1", "4711"):
        code = COURSE.replace("10_000", f"{int(seed) + 100}")
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        found = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        courses.add(found.stdout.partition("end of")[2])
    (course,) = courses
    assert course.count("end of") == 79
