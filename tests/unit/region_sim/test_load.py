"""Apps write down exactly what they were told, whatever goes wrong, and say the same again for the same seed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from region_sim.history import Entry, HistoryWriter, read_history
from region_sim.load.bare import BareApp
from region_sim.load.library import LibraryApp
from region_sim.load.open_loop import OpenLoop
from region_sim.load.script import EventSaid, Script, SearchSaid
from region_sim.spec import Load
from services.common.clock import SystemClock
from tests.support.fake_gateway import Behaviour, FakeGateway, problem
from tests.support.poll import wait_until_async

LOAD = Load(items=20, users=10, search_timeout_ms=300, publish_timeout_seconds=0.5, bare_timeout_seconds=0.3)
EVENTS = Script(1, LOAD, "r").events("app", 0)
SEARCH = Script(1, LOAD, "r").search("app", 0)


class World:
    """A gateway, an app and its history."""

    def __init__(self, gateway: FakeGateway, history: HistoryWriter, path: Path) -> None:
        self.gateway, self.history, self._path = gateway, history, path

    def completed(self, op: str) -> list[Entry]:
        """What became of the calls so far."""
        self.history.flush()
        return [entry for entry in read_history(self._path) if entry.op == op and entry.type != "invoke"]


@asynccontextmanager
async def bare(tmp_path: Path) -> AsyncIterator[tuple[BareApp, World]]:
    """A bare client."""
    path = tmp_path / "history.jsonl"
    async with FakeGateway() as gateway:
        with HistoryWriter(path, SystemClock()) as history:
            async with BareApp("bare-east", gateway.url, LOAD, history, SystemClock()) as app:
                yield app, World(gateway, history, path)


@asynccontextmanager
async def library(tmp_path: Path) -> AsyncIterator[tuple[LibraryApp, World]]:
    """An app with the library."""
    path = tmp_path / "history.jsonl"
    async with FakeGateway() as gateway:
        with HistoryWriter(path, SystemClock()) as history:
            async with LibraryApp("library-east", [gateway.url], LOAD, history, SystemClock()) as app:
                yield app, World(gateway, history, path)


async def test_a_bare_publish_is_ok_with_coordinates(tmp_path: Path) -> None:
    """One acknowledgement for each event, with what was said."""
    async with bare(tmp_path) as (app, world):
        await app.publish(EVENTS)
        (done,) = world.completed("publish")
        assert done.type == "ok"
        assert [ack.id for ack in done.acks] == [event.id for event in EVENTS]
        assert [ack.offset for ack in done.acks] == list(range(len(EVENTS)))
        assert {ack.item for ack in done.acks} == {event.item for event in EVENTS}


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (Behaviour(status=429, body=problem(429, "full")), "fail"),
        (Behaviour(status=503, body=problem(503, "not now")), "info"),
        (Behaviour(drop_connection=True), "info"),
        (Behaviour(keep_then_drop=True), "info"),
        (Behaviour(hang=True), "info"),
        (Behaviour(unknown_ids=frozenset([EVENTS[0].id])), "info"),
        (Behaviour(refuse_ids=frozenset(event.id for event in EVENTS)), "fail"),
    ],
)
async def test_a_bare_publish_that_goes_wrong_is_told_as_it_was(
    tmp_path: Path, behaviour: Behaviour, kind: str
) -> None:
    """Only what surely was not kept has failed; what nobody knows is unknown."""
    async with bare(tmp_path) as (app, world):
        world.gateway.script.append(behaviour)
        await app.publish(EVENTS)
        (done,) = world.completed("publish")
        assert done.type == kind
        assert len(done.acks) + len(done.refused) + len(done.unknown) == len(EVENTS)
        assert bool(done.unknown) == (kind == "info")


async def test_a_bare_client_follows_one_redirect_and_no_second(tmp_path: Path) -> None:
    """307 once, as the gateways promise."""
    async with bare(tmp_path) as (app, world), FakeGateway() as other:
        there = {"Location": f"{other.url}/v1/search?hop=1"}
        world.gateway.script.append(Behaviour(status=307, headers=there))
        await app.search(SEARCH)
        world.gateway.script.append(Behaviour(status=307, headers=there))
        other.script.append(Behaviour(status=307, headers=there))
        await app.search(SEARCH)
        answered, gave_up = world.completed("search")
        assert (answered.type, answered.url) == ("ok", there["Location"])
        assert gave_up.type == "info"
        assert len(other.requests) == 2


async def test_searches_tell_region_epoch_and_the_event_that_they_wrote(tmp_path: Path) -> None:
    """The search event is acknowledged like any other."""
    for make in (bare, library):
        directory = tmp_path / make.__name__
        context: Any = make(directory)
        async with context as (app, world):
            await app.search(SEARCH)
            (done,) = world.completed("search")
            assert (done.type, done.region) == ("ok", "east")
            assert done.epoch is not None
            assert [(ack.id, ack.kind, ack.query) for ack in done.acks] == [(SEARCH.id, "search", SEARCH.query)]


async def test_a_search_without_an_answer_is_told_with_its_error(tmp_path: Path) -> None:
    """Nobody knows whether its event was kept, and nobody was promised it."""
    for make in (bare, library):
        context: Any = make(tmp_path / make.__name__)
        async with context as (app, world):
            world.gateway.script.extend([Behaviour(hang=True)] * 20)
            await app.search(SEARCH)
            (done,) = world.completed("search")
            assert (done.type, done.acks) == ("info", [])
            assert done.error


async def test_the_library_settles_in_the_end_what_nobody_answered(tmp_path: Path) -> None:
    """First unknown, then acknowledged by a flush, under the same id."""
    async with library(tmp_path) as (app, world):
        world.gateway.script.extend([Behaviour(keep_then_drop=True)] * 50)
        await app.publish(EVENTS)
        world.gateway.script.clear()
        await app.settle(5)
        unknown, settled = world.completed("publish")
        assert sorted(unknown.unknown) == sorted(event.id for event in EVENTS)
        assert sorted(ack.id for ack in settled.acks) == sorted(event.id for event in EVENTS)
        await app.settle(5)
        assert len(world.completed("publish")) == 2


def test_the_same_seed_says_the_same_and_another_seed_something_else() -> None:
    """A drill can be replayed with its load; two processes never share an id."""
    one, same, other = Script(1, LOAD, "r"), Script(1, LOAD, "r"), Script(2, LOAD, "r")
    assert [one.search("a", n) for n in range(20)] == [same.search("a", n) for n in range(20)]
    assert [one.events("a", n) for n in range(20)] != [other.events("a", n) for n in range(20)]
    ids = [event.id for process in ("a", "b") for n in range(50) for event in one.events(process, n)]
    assert len(set(ids)) == len(ids)
    assert one.events("library-east", 3)[0].user != "" != one.catalogue()[0].title


class SlowApp:
    """Never answers before it is told to, and fails on request."""

    process = "slow"

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False

    async def search(self, said: SearchSaid) -> None:
        self.asked += 1
        if self.fails:
            raise ValueError("a bug of the load")

    async def publish(self, said: list[EventSaid]) -> None:
        """Nothing."""

    async def settle(self, timeout_seconds: float) -> None:
        """Nothing."""


async def test_the_loop_goes_on_when_a_call_fails_and_says_that_the_load_is_broken(tmp_path: Path) -> None:
    """A drill with a broken load must not end as if nobody had asked."""
    path = tmp_path / "history.jsonl"
    with HistoryWriter(path, SystemClock()) as history:
        app = SlowApp()
        app.fails = True
        loop = OpenLoop(history, SystemClock(), 10)
        loop.start(app, Script(1, LOAD, "r"), 200.0, 0.0)
        await wait_until_async(lambda: app.asked >= 3, what="calls")
        await loop.stop()
    assert {entry.op for entry in read_history(path)} == {"load_error"}
