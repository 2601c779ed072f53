"""HTML and SVG in which nothing that was not written here can become markup.

Ids, queries and error texts of a history are what strangers said. So markup is a type of its own: every other string is
escaped where it becomes an element's text or attribute, and there is no way around that but to name the type `Html`.
(A template language with automatic escaping would do the same, for one more dependency.)
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from html import escape
from typing import Final

_VOID: Final = frozenset({"meta", "link", "br", "hr", "rect", "line", "path", "circle", "polyline", "polygon", "use"})
_LINE_BREAKS: Final = "\n\t"


class Html(str):
    """Markup that was made here."""

    __slots__ = ()


Child = Html | str | int | float | None
Attribute = str | int | float | bool | None
NOTHING: Final = Html("")


def visible(text: str) -> str:
    """The text with what would hide or reorder it (control characters, turned writing) spelt out: u202e."""
    return text if text.isprintable() else "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in _LINE_BREAKS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn"):
        return character
    return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{ord(character):04x}"


def text_of(child: Child) -> Html:
    """A child as markup: escaped, unless it is markup."""
    if child is None:
        return NOTHING
    return child if isinstance(child, Html) else Html(escape(visible(str(child)), quote=False))


def tag(element: str, *children: Child, **attributes: Attribute) -> Html:
    """An element. `class_` is `class`, `aria_label` is `aria-label`; None and False leave an attribute out."""
    words = [element]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        said = key.rstrip("_").replace("_", "-")
        words.append(said if value is True else f'{said}="{escape(visible(_short(value)), quote=True)}"')
    opened = f"<{' '.join(words)}>"
    # A shape of SVG may have a title for its child; without one it closes itself.
    if element in _VOID and not children:
        return Html(f"{opened[:-1]}/>")
    return Html(f"{opened}{''.join(text_of(child) for child in children)}</{element}>")


def join(parts: Iterable[Child], between: str = "") -> Html:
    """Several pieces in a row."""
    return Html(text_of(between).join(text_of(part) for part in parts))


def _short(value: str | float) -> str:
    """Coordinates need no more than two decimals."""
    return re.sub(r"\.?0+$", "", f"{value:.2f}") if isinstance(value, float) else str(value)
