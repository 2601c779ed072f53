"""The modelled etcd: who leads, what a fault does to whom, and what stays right."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from region_sim.memory.clocks import MachineClock
from region_sim.memory.etcd import EtcdModel
from region_sim.memory.etcd_client import Ask, NoLeader
from region_sim.memory.kernel import Kernel
from region_sim.memory.network import OUTSIDE, Network
from services.coordination import CasConflict, StoreUnavailable
from services.coordination.base import ABSENT
from services.coordination.etcd_transport import UnknownOutcome
from services.coordination.lease import Change, Compacted, LeaseLost

SITES = ("east", "west", "north")


class World:
    """Three sites; `east` leads."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.network = Network(self.kernel, random.Random(1))
        self.model = EtcdModel(self.kernel, self.network, SITES, random.Random(1))
        self.model.move_leader("east")
        self.east, self.west, self.north = (self.model.store(site) for site in SITES)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run it, and nothing may have gone wrong unseen."""

        async def body() -> None:
            await asyncio.sleep(0.5)
            assert self.model.leader == "east"
            await main()

        self.kernel.run(body())
        assert self.kernel.failures == []

    def cut(self, *pairs: tuple[str, str], is_cut: bool = True) -> None:
        """Cut directed links, or mend them."""
        for pair in pairs:
            self.network.link(*pair).is_cut = is_cut

    def pause(self, site: str) -> None:
        """Stop a member."""
        self.kernel.pause(self.model.member(site).process)

    def resume(self, site: str) -> None:
        """Let it go on."""
        self.kernel.resume(self.model.member(site).process)

    def kill(self, site: str) -> None:
        """Kill a member."""
        self.kernel.kill(self.model.member(site).process)

    async def seconds_until_led(self, *not_by: str) -> float:
        """How long until somebody (else) leads."""
        began = self.kernel.time()
        while self.model.leader in ("", *not_by):
            await asyncio.sleep(0.05)
            assert self.kernel.time() - began < 30, "nobody leads"
        return self.kernel.time() - began

    async def seconds_until_gone(self, key: str) -> float:
        """How long until a key is gone, seen from outside."""
        began = self.kernel.time()
        while key in self.model.state.table.entries:
            await asyncio.sleep(0.01)
            assert self.kernel.time() - began < 60, f"{key} stays"
        return self.kernel.time() - began


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


def test_without_a_majority_nobody_is_answered_and_afterwards_all_is_there(world: World) -> None:
    """Two of three are needed, for reads as well; nothing is lost."""

    async def main() -> None:
        written = await world.north.compare_and_put("a", b"1", ABSENT)
        world.kill("east")
        world.kill("west")
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                await world.north.get("a")
            await asyncio.sleep(1)
        assert world.model.leader == ""
        world.model.restart("west")
        assert await world.seconds_until_led() < 3
        assert await world.north.get("a") == written

    world.run(main)


@pytest.mark.parametrize("how", ["pause", "kill", "cut", "cut one way"])
def test_a_leader_that_is_gone_is_replaced(world: World, how: str) -> None:
    """After one to two election times; whoever asks meanwhile is not answered, and afterwards by the others."""

    async def main() -> None:
        {
            "pause": lambda: world.pause("east"),
            "kill": lambda: world.kill("east"),
            "cut": lambda: world.cut(("east", "west"), ("west", "east"), ("east", "north"), ("north", "east")),
            "cut one way": lambda: world.cut(("east", "west"), ("east", "north")),
        }[how]()
        assert 1.0 <= await world.seconds_until_led("east") <= 2.3
        assert world.model.elections == 1
        assert (await world.west.compare_and_put("a", b"1", ABSENT)).revision == 1
        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(10):
                await (world.east if "cut" in how else world.model.store("east", request_timeout_seconds=0.001)).get(
                    "a"
                )

    world.run(main)


def test_a_cut_of_data_is_none_of_etcds(world: World) -> None:
    """And one of etcd is."""

    async def main() -> None:
        for other in ("west", "north"):
            world.network.link("east", other).data_cut = True
        await asyncio.sleep(5)
        assert world.model.leader == "east"
        for other in ("west", "north"):
            world.network.link("east", other).etcd_cut = True
        await world.seconds_until_led("east")

    world.run(main)


def test_a_lease_ends_late_and_never_early(world: World) -> None:
    """Counted from when the leader renewed it, and looked for twice a second."""

    async def main() -> None:
        for number in range(6):
            key = f"a{number}"
            lease = await world.west.grant(3)
            await world.west.compare_and_put(key, b"", ABSENT, lease_id=lease.lease_id)
            await asyncio.sleep(1.1 + number / 7)
            sent = world.kernel.time()
            assert await world.west.keep_alive(lease.lease_id) == 3
            await world.seconds_until_gone(key)
            assert 3.0 <= world.kernel.time() - sent <= 3.65
            with pytest.raises(LeaseLost):
                await world.west.keep_alive(lease.lease_id)

    world.run(main)


def test_the_shortest_lease_hangs_on_the_election_time(world: World) -> None:
    """As etcd's does: one and a half elections, in whole seconds."""

    async def main() -> None:
        assert (await world.east.grant(0.1)).ttl_seconds == 2
        slow = EtcdModel(world.kernel, world.network, SITES, random.Random(1), election_seconds=3.0)
        await asyncio.sleep(0.5)
        assert (await slow.store("east").grant(0.1)).ttl_seconds == 5

    world.run(main)


