"""The check of `/metrics` pages finds what it is there for."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from services.controller.metrics import ControllerMetrics
from tests.support.metrics_budget import SERIES_MAX, over_budget


def page(label: str, *values: str) -> str:
    """A registry with one counter."""
    registry = CollectorRegistry()
    counter = Counter("meridian_things", "Things.", [label], registry=registry)
    for value in values:
        counter.labels(value)
    return generate_latest(registry).decode()


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("user_id", "a"),
        ("query", "a"),
        ("last_item", "a"),
        ("kind", "red shoes"),
        ("kind", "9f86d081884c7d65"),
        ("kind", "12345678"),
        ("kind", "anna@example.org"),
        ("kind", "x" * 200),
    ],
)
def test_what_could_be_a_person_is_found(label: str, value: str) -> None:
    """By the label's name, by what was sent, by the look of it."""
    assert over_budget("gateway", page(label, value), sent={"red shoes"})


def test_too_many_series_are_found() -> None:
    """One more than a process may have: a counter has two series for each value."""
    values = [f"v{number}" for number in range(SERIES_MAX["gateway"] // 2 + 1)]
    assert any("series" in said for said in over_budget("gateway", page("kind", *values)))


def test_a_controller_is_within_its_budget() -> None:
    """Topics, outcomes and reasons are no people; sums stay below what a region may have."""
    registry = CollectorRegistry()
    ControllerMetrics(registry)
    assert over_budget("controller", generate_latest(registry).decode()) == []
