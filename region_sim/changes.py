"""`--set key.key=value`: one value of a drill's table, replaced before the table is read as a drill."""

from __future__ import annotations

import tomllib
from typing import Any

from region_sim.errors import BadDrill


def replace(table: dict[str, Any], change: str) -> None:
    """Replace one value; `faults.0.at_seconds` is the first fault's, `faults.N` after the last one adds a fault.

    Raises BadDrill.
    """
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise BadDrill(f"--set {change!r}: write it as key=value, such as load.searches_per_second=20")
    *parts, last = key.strip().split(".")
    place: Any = table
    for part in parts:
        place = _inner(place, part, change)
    if isinstance(place, dict):
        place[last] = _value(text.strip())
    else:
        _inner(place, last, change)
        place[int(last)] = _value(text.strip())


def _inner(place: Any, part: str, change: str) -> Any:
    """One step down: into a table, or into one place of a list, which may be the next one after its last."""
    if isinstance(place, list):
        if not part.isdecimal() or int(part) > len(place):
            raise BadDrill(f"--set {change!r}: {part} is no place in a list of {len(place)}; they count from 0")
        if int(part) == len(place):
            place.append({})
        inner = place[int(part)]
    else:
        inner = place.setdefault(part, {})
    if not isinstance(inner, dict | list):
        raise BadDrill(f"--set {change!r}: {part} is a value, not a table")
    return inner


def _value(text: str) -> Any:
    """A TOML value; what is none (`west`) is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
