"""A console whose deployment never rests: every look finds something else, so that hours pass in minutes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from playwright.async_api import Page

from services.common.clock import SystemClock
from services.console.server import running
from services.console.settings import ConsoleSettings
from services.console.shapes import Picture, Times
from services.coordination.history import Entry
from services.receipts import Range, Receipt
from tests.support.console_world import console_world
from tests.support.small_region import deployment_of

LOOKS = 5


@dataclass(frozen=True, slots=True)
class Heap:
    """What a page holds, after everything that can be collected was."""

    used_bytes: int
    nodes: int
    listeners: int


async def heap(page: Page) -> Heap:
    """Collect and count, some times: what the page is just drawing is no growth, so the smallest of each counts."""
    session = await page.context.new_cdp_session(page)
    found = []
    for _ in range(LOOKS):
        await session.send("HeapProfiler.collectGarbage")
        used = await session.send("Runtime.getHeapUsage")
        counted = await session.send("Memory.getDOMCounters")
        found.append((int(used["usedSize"]), int(counted["nodes"]), int(counted["jsEventListeners"])))
    await session.detach()
    return Heap(*(min(each) for each in zip(*found, strict=True)))


class Growing:
    """Takes one real picture, and changes everything in it again and again, each list at its bound."""

    def __init__(self, picture: Picture, times: Times) -> None:
        self._picture = picture
        self._times = times
        self._clock = SystemClock()
        self._number = 0

    @classmethod
    @asynccontextmanager
    async def serving(cls, tmp_path: Path) -> AsyncIterator[str]:
        """Serve the real page with it; gives the address."""
        async with console_world(tmp_path / "real") as world:
            source = cls(*world.console._look())
        deployment = deployment_of(tmp_path, "east", "west")
        settings = ConsoleSettings(drills=tmp_path / "drills", look_ms=60_000)
        async with running(deployment, settings, SystemClock(), port=0) as (console, url):
            console.feed._look = source.look
            pacing = asyncio.ensure_future(source._pace(console.feed.refresh))
            try:
                yield url
            finally:
                pacing.cancel()

    async def _pace(self, refresh: object) -> None:
        assert callable(refresh)
        while True:
            self._number += 1
            refresh()
            await asyncio.sleep(0.002)

    def look(self) -> tuple[Picture, Times]:
        """The next one."""
        n = self._number
        now_ms = int(self._clock.monotonic() * 1000)
        regions = [
            msgspec.structs.replace(
                region,
                lag_words=f"{n} events, 0.1 s",
                sentence=f"no action, cycle {n}",
                processes=[
                    msgspec.structs.replace(process, state=("ready", "silent")[(n // 7) % 2], reason=f"tried {n} times")
                    for process in region.processes
                ],
            )
            for region in self._picture.regions
        ]
        headline = msgspec.structs.replace(
            self._picture.headline, level="good", title="east serves", sentence=f"Ready to take over: west ({n})."
        )
        picture = msgspec.structs.replace(
            self._picture,
            headline=headline,
            known=True,
            controllers_answering=2,
            regions=regions,
            history=[_entry(n // 5 + place) for place in range(20, 0, -1)],
            receipts=[_receipt(n // 11 + place) for place in range(6)],
        )
        heard = {region.name: now_ms for region in regions}
        times = msgspec.structs.replace(
            self._times,
            now_ms=now_ms,
            lease_until_ms=now_ms + 1500 - n % 1000,
            heard_ms=heard,
            store_confirmed_ms=now_ms,
        )
        return picture, times


def _entry(number: int) -> Entry:
    sentence = f"east acquired the lease for the {number}th time"
    return Entry(sequence=number, at_ms=number * 1000, region="east", kind="acquired", sentence=sentence, previous="")


def _receipt(number: int) -> Receipt:
    ranges = [Range(log="west-1.events", partition=p, start=number, end=number + 9, events=9) for p in range(4)]
    return Receipt(
        receipt_id=f"west-1-0-{number}",
        kind="failover",
        region="west",
        incarnation=f"west-{number}",
        was_active=True,
        issued_by="east",
        epoch=(0, number),
        created_ms=number * 1000,
        reason="the lease ended",
        survivors=["east"],
        last_contact_ms=number * 1000,
        ranges=ranges,
        remaining=ranges,
        state="open" if number % 2 else "healed",
    )
