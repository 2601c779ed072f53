"""What a controller decides anew for: what decisions are made by, and nothing else of all that is written and asked."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import aiohttp
import pytest

from region_sim.memory.etcd import EtcdModel
from region_sim.memory.kernel import Kernel
from region_sim.memory.network import Network
from services.common.clock import SystemClock
from services.controller.mirror import StoreMirror
from services.controller.model import GateSeen
from services.controller.observe import Observer, Urls
from services.coordination.base import ABSENT
from services.coordination.keys import HISTORY, LEADER, PAUSE, registry_key
from services.coordination.region_record import acknowledged_ends_key

SITES: Final = ("east", "west", "north")
OPEN: Final = GateSeen(open=True, epoch=(0, 7), reason="", asked_at=1.0)
SHUT: Final = GateSeen(open=False, epoch=(0, 7), reason="west holds the lease", asked_at=1.0, shut_asks=(1.0,))


@pytest.mark.parametrize(
    ("key", "wakes"),
    [
        (LEADER, True),
        (PAUSE, True),
        (registry_key("west", "controller", "a"), True),
        (registry_key("west", "gateway", "a"), False),
        (acknowledged_ends_key("west-1.events"), False),
        (f"{HISTORY}000000000001", False),
    ],
)
def test_only_what_is_decided_by_wakes(key: str, *, wakes: bool) -> None:
    """Every other change is known all the same, and with it how far the store has come."""
    kernel = Kernel()  # type: ignore[abstract]
    store = EtcdModel(kernel, Network(kernel, random.Random(1)), SITES, random.Random(1)).store("east")
    woken = 0

    def wake() -> None:
        nonlocal woken
        woken += 1

    async def watch() -> tuple[int, int, int]:
        mirror = StoreMirror(store, SystemClock(), wake)
        following = asyncio.get_running_loop().create_task(mirror.run())
        await asyncio.sleep(2.0)
        before = woken
        written = await store.compare_and_put(key, b"{}", ABSENT)
        await asyncio.sleep(2.0)
        following.cancel()
        return woken - before, mirror.view().revision, written.revision

    times, seen, written = kernel.run(watch())
    assert times == int(wakes)
    assert seen == written


@pytest.mark.parametrize(
    ("before", "after", "hurry", "wakes"),
    [
        (None, OPEN, False, True),
        (OPEN, OPEN, False, False),
        (SHUT, SHUT, False, False),
        (SHUT, SHUT, True, True),
        (OPEN, SHUT, False, True),
    ],
)
async def test_a_gate_that_is_as_it_was_wakes_only_who_waits(
    before: GateSeen | None, after: GateSeen, *, hurry: bool, wakes: bool
) -> None:
    """That it was asked once more is news while somebody counts how long it has been shut."""
    woken: list[bool] = []
    async with aiohttp.ClientSession() as session:
        urls = Urls("", "", "", "")
        observer = Observer(urls, session, SystemClock(), interval_seconds=1.0, on_change=lambda: woken.append(True))
        if before is not None:
            observer.take_gate(before)
            woken.clear()
        observer.hurry(hurry)
        observer.take_gate(after)
    assert bool(woken) is wakes
    assert observer.data.gate is after
