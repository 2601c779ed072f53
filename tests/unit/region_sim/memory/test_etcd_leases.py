"""Leases of the modelled etcd: when they end, and who may renew them."""

from __future__ import annotations

import asyncio
import random

import pytest

from region_sim.memory.clocks import MachineClock
from region_sim.memory.etcd import EtcdModel
from region_sim.memory.etcd_client import Ask, NoLeader
from services.coordination.base import ABSENT
from services.coordination.lease import LeaseLost
from tests.support.etcd_world import SITES, World


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


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
