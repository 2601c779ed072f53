"""Changed items reach retrieval in small steps, each once."""

import asyncio

from services.processor.catalogue_follower import STEP_ITEMS, CatalogueFollower


async def test_changes_are_gathered_and_taken_in_steps() -> None:
    """A whole catalogue at once leaves the loop free in between."""
    steps: list[list[int]] = []
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    follower = CatalogueFollower(steps.append, 0.25, sleep)
    running = asyncio.create_task(follower.run())
    follower.changed([1, 2])
    follower.changed(range(100))
    assert follower.behind == 100
    for _ in range(50):
        await asyncio.sleep(0)
    assert sorted(item for step in steps for item in step) == list(range(100))
    assert max(map(len, steps)) == STEP_ITEMS
    assert slept == [0.25]
    assert follower.behind == 0
    running.cancel()
