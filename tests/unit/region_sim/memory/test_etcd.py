"""The modelled etcd: who leads, what a fault does to whom, and what stays right."""

from __future__ import annotations

import asyncio
import random

import pytest

from region_sim.memory.etcd_client import Ask
from services.coordination import CasConflict, StoreUnavailable
from services.coordination.base import ABSENT
from services.coordination.etcd_transport import UnknownOutcome
from tests.support.etcd_world import World


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
