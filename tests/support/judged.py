"""What the checkers found in a planted history, by the names that a verdict gives them."""

from __future__ import annotations

from collections.abc import Sequence

from region_sim.evidence import Evidence
from region_sim.history import Entry
from region_sim.verdict import Checked, judge


def found_by(name: str, entries: Sequence[Entry]) -> Checked:
    """What one checker found."""
    return next(found for found in judge(list(entries)).checks if found.name == name)


def complaints(entries: Sequence[Entry]) -> dict[str, str]:
    """Every checker that does not say valid, and what it says instead."""
    return {found.name: found.verdict for found in judge(list(entries)).checks if found.verdict != "valid"}


def without(found: Sequence[Evidence], *kinds: type) -> list[Evidence]:
    """Evidence of other kinds."""
    return [piece for piece in found if not isinstance(piece, kinds)]
