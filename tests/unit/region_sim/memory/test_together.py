"""The tasks of a simulated process: the first that fails ends it, and what fails after that is not a bug of its own."""

from __future__ import annotations

import asyncio

import pytest

from region_sim.memory.kernel import Kernel
from region_sim.memory.together import run_all


async def fails(seconds: float, words: str) -> None:
    """Raise, after a while."""
    await asyncio.sleep(seconds)
    raise ValueError(words)


@pytest.mark.parametrize("later", [1.0, 1.5])
def test_the_first_failure_is_raised_and_others_are_no_news(later: float) -> None:
    """Found by a campaign, seed 66: intake and watch found the same log cut, and the drill broke."""
    kernel = Kernel()  # type: ignore[abstract]

    async def course() -> None:
        with pytest.raises(ValueError, match="first"):
            await run_all(fails(1.0, "first"), fails(later, "second"))
        await asyncio.sleep(1.0)

    kernel.run(course())
    assert kernel.failures == []
