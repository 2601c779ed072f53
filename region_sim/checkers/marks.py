"""The drill's pass marks: measured times within their bounds."""

from __future__ import annotations

from region_sim.checkers.base import Figures, Finding
from region_sim.spec import Marks

CHECK = "the pass marks are met"


def check(figures: Figures, marks: Marks) -> Finding:
    """Hold the figures of all checkers against the marks; a figure that is missing is unknown, never met."""
    bounds = (
        ("rto_seconds", figures.rto_seconds, marks.rto_seconds_max),
        ("gap_seconds", figures.gap_seconds, marks.gap_seconds_max),
        (
            "last_contact_before_fault_seconds",
            figures.last_contact_before_fault_seconds,
            marks.last_contact_seconds_max,
        ),
        ("heal_seconds", figures.heal_seconds, marks.heal_seconds_max),
    )
    wanted = [(name, value, bound) for name, value, bound in bounds if bound is not None]
    missed = [f"{name} is {value}, at most {bound}" for name, value, bound in wanted if value and value > bound]
    if missed:
        return Finding(check=CHECK, verdict="invalid", sentence="; ".join(missed), examples=missed)
    silent = [name for name, value, _ in wanted if value is None]
    if silent:
        return Finding(check=CHECK, verdict="unknown", sentence=f"not measured: {', '.join(silent)}")
    return Finding(check=CHECK, verdict="valid", sentence=f"{len(wanted)} marks, all met")
