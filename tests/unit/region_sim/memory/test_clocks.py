"""The clocks of a machine: what can be set, what only runs fast or slow."""

from __future__ import annotations

import asyncio

import pytest

from region_sim.memory.clocks import UNIX_MS_AT_THE_BEGINNING, MachineClock
from region_sim.memory.kernel import Kernel


def test_a_clock_runs_at_its_rate_and_machines_are_incomparable() -> None:
    """Elapsed and boot time count from somewhere else on every machine, and never jump."""
    kernel = Kernel()

    async def main() -> None:
        right, fast = MachineClock(kernel), MachineClock(kernel, 5_000)
        began = fast.boottime(), fast.monotonic(), fast.unix_ms()
        assert began[0] == right.boottime() + 5_000
        await asyncio.sleep(10)
        fast.set_rate(1.5)
        await asyncio.sleep(10)
        fast.set_rate(0.5)
        await asyncio.sleep(10)
        assert fast.boottime() - began[0] == pytest.approx(10 + 15 + 5)
        assert fast.monotonic() - began[1] == pytest.approx(30)
        assert fast.unix_ms() - began[2] == 30_000
        assert right.unix_ms() == UNIX_MS_AT_THE_BEGINNING + 30_000

    kernel.run(main())


def test_setting_the_wall_clock_moves_nothing_else() -> None:
    """Not even a little, in both directions."""
    kernel = Kernel()

    async def main() -> None:
        clock = MachineClock(kernel)
        before = clock.boottime(), clock.monotonic(), clock.unix_ms()
        clock.step_wall(60)
        assert clock.unix_ms() == before[2] + 60_000
        clock.step_wall(-3_600)
        assert clock.unix_ms() == before[2] - 3_540_000
        assert (clock.boottime(), clock.monotonic()) == before[:2]

    kernel.run(main())


def test_sleeping_by_a_fast_clock_is_short() -> None:
    """A machine that counts two seconds in one wakes its sleepers early."""
    kernel = Kernel()

    async def main() -> None:
        clock = MachineClock(kernel)
        clock.set_rate(2.0)
        began = kernel.time(), clock.boottime()
        await clock.sleep(10)
        assert kernel.time() - began[0] == pytest.approx(5)
        assert clock.boottime() - began[1] == pytest.approx(10)
        await clock.sleep(-1)

    kernel.run(main())
