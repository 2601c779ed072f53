"""From whom a partition is copied, and what is said when nobody can be."""

from __future__ import annotations

import msgspec
import pytest

from services.coordination.lives import Life, LogCut
from services.replicator.sources import (
    Holder,
    KafkaSeen,
    OriginShown,
    choose,
    cluster_alarm,
    limit_of,
    missing_alarm,
    origin_blocker,
    reachable_end,
)

LIFE = Life(incarnation="east-1", region="east", number=1, cluster_id="A", opened_ms=1)
CUT = msgspec.structs.replace(
    LIFE, sealed_ms=5, cuts=[LogCut("east-1.events", 0, 40, 90), LogCut("east-1.events", 0, 30, 90)]
)


def origin(end: int, blocker: str | None = None) -> Holder:
    """The origin."""
    return Holder("east", is_origin=True, end=end, blocker=blocker)


def other(region: str, end: int, blocker: str | None = None) -> Holder:
    """A region that has a copy."""
    return Holder(region, is_origin=False, end=end, blocker=blocker)


def region_of(found: Holder | None) -> str | None:
    """Its name."""
    return found.region if found else None


@pytest.mark.parametrize(
    ("wanted", "limit", "holders", "current", "expected"),
    [
        (10, None, [origin(10), other("south", 50)], "", "east"),
        (10, None, [origin(99, "away"), other("south", 50), other("north", 60)], "", "north"),
        (10, None, [origin(99, "away"), other("south", 50), other("north", 60)], "south", "south"),
        (50, None, [origin(99, "away"), other("south", 50), other("north", 60)], "south", "north"),
        (60, None, [origin(99, "away"), other("south", 50), other("north", 60)], "north", None),
        (10, 30, [origin(40), other("south", 50)], "", "east"),
        (30, 30, [origin(40), other("south", 50)], "", "south"),
        (10, None, [other("south", 50, "away")], "", None),
        (10, None, [], "", None),
    ],
)
def test_the_origin_is_preferred_then_whoever_holds_the_longest_prefix(
    wanted: int, limit: int | None, holders: list[Holder], current: str, expected: str | None
) -> None:
    """Never beyond a cut of the origin, never from somebody who holds no more, and without moving to and fro."""
    assert region_of(choose(wanted, limit, holders, current)) == expected


def test_a_cut_limits_the_origin_only_and_the_smallest_one_counts() -> None:
    """Another partition of the same life is not limited."""
    assert limit_of(CUT, "east-1.events", 0) == 30
    assert limit_of(CUT, "east-1.events", 1) is None
    assert reachable_end(30, [origin(40), other("south", 35)]) == 35
    assert reachable_end(30, [origin(40), other("south", 35, "away")]) == 30
    assert reachable_end(None, []) == 0


def test_another_cluster_is_no_origin_and_an_alarm_until_the_life_is_sealed() -> None:
    """A Kafka that is away is no alarm."""
    assert origin_blocker(LIFE, KafkaSeen(reachable=True, cluster_id="A")) is None
    assert "another life" in (origin_blocker(LIFE, KafkaSeen(reachable=True, cluster_id="B")) or "")
    assert "does not answer" in (origin_blocker(LIFE, KafkaSeen(reachable=False, cluster_id="A")) or "")
    assert "another life" in (cluster_alarm(LIFE, KafkaSeen(reachable=True, cluster_id="B")) or "")
    assert cluster_alarm(LIFE, KafkaSeen(reachable=False, cluster_id="B")) is None
    assert cluster_alarm(CUT, KafkaSeen(reachable=True, cluster_id="B")) is None


def test_what_is_missing_is_said_with_the_next_step() -> None:
    """A cut and a gap are different things for an operator."""
    place = ("east-1.events", 0)
    assert "30 records are gone" in missing_alarm(place, "east", 100, 130, OriginShown(0, 100))
    gap = missing_alarm(place, "east", 100, 130, OriginShown(110, 130))
    assert "10 records were removed" in gap
    assert "/v1/holes" in gap
