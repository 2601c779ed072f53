"""Calls between sites: what arrives, what is lost in which direction, and who is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from region_sim.memory.kernel import Kernel, Process, running_process
from region_sim.memory.network import LOCAL_SECONDS, Network, Unreachable


class World:
    """Two sites, and a process at `b` that counts how often it was called."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.network = Network(self.kernel, random.Random(1))
        self.callee: Process | None = self.kernel.process("callee")
        self.done = 0

    async def work(self) -> str:
        """What the process does."""
        process = running_process()
        assert process is self.callee
        self.done += 1
        return f"done {self.done}"

    def call(self, do: Callable[[], Awaitable[Any]] | None = None, **options: bool) -> Coroutine[Any, Any, Any]:
        """Call it from `a`."""
        return self.network.call("a", "b", lambda: self.callee, do or self.work, **options)

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run it, and nothing may have gone wrong unseen."""
        self.kernel.run(main())
        assert self.kernel.failures == []


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


async def is_silent(call: Coroutine[Any, Any, Any], seconds: float = 60) -> bool:
    """Whether nothing comes of a call."""
    try:
        async with asyncio.timeout(seconds):
            await call
    except TimeoutError:
        return True
    return False


def test_a_call_takes_both_ways_and_runs_in_the_other_process(world: World) -> None:
    """The delay of each direction counts; within a site it is next to nothing."""

    async def main() -> None:
        world.network.link("a", "b").delay_seconds = 0.3
        world.network.link("b", "a").delay_seconds = 0.5
        began = world.kernel.time()
        assert await world.call() == "done 1"
        assert world.kernel.time() - began == pytest.approx(0.8)
        began = world.kernel.time()
        await world.network.call("b", "b", lambda: world.callee, world.work)
        assert world.kernel.time() - began == pytest.approx(2 * LOCAL_SECONDS)
        assert running_process() is None

    world.run(main)


def test_what_the_other_raises_is_raised_here(world: World) -> None:
    """As over any wire."""

    async def fails() -> None:
        raise LookupError("there")

    async def main() -> None:
        with pytest.raises(LookupError, match="there"):
            await world.call(fails)

    world.run(main)


def test_a_request_that_is_lost_does_nothing(world: World) -> None:
    """The other never hears of it."""

    async def main() -> None:
        world.network.link("a", "b").is_cut = True
        assert await is_silent(world.call())
        assert world.done == 0

    world.run(main)


def test_a_reply_that_is_lost_leaves_the_deed_done(world: World) -> None:
    """One direction is enough to do something, and not to know of it."""

    async def main() -> None:
        world.network.link("b", "a").is_cut = True
        assert await is_silent(world.call())
        assert world.done == 1
        world.network.link("b", "a").is_cut = False
        assert await world.call() == "done 2"

    world.run(main)


@pytest.mark.parametrize(("cut", "etcd_passes", "data_passes"), [("etcd_cut", False, True), ("data_cut", True, False)])
def test_etcd_and_data_are_cut_apart(world: World, cut: str, *, etcd_passes: bool, data_passes: bool) -> None:
    """Each of the two cuts drops its own kind only."""

    async def main() -> None:
        setattr(world.network.link("a", "b"), cut, True)
        assert await is_silent(world.call(is_etcd=True)) is not etcd_passes
        assert await is_silent(world.call()) is not data_passes

    world.run(main)


def test_a_dead_process_refuses_and_a_stopped_one_is_silent(world: World) -> None:
    """A port without a listener answers at once; a stopped process accepts and says nothing until it goes on."""

    async def main() -> None:
        assert world.callee is not None
        world.kernel.pause(world.callee)
        call = asyncio.create_task(world.call())
        await asyncio.sleep(100)
        assert (call.done(), world.done) == (False, 0)
        world.kernel.resume(world.callee)
        assert await call == "done 1"
        world.kernel.kill(world.callee)
        began = world.kernel.time()
        with pytest.raises(Unreachable, match="nobody listens at b"):
            await world.call()
        assert world.kernel.time() - began < 0.1
        world.callee = None
        with pytest.raises(Unreachable):
            await world.call()

    world.run(main)


def test_a_process_that_dies_at_work_breaks_the_connection(world: World) -> None:
    """Whoever waits is told, as by a connection that is reset, if the network is whole."""

    async def works() -> str:
        await asyncio.sleep(5)
        return "never"

    async def main() -> None:
        assert world.callee is not None
        call = asyncio.create_task(world.call(works))
        await asyncio.sleep(1)
        world.kernel.kill(world.callee)
        began = world.kernel.time()
        with pytest.raises(Unreachable, match="ended"):
            await call
        assert world.kernel.time() - began < 0.1

    world.run(main)


def test_a_lossy_link_loses_its_share_and_a_late_one_varies(world: World) -> None:
    """Within what chance allows, and the numbers do not depend on what other links do."""

    async def main() -> None:
        link = world.network.link("a", "b")
        link.loss_share, link.delay_seconds, link.jitter_seconds = 0.3, 0.1, 0.05
        took = [world.network.passes("a", "b") for _ in range(2_000)]
        assert 500 < took.count(None) < 700
        late = [seconds for seconds in took if seconds is not None]
        assert 0.1 <= min(late) < 0.105
        assert 0.145 < max(late) <= 0.15

    world.run(main)


def test_a_call_that_is_given_up_leaves_nothing_behind(world: World) -> None:
    """The other goes on with it; the answer finds nobody."""

    async def works() -> str:
        await asyncio.sleep(5)
        world.done += 1
        return "late"

    async def main() -> None:
        assert await is_silent(world.call(works), 1)
        await asyncio.sleep(10)
        assert world.done == 1

    world.run(main)
