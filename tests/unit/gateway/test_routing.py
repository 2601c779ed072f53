"""Where a request for a ranking goes: here, on to the active region, or back with a reason."""

import asyncio

import pytest

from services.common.problem import Problem
from services.controller.client import Leader
from services.gateway.routing import Alone, Opening, Redirect, route
from tests.support.gateway_rights import GivenRights

WEST = Leader(region="west", epoch=(0, 7), gateway_url="http://west:8080/", serving=True)


def test_a_region_that_is_alone_always_answers_itself() -> None:
    """No election, no end."""
    assert route(Alone(), "east", "/v1/search", "") is None


def test_the_active_region_answers_itself() -> None:
    """Whoever sent the request here."""
    rights = GivenRights()
    rights.give((0, 3))
    assert route(rights, "east", "/v1/search", "hop=1") is None


def test_a_passive_region_sends_on_with_path_and_query() -> None:
    """And marks the request, so that it is sent on once."""
    rights = GivenRights(leader=WEST)
    assert route(rights, "east", "/v1/search", "") == Redirect("west", (0, 7), "http://west:8080/v1/search?hop=1")
    found = route(rights, "east", "/v1/similar", "a=b&c=d%20e&f=")
    assert found is not None
    assert found.location == "http://west:8080/v1/similar?a=b&c=d+e&f=&hop=1"


@pytest.mark.parametrize(
    ("leader", "age", "query", "reason"),
    [
        (None, 0.1, "", "no region is known to be active"),
        (WEST, None, "", "no region is known to be active"),
        (WEST, 2.0, "", "last confirmed 2.0 s ago"),
        (Leader(region="west", epoch=(0, 7), gateway_url="http://w", serving=False), 0.1, "", "west is taking over"),
        (Leader(region="west", epoch=(0, 7), gateway_url="", serving=True), 0.1, "", "west is taking over"),
        (Leader(region="east", epoch=(0, 7), gateway_url="http://e", serving=True), 0.1, "", "still names this region"),
        (WEST, 0.1, "hop=1", "passed on once already"),
    ],
)
def test_without_a_fresh_leader_the_asker_comes_back(
    leader: Leader | None, age: float | None, query: str, reason: str
) -> None:
    """503 with Retry-After, the reason, and the own region's."""
    rights = GivenRights(leader=leader, age=age)
    with pytest.raises(Problem, match=reason) as caught:
        route(rights, "east", "/v1/search", query)
    assert (caught.value.status, caught.value.kind) == (503, "not-active")
    assert caught.value.retry_after_seconds
    assert "west holds the lease" in caught.value.detail


def test_a_view_just_young_enough_counts() -> None:
    """Two seconds are too old, anything below is not."""
    assert route(GivenRights(leader=WEST, age=1.999), "east", "/", "") is not None
    assert route(GivenRights(leader=WEST, age=4.999), "east", "/", "", view_seconds_max=5.0) is not None
    with pytest.raises(Problem, match=r"confirmed 5\.0 s ago"):
        route(GivenRights(leader=WEST, age=5.0), "east", "/", "", view_seconds_max=5.0)


def opening(rights: GivenRights) -> Opening:
    """Of the region east, with two partitions."""
    return Opening(rights, "east", lambda: 2)


async def test_asks_wait_until_the_term_has_begun_in_every_partition() -> None:
    """A marker of the own epoch in each of them; those of another epoch say nothing."""
    rights = GivenRights()
    rights.give((0, 9), serving=False)
    at = opening(rights)
    waiting = asyncio.create_task(at.wait(30))
    for partition, epoch in ((0, (0, 9)), (1, (0, 5)), (0, (0, 9))):
        at.on_epoch(partition, epoch)
        await asyncio.sleep(0)
        assert not waiting.done()
    at.on_epoch(1, (0, 9))
    assert await waiting


async def test_what_the_controller_says_counts_as_well() -> None:
    """A gateway that was started in the middle of a term sees no markers."""
    rights = GivenRights()
    rights.give((0, 9), serving=False)
    at = opening(rights)
    waiting = asyncio.create_task(at.wait(30))
    await asyncio.sleep(0)
    rights.give((0, 9), serving=True)
    at.notice()
    assert await waiting


async def test_nobody_waits_for_a_term_that_ended() -> None:
    """Nor longer than it wants to."""
    rights = GivenRights()
    rights.give((0, 9), serving=False)
    at = opening(rights)
    assert not await at.wait(0.01)
    assert not await at.wait(-1)
    waiting = asyncio.create_task(at.wait(30))
    await asyncio.sleep(0)
    rights.take()
    at.notice()
    assert not await waiting
