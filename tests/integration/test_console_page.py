"""The console in a real browser: real controllers over the fake store, so a failover takes seconds."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from services.common.clock import SystemClock
from tests.support.console_page import (
    LOW_CONTRAST,
    WATCH_HEADLINE,
    accessibility_tree,
    chromium,
    first_paint_ms,
    needs_chromium,
    opened,
    shows,
)
from tests.support.console_world import ConsoleWorld, console_world
from tests.support.poll import wait_until_async
from tests.support.small_region import copied

pytestmark = [needs_chromium, pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

CONTROLS = {"button", "link", "textbox", "combobox", "DisclosureTriangle", "img", "region", "article", "heading"}
LANDMARKS = {"banner", "navigation", "main", "contentinfo"}
TABS_MAX = 60


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests here: each opens pages that know nothing of each other."""
    async with chromium() as found:
        yield found


def other(name: str) -> str:
    """The other region."""
    return "west" if name == "east" else "east"


async def kill(world: ConsoleWorld, region: str) -> tuple[str, float]:
    """End a region's controller; return who serves then, and since when a controller knows it (unix ms)."""
    successor = other(region)
    gone = copied(region, held=60, end=100, last_contact_ms=SystemClock().unix_ms(), reachable=False)
    world.regions[successor].logs = [gone]
    world.controllers[region].kill()
    await wait_until_async(lambda: world.knows() == successor, 20, f"{successor} to serve")
    return successor, time.time() * 1000


async def test_the_page_during_a_failover(tmp_path: Path, browser: Browser) -> None:
    """It shows the new active region as soon as a controller knows it, and what was lost."""
    # Looking comes far too seldom to show it in time: what is seen here comes by the long polls. How fast that is on a
    # quiet machine is measured in tests/e2e/test_console_failover.py.
    slow = {"look_ms": 30_000, "records_seconds": 1.0}
    async with console_world(tmp_path, **slow) as world, opened(browser, world.url) as (page, said):
        first = world.knows()
        await shows(page, f"{first} serves")
        assert await first_paint_ms(page) < 10_000
        await page.evaluate(WATCH_HEADLINE)
        successor, known_ms = await kill(world, first)
        await shows(page, f"{successor} serves", 20)
        seen = dict(await page.evaluate("window.headlines"))
        assert seen[f"{successor} serves"] - known_ms < 10_000
        assert f"{first} holds the lease, but its controller does not answer" in seen
        await page.wait_for_selector(f"#receipts-body >> text=/{first}-1 .*40 events missing/", timeout=30_000)
        await page.wait_for_selector(f"#decisions-body >> text=/{successor} acquired the lease/")
        assert await page.inner_text(f"#region-{first} + .role") == "silent"
        assert (await page.title()).startswith(f"{successor} serves")
        assert said == []

        world.store.set_available(available=False)
        await shows(page, "The coordination store is silent", 20)
        assert await page.get_attribute("body", "data-stale") == "yes"
        assert await page.locator(".role[data-role=active]").count() == 0
        assert (await page.title()).startswith("?")


async def test_a_page_that_hears_nothing_says_so_and_comes_back(tmp_path: Path, browser: Browser) -> None:
    """The console is ended and started again: no reload is needed, and meanwhile nothing looks healthy."""
    async with console_world(tmp_path / "a") as world:
        page_of = opened(browser, world.url)
        page, _ = await page_of.__aenter__()
        port = int(world.url.rstrip("/").rsplit(":", 1)[1])
        await shows(page, f"{world.knows()} serves")
    try:
        await shows(page, "Not known: this page hears nothing", 20)
        banner = await page.inner_text(".stale-banner")
        assert banner.startswith("OUT OF DATE.")
        assert await page.inner_text("#line") == "not live"
        await wait_until_async(lambda: _says(page, ".stale-banner", "does not answer"), 20, "the reason to be said")
        async with console_world(tmp_path / "b", port=port) as world:
            await shows(page, f"{world.knows()} serves", 30)
            await page.wait_for_selector(".stale-banner", state="detached")
            assert await page.inner_text("#line") == "live"
    finally:
        await page_of.__aexit__(None, None, None)


async def _says(page: Page, selector: str, words: str) -> bool:
    return words in await page.inner_text(selector)


async def test_an_operator_with_a_keyboard_and_everybody_else(tmp_path: Path, browser: Browser) -> None:
    """Switchover and pause with what the command line asks for; names, landmarks, order, contrast, a phone's width."""
    write_drill(tmp_path)
    async with console_world(tmp_path) as world:
        async with opened(browser, world.url, viewport={"width": 1280, "height": 900}) as (page, said):
            first = world.knows()
            await shows(page, f"{first} serves")
            await _is_accessible(page)
            await _opens_reports(page)
            await _refused_failover(page, other(first))
            await _switched_over(page, world, other(first))
            await _paused_and_resumed(page)
            # The refusal was an answer that the browser notes; nothing else is to be complained of.
            assert [line for line in said if "409" not in line] == []
        for scheme in ("light", "dark"):
            options = {"color_scheme": scheme, "viewport": {"width": 360, "height": 740}, "reduced_motion": "reduce"}
            async with opened(browser, world.url, **options) as (page, said):
                await shows(page, f"{world.knows()} serves")
                assert await page.evaluate("document.documentElement.scrollWidth") <= 360
                assert await page.evaluate(LOW_CONTRAST) == []
                moving = "getComputedStyle(document.querySelector('.meter-left')).transitionDuration"
                assert await page.evaluate(moving) == "0s"
                assert said == []


