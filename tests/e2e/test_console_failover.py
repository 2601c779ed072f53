"""The console beside two real regions, one of which dies; and open for as long as an operator's shift."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest
from playwright.async_api import Page

from infra.runtime.kafka import free_ports
from services.common.deployment import Site
from services.console.cli import ConsoleUp
from services.console.said import LeaseSaid
from services.controller.client import Leader
from tests.support.console_page import (
    COUNT_STATES,
    WATCH_HEADLINE,
    chromium,
    first_paint_ms,
    needs_chromium,
    opened,
    shows,
)
from tests.support.deployment import running_deployment
from tests.support.long_watch import Growing, heap

pytestmark = [needs_chromium, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

STATES = 7200
"""Two hours at one change a second."""
GROWTH_BYTES_MAX = 512 * 1024
SHOTS = os.environ.get("MERIDIAN_CONSOLE_SHOTS", "")
"""A directory for pictures of the page, to be looked at."""


async def know(site: Site, holds: Callable[[Leader], bool]) -> tuple[str, float]:
    """Return which region holds the lease by a site's controller, and since when (unix ms) it knows, by long polls."""
    version = 0
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{site.url('control')}/v1/lease?since={version}&wait_ms=2000") as answer:
                    said = msgspec.json.decode(await answer.read(), type=LeaseSaid)
            except (aiohttp.ClientError, msgspec.DecodeError):
                await asyncio.sleep(0.02)
                continue
            version = said.version
            if said.leader is not None and holds(said.leader):
                return said.leader.region, time.time() * 1000


def _console(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "services.cli", *words], stdout=subprocess.PIPE)


async def shot(page: Page, name: str) -> None:
    """Keep what the page looks like, where somebody wants to see it."""
    if SHOTS:
        await page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


async def test_the_page_during_a_real_failover(tmp_path: Path) -> None:
    """Kill -9 of the active region's supervisor and processes: first paint and the update are each within a second."""
    with running_deployment(tmp_path) as (running, up):
        assert up.ready, up
        (port,) = free_ports(1)
        words = ["console", "--data-dir", str(tmp_path), "--port", str(port), "--json"]
        with await asyncio.to_thread(_console, words) as console:
            assert console.stdout is not None
            url = msgspec.json.decode(console.stdout.readline(), type=ConsoleUp).url
            try:
                async with chromium() as browser, opened(browser, url) as (page, said):
                    first, _ = await know(running.deployment.regions[0], lambda leader: leader.serving)
                    await shows(page, f"{first} serves")
                    async with opened(browser, url) as (again, _):
                        await shows(again, f"{first} serves")
                        painted_ms = await first_paint_ms(again)
                    await page.wait_for_selector("text=Could take over now", timeout=60_000)
                    await shot(page, "real-before")
                    await page.evaluate(WATCH_HEADLINE)
                    (other,) = running.deployment.peers_of(first)
                    knowing = asyncio.ensure_future(know(other, lambda leader: leader.region == other.name))
                    serving = asyncio.ensure_future(
                        know(other, lambda leader: leader.region == other.name and leader.serving)
                    )
                    killed_ms = time.time() * 1000
                    await asyncio.to_thread(running.kill, first)
                    (_, held_ms), (_, serves_ms) = await asyncio.gather(knowing, serving)
                    await shot(page, "real-during")
                    await shows(page, f"{other.name} serves")
                    seen = await page.evaluate("window.headlines")
                    await page.wait_for_selector(f"#receipts-body >> text=/{first}-1/", timeout=60_000)
                    await shot(page, "real-after")
                    assert said == []
            finally:
                console.terminate()
                assert console.wait(10) == 0
    late_ms = {words: at - serves_ms for words, at in seen if words == f"{other.name} serves"}
    holds_ms = [at - held_ms for words, at in seen if words.startswith(f"{other.name} holds")]
    took = f"killed to serving {serves_ms - killed_ms:.0f} ms; page after serving {late_ms}, after holding {holds_ms}"
    print(f"first paint {painted_ms:.0f} ms; {took}; load {os.getloadavg()[0]:.1f}; headlines {[w for w, _ in seen]}")
    assert painted_ms < 1000
    assert late_ms[f"{other.name} serves"] < 1000


async def test_two_hours_of_changes_leave_no_growth(tmp_path: Path) -> None:
    """As many changes as two hours bring, as fast as the page takes them; the heap is looked at after collecting."""
    source, counting = Growing.serving(tmp_path), {"before": COUNT_STATES}
    async with source as url, chromium() as browser, opened(browser, url, **counting) as (page, said):
        await shows(page, "east serves")
        samples = []
        for part in range(1, 7):
            enough = "wanted => window.heardStates >= wanted"
            await page.wait_for_function(enough, arg=STATES * part // 6, timeout=600_000, polling=200)
            samples.append(await heap(page))
            print(await page.evaluate("window.heardStates"), "changes were drawn:", samples[-1], flush=True)
        assert said == []
    early, late = samples[:3], samples[3:]
    assert min(each.used_bytes for each in late) - min(each.used_bytes for each in early) < GROWTH_BYTES_MAX
    assert min(each.nodes for each in late) <= 1.05 * min(each.nodes for each in early)
    assert min(each.listeners for each in late) <= 1.05 * min(each.listeners for each in early)
