"""The fake's switches and its time, which no real store has: what simulations and tests of others rest on."""

from __future__ import annotations

import asyncio

import pytest

from services.coordination import MemoryStore, StoreUnavailable
from services.coordination.base import ABSENT
from services.coordination.lease import Change, Compacted, LeaseLost
from tests.support.poll import wait_until_async
from tests.support.turned_clock import TurnedClock


async def test_a_lease_ends_by_the_given_clock() -> None:
    """Not a moment before its time to live, and at once with it."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    lease = await store.grant(5)
    await store.compare_and_put("/a", b"", ABSENT, lease_id=lease.lease_id)
    clock.turn(4.9)
    assert await store.keep_alive(lease.lease_id) == 5
    clock.turn(4.9)
    assert await store.get("/a") is not None
    clock.turn(0.2)
    assert await store.get("/a") is None
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease.lease_id)


async def test_while_it_answers_nobody_leases_run_out() -> None:
    """An unreachable store does not wait for its holders."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    lease = await store.grant(5)
    store.set_available(False)
    for refused in (store.get("/a"), store.grant(5), store.keep_alive(lease.lease_id), store.revision()):
        with pytest.raises(StoreUnavailable):
            await refused
    clock.turn(6)
    store.set_available(True)
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease.lease_id)


async def test_watches_can_fall_silent() -> None:
    """A watch that is open ends, and a new one is refused until they are allowed again."""
    store = MemoryStore()
    seen: list[Change] = []
    ended = asyncio.Event()

    async def follow() -> None:
        try:
            async for batch in store.watch("/", 0):
                seen.extend(batch)
        except StoreUnavailable:
            ended.set()

    task = asyncio.ensure_future(follow())
    await store.compare_and_put("/a", b"", ABSENT)
    await wait_until_async(lambda: seen)
    store.silence_watches(True)
    await asyncio.wait_for(ended.wait(), 10)
    await task
    with pytest.raises(StoreUnavailable):
        await anext(aiter(store.watch("/", 0)))
    store.silence_watches(False)
    assert [change.key for change in await anext(aiter(store.watch("/", 0)))] == ["/a"]


async def test_restoring_a_backup_turns_the_revisions_back() -> None:
    """What came after the backup is gone, leases included, and the same revisions are given again."""
    store = MemoryStore()
    old = await store.compare_and_put("/a", b"old", ABSENT)
    lease = await store.grant(60)
    new = await store.compare_and_put("/b", b"", ABSENT, lease_id=lease.lease_id)
    store.restore([old], old.revision)
    assert await store.list("/") == [old]
    again = await store.compare_and_put("/c", b"", ABSENT)
    assert again.revision == new.revision
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease.lease_id)
    with pytest.raises(Compacted):
        await anext(aiter(store.watch("/", 0)))
