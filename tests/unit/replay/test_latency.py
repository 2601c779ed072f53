"""Latency from the intended time, and outages: hand-made schedules with known answers."""

import math

import pytest

from services.replay.latency import Attempt, outages, quantile, report


def attempts(*entries: tuple[float, float, bool]) -> list[Attempt]:
    """(intended, latency in seconds, served)."""
    return [Attempt(at, at + latency, served) for at, latency, served in entries]


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(100, 0.99, 99), (100, 0.5, 50), (1, 0.99, 1), (200, 0.99, 198), (3, 0.5, 2)],
)
def test_quantiles_are_nearest_rank(count: int, share: float, expected: float) -> None:
    """The smallest value that so many do not exceed."""
    assert quantile([float(n) for n in range(1, count + 1)], share) == expected


def test_no_measurement_is_no_number() -> None:
    """An empty run has no p99; 0 would look wonderful."""
    assert math.isnan(quantile([], 0.99))
    assert math.isnan(report([]).p50_ms)


def test_latency_counts_the_wait_before_sending() -> None:
    """A request that was sent 2 s late and answered in 10 ms took 2,010 ms."""
    assert report([Attempt(10.0, 12.01, True)]).p99_ms == pytest.approx(2010)


def test_an_outage_ends_with_the_first_one_served_again() -> None:
    """Failures close together are one outage, whatever was served in between; its latencies are left out."""
    found = attempts(
        (0.0, 0.01, True),
        (1.0, 1.0, False),
        (1.5, 0.9, True),
        (1.9, 1.0, False),
        (2.5, 0.3, True),
        (9.0, 0.02, True),
    )
    (outage,) = outages(found)
    assert (outage.start_seconds, outage.end_seconds, outage.failed) == (1.0, 2.5, 2)
    result = report(found)
    assert result.outage_seconds == 1.5 and result.outages == 1
    assert result.measured == 3 and result.longest_ms == pytest.approx(300)


def test_a_lone_failure_long_before_does_not_stretch_the_outage() -> None:
    """Two failures far apart are two outages: latencies between them count."""
    found = attempts((0.0, 1.0, False), (0.5, 0.1, True), (5.0, 1.0, False), (5.5, 1.0, False), (6.5, 0.2, True))
    assert [(outage.start_seconds, outage.end_seconds) for outage in outages(found)] == [
        (0.0, 0.5),
        (5.0, 6.5),
    ]
    assert report(found).measured == 2


def test_an_outage_that_never_ends_ends_with_its_last_failure() -> None:
    """Nothing was served again: the length is what was seen."""
    found = attempts((0.0, 0.01, True), (1.0, 1.0, False), (1.5, 1.0, False))
    assert report(found).outage_seconds == 0.5
    assert report(found).measured == 1
