"""What a gateway knows of the other regions, from the coordination store and without it."""

import asyncio
from typing import Any

import msgspec
import pytest

from services.coordination import MemoryStore
from services.coordination.lives import all_lives, open_life
from services.coordination.registry import Registered, Registration
from services.gateway.client import KIND, GatewayEntry
from services.gateway.directory import Directory
from services.gateway.routing import Alone
from tests.support.gateway_parts import ADDRESSES, LOG, TIME, GatewayParts
from tests.support.gateway_rights import GivenRights, StoppedClock
from tests.support.poll import wait_until_async

SEARCH: dict[str, Any] = {"user": "u", "query": "q", "id": "s-1", "time": TIME}


def entry(region: str, url: str) -> Registered:
    """A gateway as it registers."""
    return Registered(region, KIND, url, msgspec.json.encode(GatewayEntry(url)))


def gateways(directory: Directory) -> dict[str, list[str]]:
    """What is told to apps."""
    return {found.region: found.gateways for found in directory.answer().regions}


async def test_registered_gateways_take_the_place_of_the_deployments_address() -> None:
    """All of a region's; one that registers nonsense is left out."""
    directory = Directory("east", GivenRights(), ADDRESSES)
    broken = Registered("west", KIND, "x", b"nonsense")
    directory.take([], [entry("west", "http://b"), entry("west", "http://a"), broken, entry("south", "http://s")])
    assert gateways(directory) == {
        "east": ["http://east:8080"],
        "south": ["http://s"],
        "west": ["http://a", "http://b"],
    }
    directory.take([], [])
    assert gateways(directory) == {"east": ["http://east:8080"], "west": ["http://west:8080"]}


def inboxes(directory: Directory) -> dict[str, str | None]:
    """Where apps are told to publish by Kafka."""
    return {found.region: found.inbox for found in directory.answer().regions}


async def test_apps_find_the_inbox_of_the_life_that_goes_on() -> None:
    """The newest one of each region; none where the newest is over, for nobody reads that any more."""
    store = MemoryStore()
    directory = Directory("east", Alone(), ADDRESSES)
    assert inboxes(directory) == {"east": None, "west": None}
    directory.lives_as("east-7")
    assert inboxes(directory) == {"east": "east-7.inbox", "west": None}, "nobody else tells a region that is alone"
    for region, cluster in (("east", "a"), ("west", "b"), ("west", "c")):
        await open_life(store, region, cluster, 1)
    await directory.refresh(store)
    assert inboxes(directory) == {"east": "east-1.inbox", "west": "west-2.inbox"}
    lives = [msgspec.structs.replace(life, sealed_ms=9) for life in await all_lives(store)]
    directory.take(lives, [])
    assert inboxes(directory) == {"east": None, "west": None}


async def test_a_gateway_that_registers_is_found() -> None:
    """Through the store, as its peers see it."""
    store = MemoryStore()
    value = msgspec.json.encode(GatewayEntry("http://registered"))
    registration = Registration(store, "west", KIND, "g-1", value, clock=StoppedClock())
    task = asyncio.create_task(registration.run())
    await wait_until_async(lambda: registration.is_registered, what="the registration")
    task.cancel()
    directory = Directory("east", Alone(), ADDRESSES)
    await directory.refresh(store)
    assert gateways(directory)["west"] == ["http://registered"]
    await asyncio.gather(task, return_exceptions=True)


async def test_the_last_view_stays_while_the_store_is_away() -> None:
    """And is replaced when it is back."""
    store = MemoryStore()
    await open_life(store, "west", "cluster-1", 1)
    directory, looks = Directory("east", Alone(), ADDRESSES), []
    task = asyncio.create_task(directory.follow(store, StoppedClock(), 1.0, lambda: looks.append(1)))
    await wait_until_async(lambda: looks, what="the first look")
    store.set_available(False)
    await asyncio.sleep(0)
    known = len(looks)
    assert "west-1.events" in directory.known_logs
    store.set_available(True)
    await open_life(store, "west", "cluster-2", 1)
    await wait_until_async(lambda: len(looks) > known + 1, what="another look")
    assert {"west-1.events", "west-2.events", "west-3.events"} <= directory.known_logs
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_read_tokens_of_every_known_life_are_taken() -> None:
    """Also of one that is about to begin; what no region ever wrote is a clear 400."""
    store = MemoryStore()
    for region, lives in (("east", 1), ("west", 2)):
        for number in range(lives):
            await open_life(store, region, f"{region}-cluster-{number}", 1)
    async with GatewayParts() as gateway:
        await gateway.core.directory.refresh(store)
        gateway.sink.on_ask = gateway.answer
        for log in (LOG, "west-1.events", "west-2.events", "west-3.events", "east-2.events"):
            token = {"log": log, "partition": 1, "offset": 5}
            assert (await gateway.post("/v1/search", {**SEARCH, "after": [token]}))[0] == 200, log
            assert gateway.sink.asked[-1].after[0].log == log
        for log in ("west-4.events", "north-1.events", "west-1.rankings", ""):
            status, _, problem = await gateway.post(
                "/v1/search", {**SEARCH, "after": [{"log": log, "partition": 1, "offset": 5}]}
            )
            assert (status, problem["field"]) == (400, "after[0].log"), log


@pytest.mark.parametrize("number", [1, 2])
async def test_a_life_is_found_by_its_name(number: int) -> None:
    """With what ended it."""
    store = MemoryStore()
    for cluster in ("a", "b"):
        await open_life(store, "west", cluster, 1)
    directory = Directory("east", Alone(), ADDRESSES)
    await directory.refresh(store)
    life = directory.life(f"west-{number}")
    assert life is not None
    assert life.sealed == (number == 1)
    assert directory.life("west-3") is None
