"""A real Chromium that looks at the console, and what it can say of a page."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium here: `apt-get install chromium` brings the browser that looks at the console"
)

# Notes when the headline changed, by the machine's clock, so that it can be held against what a controller knew when.
WATCH_HEADLINE = """() => {
  window.headlines = [];
  const note = () => {
    const words = document.getElementById('headline').textContent;
    const at = performance.timeOrigin + performance.now();
    if (window.headlines.at(-1)?.[0] !== words) window.headlines.push([words, at]);
  };
  note();
  const all = {subtree: true, childList: true, characterData: true};
  new MutationObserver(note).observe(document.getElementById('now'), all);
}"""

# Every text against the ground that it is drawn on, by the arithmetic of WCAG 2.2.
LOW_CONTRAST = """() => {
  const parse = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || !element.checkVisibility()) continue;
    const isDrawn = element.namespaceURI.endsWith('svg');
    const style = getComputedStyle(element);
    const [one, other] = [luminance(parse(isDrawn ? style.fill : style.color)), luminance(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${walker.currentNode.nodeValue.trim().slice(0, 40)}`);
  }
  return found;
}"""


# Counts what the page was told, as it was told.
COUNT_STATES = """
  window.heardStates = 0;
  const listen = EventSource.prototype.addEventListener;
  EventSource.prototype.addEventListener = function (name, take) {
    const counted = (event) => { window.heardStates += 1; take(event); };
    listen.call(this, name, name === 'state' ? counted : take);
  };
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser, ended with the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(
    browser: Browser, url: str, *, before: str = "", **options: Any
) -> AsyncIterator[tuple[Page, list[str]]]:
    """A page of its own, and what its console complains of; `options` are those of a browser context.

    `before` is a script that runs before the page's own.
    """
    context = await browser.new_context(**options)
    page = await context.new_page()
    if before:
        await page.add_init_script(before)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.goto(url)
    try:
        yield page, said
    finally:
        await context.close()


async def shows(page: Page, headline: str, seconds: float = 30.0) -> None:
    """Wait until the headline is that."""
    await page.wait_for_function(
        "words => document.getElementById('headline')?.textContent === words", arg=headline, timeout=seconds * 1000
    )


async def first_paint_ms(page: Page) -> float:
    """When something was first painted, from the beginning of the navigation on."""
    # The browser notes a paint after it: what is in the page already may not have been painted.
    entry = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    await page.wait_for_function(f"() => {entry} !== undefined", timeout=30_000)
    return float(await page.evaluate(entry))


async def accessibility_tree(page: Page) -> list[tuple[str, str]]:
    """Role and name of everything that assistive technology is told of."""
    session = await page.context.new_cdp_session(page)
    nodes = (await session.send("Accessibility.getFullAXTree"))["nodes"]
    shown = [node for node in nodes if not node.get("ignored")]
    return [(node["role"]["value"], str(node.get("name", {}).get("value", ""))) for node in shown if "role" in node]