def test_a_new_leader_lets_every_lease_begin_anew(world: World) -> None:
    """Its whole time, and an election longer: failover is late by so much when the leader dies too."""

    async def main() -> None:
        lease = await world.west.grant(4)
        await world.west.compare_and_put("a", b"", ABSENT, lease_id=lease.lease_id)
        await asyncio.sleep(3.5)
        world.model.move_leader()
        assert 5.0 <= await world.seconds_until_gone("a") <= 5.65

    world.run(main)


def test_a_leader_that_starts_again_at_once_does_not_lead(world: World) -> None:
    """It has forgotten when leases end: whoever is elected gives them their whole time, and they do end."""

    async def main() -> None:
        lease = await world.west.grant(4)
        await world.west.compare_and_put("a", b"", ABSENT, lease_id=lease.lease_id)
        world.kill("east")
        world.model.restart("east")
        took = await world.seconds_until_gone("a")
        assert 4.0 + 1.0 + 1.0 <= took <= 4.0 + 1.0 + 2.3 + 0.6

    world.run(main)


def test_what_has_ended_cannot_be_renewed_while_it_is_on_its_way_out(world: World) -> None:
    """Else a lease could be promised and then ended: here a majority is slow to write that it has ended."""

    async def main() -> None:
        lease = await world.east.grant(2)
        granted = world.kernel.time()
        for site in ("west", "north"):
            world.network.link("east", site).delay_seconds = 0.4
        patient = world.model.store("east", request_timeout_seconds=5)
        await asyncio.sleep(granted + 2.0 - world.kernel.time())
        with pytest.raises(LeaseLost):
            await patient.keep_alive(lease.lease_id)

    world.run(main)


def test_a_lost_answer_to_a_write_is_an_unknown_outcome(world: World) -> None:
    """It happened; who asked cannot know. Those of another site are answered."""

    async def main() -> None:
        world.model.faults_of("west").lost_reply_share = 1.0
        with pytest.raises(UnknownOutcome, match="no answer in time"):
            await world.west.compare_and_put("a", b"1", ABSENT)
        found = await world.east.get("a")
        assert found is not None
        assert (await world.west.get("a")) == found
        with pytest.raises(UnknownOutcome):
            await world.west.compare_and_delete("a", found.revision)
        assert await world.north.get("a") is None
        with pytest.raises(UnknownOutcome):
            await world.west.grant(5)

    world.run(main)


class LosesFirst(random.Random):
    """Loses the first of every two answers."""

    number = 0

    def random(self) -> float:
        self.number += 1
        return 0.0 if self.number % 2 else 0.9


def test_a_second_try_knows_its_own_first_one_by_lease_and_value(world: World) -> None:
    """The same as the shipped client: otherwise a conflict in doubt is no conflict."""

    async def main() -> None:
        world.model._draw = LosesFirst()
        lease = await world.west.grant(5)
        world.model.faults_of("west").lost_reply_share = 0.5
        written = await world.west.compare_and_put("a", b"1", ABSENT, lease_id=lease.lease_id)
        assert written == await world.east.get("a")
        with pytest.raises(StoreUnavailable, match="an answer was lost"):
            await world.west.compare_and_put("b", b"1", ABSENT)
        world.model.faults_of("west").lost_reply_share = 0.0
        with pytest.raises(CasConflict):
            await world.west.compare_and_put("b", b"1", ABSENT)

    world.run(main)


def test_refused_at_the_door_is_no_doubt(world: World) -> None:
    """Members that know that they have no leader say so at once."""

    async def main() -> None:
        world.kill("east")
        world.kill("west")
        await asyncio.sleep(3)
        began = world.kernel.time()
        with pytest.raises(StoreUnavailable, match="no leader") as caught:
            await world.north.compare_and_put("a", b"", ABSENT)
        assert not isinstance(caught.value, UnknownOutcome)
        assert world.kernel.time() - began < 0.1

    world.run(main)


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


def test_a_wiped_member_votes_when_it_has_everything_again(world: World) -> None:
    """Before that it is no help; afterwards it can lead."""

    async def main() -> None:
        written = await world.east.compare_and_put("a", b"1", ABSENT)
        world.model.wipe("west")
        world.model.restart("west")
        assert not world.model.move_leader("west")
        world.kill("north")
        with pytest.raises(StoreUnavailable):
            await world.east.get("a")
        world.model.restart("north")
        await asyncio.sleep(4)
        world.kill("north")
        await asyncio.sleep(0.5)
        assert await world.west.get("a") == written
        assert world.model.move_leader("west")
        assert await world.east.get("a") == written

    world.run(main)


