"""A cut ends a life, and what is genuine of it is written down, even if the store must be waited for."""

import asyncio

from services.coordination import MemoryStore
from services.coordination.lives import Life, LogCut, all_lives, open_life
from services.gateway import sealing
from services.gateway.acked_ends import AckedEnds, Cut
from services.gateway.sealing import first_of_each, seal
from tests.support.gateway_parts import BATCH, LOG, GatewayParts, event
from tests.support.gateway_rights import StoppedClock
from tests.support.poll import wait_until_async


async def opened() -> MemoryStore:
    """A store in which east is in its first life."""
    store = MemoryStore()
    await open_life(store, "east", "cluster", 1)
    return store


async def life(store: MemoryStore) -> Life:
    """The only life."""
    (found,) = await all_lives(store)
    return found


def test_the_lowest_place_of_each_partition_counts() -> None:
    """Several records may land behind one cut before the gateway stops."""
    cuts = [Cut(LOG, 1, 9, 5), Cut(LOG, 0, 7, 6), Cut(LOG, 1, 9, 4), Cut(LOG, 1, 9, 6)]
    assert first_of_each(cuts) == [LogCut(LOG, 0, 6, 7), LogCut(LOG, 1, 4, 9)]
    dated = [Cut(LOG, 1, 9, 5, leader_epoch=3), Cut(LOG, 1, 9, 4)]
    assert first_of_each(dated) == [LogCut(LOG, 1, 4, 9, leader_epoch=3)]


async def test_a_life_is_sealed_with_its_cuts() -> None:
    """Time, reason and cuts stand in the store."""
    store, clock = await opened(), StoppedClock()
    # Of a hundred records on their way each one proves the cut: it is said once.
    assert await seal(store, "east-1", [Cut(LOG, 1, 9, 5)] * 100, clock)
    found = await life(store)
    assert (found.sealed_ms, found.cuts) == (clock.unix_ms(), [LogCut(LOG, 1, 5, 9)])
    assert found.sealed_because.count("acknowledged up to offset 9, but stands at 5") == 1


async def test_a_store_that_is_away_is_waited_for() -> None:
    """What is genuine cannot be told later."""
    store = await opened()
    store.set_available(False)
    task = asyncio.create_task(seal(store, "east-1", [Cut(LOG, 1, 9, 5)], StoppedClock()))
    await asyncio.sleep(0)
    assert not task.done()
    store.set_available(True)
    assert await task
    assert (await life(store)).sealed


async def test_an_answer_that_was_lost_seals_once() -> None:
    """Unknown is tried again; the first reason stays and no cut is listed twice."""
    store = await opened()
    store.drop_reply()
    assert await seal(store, "east-1", [Cut(LOG, 1, 9, 5)], StoppedClock())
    assert (await life(store)).cuts == [LogCut(LOG, 1, 5, 9)]


async def test_it_gives_up_after_long() -> None:
    """The process ends all the same, with the exit code that says why."""
    store, clock = await opened(), StoppedClock()
    store.set_available(False)
    before = clock.boottime()
    assert not await seal(store, "east-1", [Cut(LOG, 1, 9, 5)], clock)
    assert clock.boottime() - before > sealing.GIVE_UP_SECONDS


def test_records_of_unknown_outcome_lower_what_is_genuine() -> None:
    """They may stand between the cut and the record that gave it away, or have filled the gap up."""
    ends = AckedEnds(LOG, {0: 10, 1: 10})
    ends.unknown(0)
    ends.unknown(0)
    cut = ends.acknowledge(0, 8)
    assert cut is not None
    assert (cut.acknowledged_end, cut.found) == (10, 6)
    assert [(cut.partition, cut.found) for cut in ends.genuine({0: 11, 1: 10})] == [(0, 9)]
    assert ends.compare({0: 11, 1: 10}) == []
    whole = AckedEnds(LOG, {0: 10})
    whole.unknown(0)
    assert whole.acknowledge(0, 10) is None
    assert whole.genuine({0: 11}) == []


async def test_a_frame_without_an_acknowledgement_is_of_unknown_outcome() -> None:
    """One that was never sent is not."""
    async with GatewayParts() as gateway:
        sent = [event(1, data={"user": "u", "item": "i"})]
        assert (await gateway.post("/v1/events", sent, BATCH))[0] == 200
        (partition,) = gateway.sink.records
        gateway.sink.full = True
        await gateway.post("/v1/events", sent, BATCH)
        gateway.sink.full = False
        assert gateway.ends.genuine({partition: 1}) == []
        gateway.sink.fail = "timed out"
        await gateway.post("/v1/events", sent, BATCH)
        assert [cut.found for cut in gateway.ends.genuine({partition: 1})] == [0]
        gateway.sink.fail = None
        gateway.sink.next_offset[partition] = 0
        await gateway.post("/v1/events", sent, BATCH)
        await wait_until_async(lambda: gateway.cuts, what="the cut")
        assert [cut.found for cut in gateway.cuts] == [0]
