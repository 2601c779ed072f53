"""The drill's pass marks: measured times and counts within their bounds."""

from __future__ import annotations

from collections.abc import Sequence

from region_sim.checkers.base import Failover, Figures, Finding
from region_sim.spec import Marks

CHECK = "the pass marks are met"
Bound = tuple[str, float | None, float | None]
"""Name, measured value, bound; None: not measured, not wanted."""


def check(figures: Figures, marks: Marks, failovers: Sequence[Failover] | None = None) -> Finding:
    """Hold the figures of all checkers against the marks; a figure that is missing is unknown, never met."""
    most: list[Bound] = [
        ("rto_seconds", _worst_rto(figures, failovers), marks.rto_seconds_max),
        ("gap_seconds", figures.gap_seconds, marks.gap_seconds_max),
        (
            "last_contact_before_fault_seconds",
            figures.last_contact_before_fault_seconds,
            marks.last_contact_seconds_max,
        ),
        ("heal_seconds", figures.heal_seconds, marks.heal_seconds_max),
        ("failover_count", figures.failover_count, marks.failovers_max),
        ("lost", figures.lost, marks.lost_max),
    ]
    least: list[Bound] = [
        ("failover_count", figures.failover_count, marks.failovers_min or None),
        ("dead_letters", figures.dead_letters, marks.dead_letters_min or None),
    ]
    wanted = [bound for bound in (*most, *least) if bound[2] is not None]
    missed = [f"{name} is {value}, at most {bound}" for name, value, bound in most if _is_over(value, bound)]
    missed += [f"{name} is {value}, at least {bound}" for name, value, bound in least if _is_over(bound, value)]
    if missed:
        return Finding(check=CHECK, verdict="invalid", sentence="; ".join(missed), examples=missed)
    silent = sorted({name for name, value, _ in wanted if value is None})
    if silent:
        return Finding(check=CHECK, verdict="unknown", sentence=f"not measured: {', '.join(silent)}")
    return Finding(check=CHECK, verdict="valid", sentence=f"{len(wanted)} marks, all met")


def _worst_rto(figures: Figures, failovers: Sequence[Failover] | None) -> float | None:
    """The longest of all failovers; None when one that happened was not measured."""
    if not failovers:
        return figures.rto_seconds
    found = [failover.rto_seconds for failover in failovers]
    return None if None in found else max(value for value in found if value is not None)


def _is_over(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value > bound
