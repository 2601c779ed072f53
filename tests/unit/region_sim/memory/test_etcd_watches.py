"""Watches of the modelled etcd: what they show, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from region_sim.memory.network import OUTSIDE
from services.coordination import StoreUnavailable
from services.coordination.base import ABSENT
from services.coordination.lease import Change, Compacted
from tests.support.etcd_world import SITES, World


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


async def read(world: World, site: str, into: list[Change | Exception]) -> None:
    """Watch everything from the beginning until the watch ends."""
    try:
        async for batch in world.model.store(site).watch("", 0):
            into.extend(batch)
    except (StoreUnavailable, Compacted) as error:
        into.append(error)


def test_watches_end_when_they_fall_silent(world: World) -> None:
    """After a second without proof of life, and only those of that site."""

    async def main() -> None:
        seen: dict[str, list[Change | Exception]] = {site: [] for site in SITES}
        reading = [asyncio.create_task(read(world, site, into)) for site, into in seen.items()]
        await asyncio.sleep(10)
        assert not any(reader.done() for reader in reading)
        world.model.faults_of("west").silent_watches = True
        await asyncio.sleep(1.5)
        assert [reader.done() for reader in reading] == [False, True, False]
        assert "silent" in str(seen["west"][-1])
        again: list[Change | Exception] = []
        await read(world, "west", again)
        assert "silent" in str(again[-1])

    world.run(main)


def test_watchers_that_fell_behind_are_told(world: World) -> None:
    """The keys stay; the past is gone, also for those who begin there."""

    async def main() -> None:
        seen: dict[str, list[Change | Exception]] = {site: [] for site in SITES}
        reading = [asyncio.create_task(read(world, site, into)) for site, into in seen.items()]
        await world.east.compare_and_put("a", b"", ABSENT)
        await world.east.compare_and_put("b", b"", ABSENT)
        await asyncio.sleep(1)
        assert world.model.fall_behind("west") == 1
        await asyncio.sleep(1)
        assert [reader.done() for reader in reading] == [False, True, False]
        assert isinstance(seen["west"][-1], Compacted)
        again: list[Change | Exception] = []
        await read(world, "north", again)
        assert isinstance(again[-1], Compacted)
        assert len(await world.west.list("")) == 2

    world.run(main)


def test_a_watch_of_a_member_that_dies_ends_and_the_next_one_is_served_by_another(world: World) -> None:
    """Nothing is missed between the two."""

    async def main() -> None:
        store, seen = world.model.store("west"), []
        assert store.preferred == "west"

        async def watch() -> None:
            after = 0
            while True:
                try:
                    async for batch in store.watch("", after):
                        seen.extend(change.key for change in batch)
                        after = batch[-1].revision if batch else after
                except StoreUnavailable:
                    pass

        watching = asyncio.create_task(watch())
        await world.east.compare_and_put("a", b"", ABSENT)
        await asyncio.sleep(1)
        world.kill("west")
        await world.east.compare_and_put("b", b"", ABSENT)
        await asyncio.sleep(1)
        assert seen == ["a", "b"]
        assert store.preferred != "west"
        watching.cancel()

    world.run(main)


def test_a_tap_sees_everything_and_when(world: World) -> None:
    """Outside of all faults."""

    async def main() -> None:
        tap = world.model.observe("a/")
        for site in SITES:
            world.model.faults_of(site).silent_watches = True
        await world.east.compare_and_put("a/1", b"", ABSENT)
        await world.east.compare_and_put("b", b"", ABSENT)
        await asyncio.sleep(2)
        await world.east.compare_and_delete("a/1", 1)
        assert [(change.key, change.now is None) for _, change in tap.seen] == [("a/1", False), ("a/1", True)]
        assert tap.seen[1][0] - tap.seen[0][0] == pytest.approx(2, abs=0.1)

    world.run(main)


def test_whoever_is_outside_asks_as_well(world: World) -> None:
    """The conductor is at no site; nothing that is cut keeps it from any member."""

    async def main() -> None:
        outside = world.model.store(OUTSIDE)
        for site in SITES:
            world.cut(*((site, other) for other in SITES if other != site and "east" in (site, other)))
        await asyncio.sleep(5)
        written = await outside.compare_and_put("a", b"", ABSENT)
        (batch,) = [batch async for batch in first(outside.watch("", 0))]
        assert [change.now for change in batch] == [written]

    world.run(main)


async def first(batches: AsyncIterator[Sequence[Change]]) -> AsyncIterator[Sequence[Change]]:
    """The first that says something."""
    async for batch in batches:
        if batch:
            yield batch
            return
