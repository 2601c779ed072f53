"""What a worker hears while it brings a version, while nobody answers it, and of aliases that it cannot read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.coordination import MemoryStore
from services.coordination.base import ABSENT
from services.coordination.model_records import watch_prefix
from services.inference.serving import CHAMPION, SHADOW, STANDBY
from tests.support.inference_parts import MODEL, NO_PEERS, SteppedClock, add_version, own_repository, promote, region
from tests.support.poll import wait_until_async

GUARD_SECONDS = 20.0
"""What is tested comes to its end without time passing; this ends a run in which it does not."""


class QuickClock(SteppedClock):
    """Whoever sleeps is woken as soon as all others had their turn."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Silent:
    """Where the peers' addresses come from: asked, it never answers, as a peer that sends nothing."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def __call__(self) -> list[str]:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("waits_for", ["shadow", "champion", "standby", "similar"])
async def test_a_promotion_is_heard_while_something_is_fetched_that_never_comes(tmp_path: Path, waits_for: str) -> None:
    """A champion that lies here must not wait for a peer that does not answer, whatever is asked of that peer."""
    store, silent = MemoryStore(), Silent()
    repository = own_repository(tmp_path, "east", shipped=("1", "2"))
    one, two = (repository.manifest_sha256(MODEL, version) or "" for version in ("1", "2"))
    await promote(store, "1", one)
    setting = "9" if waits_for == "standby" else ""
    async with region(repository, store, silent, clock=QuickClock(), standby_version=setting) as east:
        if waits_for != "standby":
            model = "similar" if waits_for == "similar" else MODEL
            await promote(store, "9", "ab" * 32, SHADOW if waits_for == "shadow" else CHAMPION, model)
        else:
            await promote(store, "9", "ab" * 32, "challenger")  # registered, so that it is looked for
            await store.compare_and_delete(
                watch_prefix(MODEL) + "challenger", (await store.list(watch_prefix(MODEL)))[0].revision
            )

        async def serves_two() -> bool:
            return east.serving == "2"

        look = east.follower.look_beside(east.worker, "similar") if waits_for == "similar" else east.look()
        async with asyncio.timeout(GUARD_SECONDS):
            looking = asyncio.ensure_future(look)
            await silent.asked.wait()
            await promote(store, "2", two)
            await looking
            assert "version 2" in east.blocker, "known before anything was done about it"
            looking = asyncio.ensure_future(east.look())
            await wait_until_async(serves_two, GUARD_SECONDS, "version 2 to serve")
        assert east.blocker == ""
        looking.cancel()
        await asyncio.wait({looking})
        states = {state.version: state for state in east.worker.table.states() if state.version == "9"}
        assert states["9"].state == "UNAVAILABLE" and states["9"].reason == "given up before it was ready"


async def test_a_role_whose_alias_moved_is_not_brought_any_further(tmp_path: Path) -> None:
    """The shadow that nobody can get is replaced by one that lies here."""
    store, silent = MemoryStore(), Silent()
    repository = own_repository(tmp_path, "east", shipped=("1", "2"))
    one, two = (repository.manifest_sha256(MODEL, version) or "" for version in ("1", "2"))
    await promote(store, "1", one)
    await promote(store, "9", "ab" * 32, SHADOW)
    async with region(repository, store, silent, clock=QuickClock()) as east, asyncio.timeout(GUARD_SECONDS):
        looking = asyncio.ensure_future(east.look())
        await silent.asked.wait()
        await promote(store, "2", two, SHADOW)
        await looking
        await east.look()
        shadow = east.worker.table.current(MODEL, SHADOW)
        assert shadow is not None and shadow.version == "2"


async def test_a_long_silence_of_the_store_is_a_blocker(tmp_path: Path) -> None:
    """What was champion half a minute ago proves nothing; the version serves on, and one answer heals it."""
    store, clock = MemoryStore(), SteppedClock()
    repository = own_repository(tmp_path, "east")
    await promote(store, "1", repository.manifest_sha256(MODEL, "1") or "")
    async with region(repository, store, NO_PEERS, clock=clock) as east:
        await east.look()
        store.set_available(False)
        clock.elapsed_seconds += 30.0
        await east.look()
        report = east.follower.report(east.worker)
        assert (report.blocker, report.heard, report.silent_seconds) == (None, True, 30.0)
        clock.elapsed_seconds += 1.0
        assert "was not heard for 31 s: no etcd member answered" in east.blocker
        assert east.serving == "1" and east.worker.not_ready_reason() is None
        store.set_available(True)
        await east.look()
        assert east.blocker == ""


async def test_a_pinned_version_needs_nobody_s_answer(tmp_path: Path) -> None:
    """The setting is what decides."""
    store, clock = MemoryStore(), SteppedClock()
    async with region(own_repository(tmp_path, "east"), store, NO_PEERS, clock=clock, model_version="1") as east:
        store.set_available(False)
        clock.elapsed_seconds += 3600.0
        await east.look()
        assert east.blocker == ""


async def test_a_standby_that_is_out_of_reach_is_tried_again(tmp_path: Path) -> None:
    """After 1, 2, 4, ... seconds, until a region has it; then it stands by."""
    store, clock = MemoryStore(), SteppedClock()
    asked: list[float] = []

    async def peers() -> list[str]:
        asked.append(clock.monotonic())
        return []

    repository = own_repository(tmp_path, "west")
    await promote(store, "1", repository.manifest_sha256(MODEL, "1") or "")
    async with region(repository, store, peers, clock=clock, standby_version="9") as west:
        began = clock.monotonic()
        await promote(store, "9", "ab" * 32, model=MODEL)
        await promote(store, "1", repository.manifest_sha256(MODEL, "1") or "")
        for _ in range(20):
            await west.look()
            clock.elapsed_seconds += 0.5
        assert [at - began for at in asked] == [0.0, 1.0, 3.0, 7.0]
        add_version(repository, "9")
        clock.elapsed_seconds += 60.0
        await west.look()
        standby = west.worker.table.current(MODEL, STANDBY)
        assert standby is not None and standby.version == "9"


async def test_an_alias_that_cannot_be_read_leaves_its_version_and_the_champion_is_followed(tmp_path: Path) -> None:
    """A newer release wrote the shadow's in its own way."""
    store = MemoryStore()
    repository = own_repository(tmp_path, "east", shipped=("1", "2"))
    one, two = (repository.manifest_sha256(MODEL, version) or "" for version in ("1", "2"))
    await promote(store, "1", one)
    await promote(store, "2", two, SHADOW)
    async with region(repository, store, NO_PEERS) as east:
        await east.look()
        shadow = east.worker.table.current(MODEL, SHADOW)
        key = watch_prefix(MODEL) + SHADOW
        found = await store.get(key)
        await store.compare_and_put(key, b'{"share": 0.5}', found.revision if found else ABSENT)
        await promote(store, "2", two)
        await east.look()
        assert (east.serving, east.blocker) == ("2", "")
        assert shadow is not None and east.worker.table.current(MODEL, SHADOW) is shadow
