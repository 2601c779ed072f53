"""Who held the leader key, as an outsider saw it: no term is missed while nobody answers."""

from __future__ import annotations

import msgspec

from region_sim.memory.clocks import MachineClock
from region_sim.memory.kernel import Kernel
from region_sim.terms import TermWatch, Watching
from services.coordination import MemoryStore
from services.coordination.base import ABSENT
from services.coordination.election import LeaderRecord
from services.coordination.keys import LEADER


class Place:
    """A store whose leader key is taken and given up, in virtual time."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.clock = MachineClock(self.kernel)
        self.store = MemoryStore(self.clock)
        self.watch = TermWatch(self.store, self.clock)

    async def take(self, region: str) -> int:
        """Hold the key; returns the revision at which it was created."""
        record = LeaderRecord(
            region=region,
            instance=f"{region}-process",
            lease_id=1,
            generation=2,
            gateway_url="",
            acquired_ms=0,
            cause="test",
        )
        return (await self.store.compare_and_put(LEADER, msgspec.json.encode(record), ABSENT)).create_revision

    async def give_up(self, revision: int) -> None:
        """Let the key go."""
        await self.store.compare_and_delete(LEADER, revision)


def test_every_term_is_seen_with_its_times() -> None:
    """One that had begun before, its end, and the next one."""
    place = Place()

    async def course() -> tuple[int, int, int]:
        began_ms = place.clock.unix_ms()
        first = await place.take("east")
        async with Watching(place.watch):
            await place.clock.sleep(1)
            await place.give_up(first)
            await place.clock.sleep(1)
            second = await place.take("west")
            await place.clock.sleep(1)
        return began_ms, first, second

    began_ms, first, second = place.kernel.run(course())
    east, west = place.watch.seen()
    assert (east.region, east.instance, east.epoch) == ("east", "east-process", (2, first))
    assert (west.region, west.epoch, west.gone_ms) == ("west", (2, second), 0)
    assert east.seen_ms - began_ms < 100
    assert abs(east.gone_ms - began_ms - 1000) < 300
    assert abs(west.seen_ms - began_ms - 2000) < 300


def test_terms_that_came_and_went_while_nobody_answered_are_seen_later() -> None:
    """The watch goes on where it ended: what was between is told in order, and nothing twice."""
    place = Place()

    async def course() -> int:
        first = await place.take("east")
        async with Watching(place.watch):
            await place.clock.sleep(1)
            await place.give_up(first)
            second = await place.take("west")
            await place.clock.sleep(1)
            place.store.set_available(False)
            await place.clock.sleep(1)
            place.store.set_available(True)
            await place.clock.sleep(1)
            given_up_ms = place.clock.unix_ms()
            await place.give_up(second)
            place.store.set_available(False)
            await place.clock.sleep(1)
            place.store.set_available(True)
            await place.give_up(await place.take("east"))
            await place.take("west")
            await place.clock.sleep(2)
        return given_up_ms

    given_up_ms = place.kernel.run(course())
    assert [(term.region, term.gone_ms > 0) for term in place.watch.seen()] == [
        ("east", True),
        ("west", True),
        ("east", True),
        ("west", False),
    ]
    assert place.watch.seen()[1].gone_ms >= given_up_ms
    assert not place.watch.missed


def test_a_value_that_cannot_be_read_is_counted() -> None:
    """It is no term, and whoever judges must know."""
    place = Place()

    async def course() -> None:
        async with Watching(place.watch):
            await place.store.compare_and_put(LEADER, b"{", ABSENT)
            await place.clock.sleep(1)

    place.kernel.run(course())
    assert place.watch.seen() == []
    assert place.watch.damaged >= 1
