"""Registrations: kept alive, made again after a loss, changed, and gone with their process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from services.common.clock import SystemClock
from services.coordination import MemoryStore
from services.coordination.keys import registry_key
from services.coordination.registry import Registered, Registration, registered
from tests.support.poll import wait_until_async


@pytest.fixture
def store() -> MemoryStore:
    """An empty store with short leases."""
    return MemoryStore(ttl_minimum_seconds=0.1)


@contextlib.asynccontextmanager
async def running(registration: Registration) -> AsyncIterator[None]:
    """Its task, for the length of a block."""
    task = asyncio.ensure_future(registration.run())
    try:
        await wait_until_async(lambda: registration.is_registered)
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def gateway(store: MemoryStore, instance: str = "g1", region: str = "east", ttl_seconds: float = 60) -> Registration:
    """A gateway's registration."""
    return Registration(store, region, "gateway", instance, b"http://1", clock=SystemClock(), ttl_seconds=ttl_seconds)


async def test_who_is_there_is_listed_by_kind_and_region(store: MemoryStore) -> None:
    """And nobody any more, once the processes have ended in good order."""
    inference = Registration(store, "east", "inference", "i/1", b"", clock=SystemClock())
    async with running(gateway(store)), running(gateway(store, region="west")), running(inference):
        east = Registered("east", "gateway", "g1", b"http://1")
        assert await registered(store, "east", "gateway") == [east]
        assert [entry.region for entry in await registered(store, None, "gateway")] == ["east", "west"]
        assert [entry.instance for entry in await registered(store, None, "inference")] == ["i/1"]
    assert await registered(store, None, "gateway") == []


async def test_an_entry_outlives_its_time_to_live_while_its_process_lives(store: MemoryStore) -> None:
    """It is renewed well before it ends."""
    async with running(gateway(store, ttl_seconds=0.3)):
        first = await store.get(registry_key("east", "gateway", "g1"))
        clock = SystemClock()
        until = clock.monotonic() + 1.0
        await wait_until_async(lambda: clock.monotonic() > until)
        assert await store.get(registry_key("east", "gateway", "g1")) == first


async def test_a_lost_registration_is_made_again(store: MemoryStore) -> None:
    """The lease ended (the process was stopped, the store was away): a new lease, the same entry."""
    async with running(gateway(store, ttl_seconds=0.3)):
        (before,) = await store.list("/meridian/registry/")
        await store.revoke(1)

        async def back() -> bool:
            return [entry.revision > before.revision for entry in await store.list("/meridian/registry/")] == [True]

        await wait_until_async(back, 10, "the entry to be back")


async def test_the_store_s_absence_is_waited_out(store: MemoryStore) -> None:
    """Nothing ends because etcd was away, whatever happened to the last write."""
    registration = gateway(store, ttl_seconds=0.3)
    async with running(registration):
        store.set_available(False)
        await wait_until_async(lambda: not registration.is_registered)
        registration.update(b"http://2")
        store.drop_reply()
        store.set_available(True)
        await wait_until_async(lambda: registration.is_registered)
        assert [entry.value for entry in await registered(store, "east", "gateway")] == [b"http://2"]


async def test_an_entry_says_what_it_was_last_told(store: MemoryStore) -> None:
    """Updates are written at once, and a process that starts again takes its own name over."""
    registration = gateway(store)
    async with running(registration), running(gateway(store)):
        registration.update(b"http://2")

        async def says(value: bytes) -> bool:
            return [entry.value for entry in await registered(store, "east", "gateway")] == [value]

        await wait_until_async(lambda: says(b"http://2"))


async def test_a_silent_store_does_not_hold_up_an_end(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry ends with its lease; the process need not wait for that."""

    async def silence(_: int) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("services.coordination.registry.LEAVE_SECONDS", 0.05)
    monkeypatch.setattr(store, "revoke", silence)
    async with asyncio.timeout(20), running(gateway(store)):
        pass
    assert await registered(store, "east", "gateway")