def test_who_lags_cannot_lead(world: World) -> None:
    """It does not hold all that was written; when it does, it can."""

    async def main() -> None:
        world.cut(("east", "west"), ("north", "west"))
        await world.east.compare_and_put("a", b"1", ABSENT)
        world.cut(("east", "west"), ("north", "west"), is_cut=False)
        assert not world.model.move_leader("west")
        await asyncio.sleep(0.5)
        assert world.model.move_leader("west")

    world.run(main)


@pytest.mark.parametrize(("has_bug", "seconds"), [(True, 3.0), (False, 4.0)])
def test_the_old_bug_ends_a_lease_that_was_renewed(world: World, *, has_bug: bool, seconds: float) -> None:
    """A former leader goes on after its successor has renewed: before 3.5.13 it revoked what it held for ended."""

    async def main() -> None:
        world.model.stale_revocation = has_bug
        lease = await world.west.grant(3)
        await world.west.compare_and_put("a", b"", ABSENT, lease_id=lease.lease_id)
        world.pause("east")
        await world.seconds_until_led("east")
        await asyncio.sleep(2)
        sent = world.kernel.time()
        await world.west.keep_alive(lease.lease_id)
        world.resume("east")
        await world.seconds_until_gone("a")
        assert (world.kernel.time() - sent < 0.5) == has_bug
        assert (world.kernel.time() - sent >= 3.0) != has_bug

    world.run(main)


def test_the_old_bug_can_be_brought_about_at_once(world: World) -> None:
    """For the leases of one site's clients."""

    async def main() -> None:
        leases = [await store.grant(30) for store in (world.east, world.west)]
        assert world.model.revoke_as_former_leader("west") == 1
        await asyncio.sleep(0.5)
        assert await world.east.keep_alive(leases[0].lease_id) == 30
        with pytest.raises(LeaseLost):
            await world.west.keep_alive(leases[1].lease_id)

    world.run(main)


def test_a_stopped_leader_renews_nothing_afterwards(world: World) -> None:
    """What reached it before it was deposed is not answered when it goes on."""

    async def main() -> None:
        lease = await world.east.grant(5)
        answer: asyncio.Future[object] = world.kernel.create_future()
        world.pause("east")
        renew = Ask(
            "east", lambda _, leader: world.model.renew(leader, lease.lease_id), answer, in_log=False, writes=True
        )
        world.model.send(renew, "east")
        await world.seconds_until_led("east")
        world.resume("east")
        assert isinstance(await answer, NoLeader)

    world.run(main)


def test_a_request_on_its_way_to_a_leader_dies_with_its_term(world: World) -> None:
    """A member that took the old leader's word for it hands over nothing to it."""

    async def main() -> None:
        lease = await world.east.grant(5)
        world.network.link("west", "east").delay_seconds = 5.0
        answer: asyncio.Future[object] = world.kernel.create_future()
        renew = Ask(
            "west", lambda _, leader: world.model.renew(leader, lease.lease_id), answer, in_log=False, writes=True
        )
        world.model.send(renew, "west")
        await asyncio.sleep(1)
        world.model.move_leader("north")
        await asyncio.sleep(20)
        assert not answer.done()

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


def test_a_stopped_client_finds_its_answer_when_it_goes_on(world: World) -> None:
    """It lies in the socket: a holder that slept acts on an old answer, and has to look at its clock itself."""

    async def main() -> None:
        lease = await world.west.grant(3)
        client = world.kernel.process("client")
        answers: list[tuple[float, float]] = []

        async def renews() -> None:
            ttl = await world.west.keep_alive(lease.lease_id)
            answers.append((world.kernel.time(), ttl))

        began = world.kernel.time()
        world.kernel.start(client, renews())
        await asyncio.sleep(0.001)
        world.kernel.pause(client)
        await asyncio.sleep(20)
        world.kernel.resume(client)
        await asyncio.sleep(1)
        assert answers == [(pytest.approx(began + 20.001), 3)]

    world.run(main)


def test_a_leader_counts_by_its_own_clock(world: World) -> None:
    """One whose clock is fast ends leases early: nobody but the fence at the sink protects against that."""

    async def main() -> None:
        clock = MachineClock(world.kernel)
        world.model.member("east").clock = clock
        lease = await world.east.grant(8)
        await world.east.compare_and_put("a", b"", ABSENT, lease_id=lease.lease_id)
        clock.set_rate(2.0)
        assert 4.0 <= await world.seconds_until_gone("a") <= 4.6

    world.run(main)


def test_the_lead_can_be_moved_through_a_client(world: World) -> None:
    """As the shipped placement does."""

    async def main() -> None:
        cluster = world.west.cluster()
        assert await cluster.leader() == "east"
        assert await cluster.move_leader("north")
        assert await cluster.leader() == "north"
        assert await cluster.promote_ready_learners() == []
        world.kill("west")
        assert not await cluster.move_leader("west")

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
