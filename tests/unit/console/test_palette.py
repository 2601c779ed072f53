"""The page's colours by arithmetic, its files by what a strict browser policy lets through."""

from __future__ import annotations

import re

import pytest

from services.console.page_files import PAGE_DIRECTORY

CSS = (PAGE_DIRECTORY / "console.css").read_text(encoding="utf-8")
CONTRAST_MIN = 4.5
CONTRAST_MIN_OF_SHAPES = 3.0
TEXT = [
    ("ink", "ground"),
    ("ink", "panel"),
    ("ink", "raised"),
    ("quiet", "ground"),
    ("quiet", "panel"),
    ("quiet", "raised"),
    ("accent", "panel"),
    ("accent", "ground"),
    ("on-accent", "accent"),
    ("panel", "bad"),
    *[(level, f"{level}-ground") for level in ("good", "warning", "bad", "unknown")],
    *[(level, "panel") for level in ("good", "warning", "bad", "unknown")],
    *[("ink", f"{level}-ground") for level in ("bad", "unknown")],
    *[("quiet", f"{level}-ground") for level in ("bad", "unknown")],
]
"""Every colour of text and every ground on which it stands."""
SHAPES = [
    ("edge", "panel"),
    ("edge", "raised"),
    ("accent", "panel"),
    *[(c, "panel") for c in ("good", "warning", "bad")],
]


def palettes() -> dict[str, dict[str, str]]:
    """The variables of both schemes; the dark one replaces those of the light one."""
    light, dark = re.findall(r":root \{([^}]*)\}", CSS)[:2]

    def read(block: str) -> dict[str, str]:
        return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))

    return {"light": read(light), "dark": read(light) | read(dark)}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2.2, from 1 to 21."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme: str) -> None:
    """4.5 to 1 for every text, in both schemes."""
    palette = palettes()[scheme]
    found = {pair: round(contrast(palette[pair[0]], palette[pair[1]]), 2) for pair in TEXT}
    assert not {pair: ratio for pair, ratio in found.items() if ratio < CONTRAST_MIN}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_shapes_can_be_seen(scheme: str) -> None:
    """3 to 1 for edges of controls and for lines of the map."""
    palette = palettes()[scheme]
    assert not [pair for pair in SHAPES if contrast(palette[pair[0]], palette[pair[1]]) < CONTRAST_MIN_OF_SHAPES]


def test_the_page_asks_nobody_else() -> None:
    """No address but the console's own, nothing inside the page that a strict policy refuses, no markup from text."""
    for path in PAGE_DIRECTORY.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\((?!#)", text), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", text), path.name
        assert not re.search(r"<script(?![^>]*src=)|\sstyle=|\son[a-z]+=\"", text), path.name


def test_every_module_is_fetched_early() -> None:
    """A module that the page does not name is asked for one after the other, and the first paint waits."""
    page = (PAGE_DIRECTORY / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'modulepreload" href="/page/([a-z]+\.js)"', page)) == {
        path.name for path in PAGE_DIRECTORY.glob("*.js")
    }
