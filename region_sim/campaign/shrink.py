"""A failing drill made smaller, as long as it still fails in the same way: the same checker finds the same wrong.

First halves, quarters and single faults are left out (delta debugging: Zeller and Hildebrandt, 2002), then what is left
becomes shorter, then the load is lowered. Every step runs the drill again under the same seed; there is a bound on how
often. What fails is a drill like any other: a file, and a command that runs it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from region_sim.campaign.generate import as_toml
from region_sim.spec import Drill, Fault

TRIES_MAX: Final = 150
T = TypeVar("T", bound=msgspec.Struct)
StillFails = Callable[[Drill], bool]
"""Runs a drill; whether it fails in the same way again."""


@dataclass(slots=True)
class _Tries:
    still_fails: StillFails
    left: int

    def fails(self, drill: Drill) -> bool:
        if self.left <= 0:
            return False
        self.left -= 1
        return self.still_fails(drill)


def shrink(drill: Drill, still_fails: StillFails, tries_max: int = TRIES_MAX) -> Drill:
    """Return the smallest drill that was found; `drill` itself when nothing could be left out."""
    tries = _Tries(still_fails, tries_max)
    before = None
    while before != drill and tries.left > 0:
        before = drill
        drill = _fewer_faults(drill, tries)
        drill = _simpler(drill, tries)
    return drill


def write_drill(drill: Drill, seed: int, directory: Path) -> tuple[Path, str]:
    """Write the drill's file; returns its path and the command that runs it."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{drill.name}.toml"
    path.write_text(as_toml(drill), encoding="utf-8")
    return path, shlex.join(["region-sim", "run", str(path), "--backend", "memory", "--seed", str(seed)])


def _fewer_faults(drill: Drill, tries: _Tries) -> Drill:
    """Leave faults out: halves, then smaller pieces, down to single ones."""
    piece = max(len(drill.faults) // 2, 1)
    while True:
        at = 0
        while at < len(drill.faults) and len(drill.faults) > 1:
            left = [*drill.faults[:at], *drill.faults[at + piece :]]
            smaller = _with_faults(drill, left) if left else None
            if smaller is not None and tries.fails(smaller):
                drill = smaller
            else:
                at += piece
        if piece == 1:
            return drill
        piece //= 2


def _simpler(drill: Drill, tries: _Tries) -> Drill:
    """Try every single simplification; each that still fails is kept and tried again."""
    place = 0
    while place < len(ways := list(_simplifications(drill))):
        if tries.fails(ways[place]):
            drill = ways[place]
        else:
            place += 1
    return drill


def _simplifications(drill: Drill) -> Iterator[Drill]:
    first = min(fault.at_seconds for fault in drill.faults)
    if first > 0:
        earlier = [_changed(fault, at_seconds=round(fault.at_seconds - first, 3)) for fault in drill.faults]
        yield _with_faults(drill, earlier)
    last = max(fault.at_seconds for fault in drill.faults)
    needed = round(max(f.at_seconds + (f.for_seconds or 0.0) for f in drill.faults) - last + 1.0, 3)
    if needed < drill.phases.fault_seconds:
        yield _changed(drill, phases=_changed(drill.phases, fault_seconds=needed))
    for place, fault in enumerate(drill.faults):
        if fault.for_seconds is not None and fault.for_seconds > 1.0:
            shorter = _changed(fault, for_seconds=round(fault.for_seconds / 2, 3))
            yield _with_faults(drill, [*drill.faults[:place], shorter, *drill.faults[place + 1 :]])
    load = drill.load
    if load.events_per_second > 0.5:
        yield _changed(drill, load=_changed(load, events_per_second=round(load.events_per_second / 2, 3)))
    if load.searches_per_second > 0.5:
        yield _changed(drill, load=_changed(load, searches_per_second=round(load.searches_per_second / 2, 3)))


def _with_faults(drill: Drill, faults: list[Fault]) -> Drill:
    if faults and faults[0].target == "first":
        faults = [_changed(faults[0], target="active"), *faults[1:]]
    return _changed(drill, faults=faults)


def _changed(value: T, **changes: object) -> T:
    return msgspec.structs.replace(value, **changes)