async def _is_accessible(page: Page) -> None:
    tree = await accessibility_tree(page)
    assert {role for role, _ in tree} >= LANDMARKS
    assert [(role, name) for role, name in tree if role in CONTROLS and not name.strip()] == []
    assert await page.evaluate("[...document.querySelectorAll('[id]')].length") == await page.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
    )
    levels = await page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    reached = []
    for _ in range(TABS_MAX):
        await page.keyboard.press("Tab")
        found = await page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e); return [e === document.body, "
            "e.textContent.trim(), s.outlineStyle, [...document.querySelectorAll('*')].indexOf(e)]; })()"
        )
        if found[0]:
            break
        reached.append(found)
    assert reached[0][1] == "Skip to the regions"
    assert {outline for _, _, outline, _ in reached} == {"solid"}
    places = [place for _, _, _, place in reached]
    assert places == sorted(places)
    wanted = await page.evaluate("document.querySelectorAll('a[href], button:not([disabled]), summary').length")
    assert len(reached) >= wanted


async def _refused_failover(page: Page, target: str) -> None:
    """Without a typed loss it is refused, in the controller's words; the number must be typed."""
    await page.get_by_role("button", name=f"Force failover to {target}…").press("Enter")
    dialog = page.get_by_role("dialog", name=f"Force a failover to {target}")
    go = dialog.get_by_role("button", name="Ask what would be lost")
    await dialog.get_by_label(f"Type {target} to confirm").fill(target)
    assert await go.is_disabled()
    await dialog.get_by_label("Why; it stands").fill("trying")
    await dialog.get_by_label("By whom").fill("sam")
    await go.press("Enter")
    await dialog.get_by_role("alert").get_by_text(f"{target} is known to lack 0 events").wait_for()
    accept = dialog.get_by_role("button", name="Fail over, accepting 0 lost")
    assert await accept.is_disabled()
    await dialog.get_by_label("Type 0 to accept").fill("1")
    assert await accept.is_disabled()
    await page.keyboard.press("Escape")
    await dialog.wait_for(state="hidden")


async def _switched_over(page: Page, world: ConsoleWorld, target: str) -> None:
    opener = page.get_by_role("button", name=f"Switch over to {target}…")
    await opener.press("Enter")
    typed = page.get_by_label(f"Type {target} to confirm")
    assert await typed.evaluate("e => e === document.activeElement")
    await page.keyboard.type(target)
    await page.keyboard.press("Tab")
    await page.keyboard.type("planned work")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await page.get_by_role("dialog").get_by_text("done: ").wait_for(timeout=30_000)
    assert world.knows() == target
    await page.keyboard.press("Escape")
    await shows(page, f"{target} serves")
    await page.wait_for_selector("#decisions-body >> text=/planned work/")


async def _paused_and_resumed(page: Page) -> None:
    await page.get_by_role("button", name="Pause…").press("Enter")
    await page.get_by_label("Why; it stands").fill("upgrade")
    await page.get_by_role("dialog").get_by_role("button", name="Pause", exact=True).press("Enter")
    await page.wait_for_selector("#notices >> text=/Paused.*sam.*upgrade/")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Resume…").press("Enter")
    await page.get_by_label("Why; it stands").fill("done")
    await page.get_by_role("dialog").get_by_role("button", name="Resume", exact=True).press("Enter")
    await page.wait_for_selector("#notices >> text=/Paused/", state="detached")
    await page.keyboard.press("Escape")


def write_drill(tmp_path: Path) -> None:
    """A run whose report's script tries to reach the console."""
    run = tmp_path / "drills" / "wipe" / "20260101T100000.000"
    run.mkdir(parents=True)
    (run / "verdict.json").write_text('{"verdict": "valid", "sentence": "every check holds", "rto_seconds": 2.5}')
    (run / "report.html").write_text(
        "<!doctype html><title>r</title><p id=a>-</p><script>document.getElementById('a').textContent = 'ran'</script>"
    )


async def _opens_reports(page: Page) -> None:
    """A link in the list; the report's own script runs there, and reaches nothing of the console."""
    link = page.get_by_role("link", name="wipe")
    await link.wait_for()
    assert "RTO 2.5 s" in await page.inner_text("#drills-body")
    async with page.context.expect_page() as opening:
        await link.press("Enter")
    report = await opening.value
    await report.wait_for_selector("text=ran")
    assert await report.evaluate("fetch('/v1/session').then(() => 'reached', () => 'refused')") == "refused"
    await report.close()
