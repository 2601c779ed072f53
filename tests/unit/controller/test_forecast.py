"""The forecast of a failover: its parts, what makes it unknown, and what drills correct."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from services.controller.answers import RTO_FORECAST, explain
from services.controller.calibration import (
    ALL,
    CALIBRATION_FILE,
    SHIPPED,
    calibration_of,
    correction_of,
    load_calibration,
)
from services.controller.forecast import (
    EVENTS_PER_SECOND_MIN,
    HOLDS_LEASE,
    NO_CORRECTION,
    PARTS,
    Backlog,
    ControlTimes,
    Correction,
    RtoForecast,
    Standing,
    expected_terms,
    forecast,
    worst_terms,
)
from services.controller.forecaster import Forecaster
from services.controller.model import GateSeen, Lag, Limits, Pause
from services.processor.client import FoldReport
from tests.unit.controller.test_decide import LIMITS, NOW, leader, status, term, view

TIMES = ControlTimes(
    lease_ttl=2.0, renew_interval=0.4, request_timeout=0.3, cycle=0.25, observe=0.5, rank_delay=0.4, etcd_election=2.0
)
FIRST = Standing(place=0, etcd_leader_too=False, lease_gone_at=None)
FOLD = FoldReport(waiting_records=0, waiting_events=0, events_per_second=None)


def backlog(copies: int | None = 0, fold: int | None = 0, rate: float | None = None, **changes: object) -> Backlog:
    """What is not folded, asked just now."""
    return replace(Backlog(copies, fold, rate, asked_at=100.0), **changes)  # type: ignore[arg-type]


def known(found: RtoForecast | str) -> RtoForecast:
    """A forecast that there is."""
    assert isinstance(found, RtoForecast), found
    return found


def test_without_a_backlog_it_is_the_lease_less_half_a_renewal_and_half_a_look() -> None:
    """2 - 0.2 + 0.25 s; and the parts add up to the whole."""
    found = known(forecast(backlog(), FIRST, TIMES, NO_CORRECTION, 100.0))
    assert found.seconds == pytest.approx(2.05)
    assert sum(found.part(name) for name in PARTS) == pytest.approx(found.seconds)
    assert found.seconds < found.seconds_max == pytest.approx(2.8 + 2.95 + 1.65)


def test_a_backlog_is_folded_at_the_measured_rate_or_at_the_floor() -> None:
    """Copies and fold count together; a rate of nearly nothing divides nothing by zero."""
    for rate, seconds in ((None, 3_000 / EVENTS_PER_SECOND_MIN), (6_000.0, 0.5), (0.0, 3_000.0)):
        found = known(forecast(backlog(1_000, 2_000, rate), FIRST, TIMES, NO_CORRECTION, 100.0))
        assert (found.lag_events, found.replay_seconds) == (3_000, pytest.approx(seconds))
        assert found.seconds_max >= found.seconds


@pytest.mark.parametrize(
    "unknown",
    [
        backlog(copies=None),
        backlog(fold=None),
        backlog(unknown="replicator: does not answer"),
        backlog(asked_at=90.0),
    ],
)
def test_what_is_not_known_is_no_forecast_and_never_a_zero(unknown: Backlog) -> None:
    """A reason instead of a number."""
    found = forecast(unknown, FIRST, TIMES, NO_CORRECTION, 100.0)
    assert isinstance(found, str)
    assert found


def test_an_election_of_etcds_and_a_later_place_cost_more() -> None:
    """The new leader's election, its time-out and the whole lease; a delay for each that goes first."""
    short = expected_terms(TIMES, place=0, etcd_leader_too=False)
    long = expected_terms(TIMES, place=2, etcd_leader_too=True)
    assert long.lease - short.lease == pytest.approx(2.5 + 0.2)
    assert long.detection == pytest.approx(0.8)
    for too in (False, True):
        assert expected_terms(TIMES, place=0, etcd_leader_too=too).lease < worst_terms(TIMES, etcd_leader_too=too).lease


def test_when_no_region_holds_the_lease_none_is_waited_for() -> None:
    """It is gone."""
    gone = replace(FIRST, lease_gone_at=99.0)
    assert known(forecast(backlog(), gone, TIMES, NO_CORRECTION, 100.0)).seconds == 0.0


def test_drills_correct_by_their_median_and_the_sum_is_never_negative() -> None:
    """The error is that of each drill, forecast from the others."""
    correction = correction_of([0.1, 0.3, 0.2, 5.0])
    assert (correction.drills, correction.median_seconds) == (4, 0.25)
    assert correction.error_seconds_max == pytest.approx(4.8)
    found = known(forecast(backlog(), FIRST, TIMES, correction, 100.0))
    assert found.seconds == pytest.approx(2.05 + 0.25)
    assert "corrected by 4 drills (+0.2 s)" in found.because
    assert known(forecast(backlog(), FIRST, TIMES, Correction(median_seconds=-9.0), 100.0)).seconds == 0.0
    assert correction_of([]) == NO_CORRECTION
    assert correction_of([1.0]).error_seconds is None


def test_a_kind_with_few_drills_is_corrected_by_all(tmp_path: Path) -> None:
    """Written and read again; a damaged file falls back on what came with the release."""
    one = calibration_of({"kill": [7.0], "wipe": [2.0]}, backend="process", made_ms=1)
    assert one.correction() == NO_CORRECTION, "one odd drill moves nothing"
    few = calibration_of({"kill": [1.0, 1.0], "wipe": [2.0]}, backend="process", made_ms=1)
    assert few.correction() == few.kinds[ALL]
    many = calibration_of({"kill": [1.0, 1.0, 1.0], "wipe": [9.0] * 9}, backend="process", made_ms=1)
    assert many.correction().median_seconds == 1.0
    file = tmp_path / CALIBRATION_FILE
    assert load_calibration(file) == SHIPPED
    file.write_bytes(msgspec.json.encode(many))
    assert load_calibration(file) == many
    virtual = msgspec.structs.replace(many, backend="memory")
    for damaged in (b"{", b'{"backend": "\xff"}', b"[]", b"", msgspec.json.encode(virtual)):
        file.write_bytes(damaged)
        assert load_calibration(file) == SHIPPED


def forecaster(etcd_leader: str | None = None, limits: Limits = LIMITS) -> Forecaster:
    """Of a healthy deployment."""
    return Forecaster(TIMES, NO_CORRECTION, limits, lambda: etcd_leader)


def test_a_controller_forecasts_from_what_it_knows() -> None:
    """The passive region does; the active one, a paused one and one that could not take over say why not."""
    gate = GateSeen(False, (-1, -1), "", NOW.boottime, fold=FOLD)
    west = view("west", store_leader=leader("east"))
    west = replace(west, data=replace(west.data, gate=gate))
    assert known(forecaster().of(west, NOW)).seconds == pytest.approx(2.05)
    there, elsewhere, nowhere = (known(forecaster(leads).of(west, NOW)) for leads in ("east", "west", None))
    assert there.lease_seconds == pytest.approx(4.75)
    assert nowhere.seconds == elsewhere.seconds
    assert nowhere.seconds_max == there.seconds_max > elsewhere.seconds_max, "what is not known may be the worst"
    assert "which is not known" in nowhere.because
    assert forecaster().of(view("east", store_leader=leader("east"), term=term()), NOW) == HOLDS_LEASE
    paused = replace(west, store=replace(west.store, pause=Pause(by="anna", reason="", created_ms=0, until_ms=2**60)))
    assert "paused by anna" in str(forecaster().of(paused, NOW))
    blind = replace(west, data=replace(west.data, lag=Lag(unknown="replicator: does not answer")))
    assert forecaster().of(blind, NOW) == "replicator: does not answer"
    silent = replace(west, data=replace(west.data, gate=replace(gate, fold=None)))
    assert "has not said" in str(forecaster().of(silent, NOW))
    third = {name: status(name) for name in ("east", "north", "west")}
    later = replace(west, regions=("east", "north", "west"), store=replace(west.store, candidates=third))
    assert known(forecaster().of(later, NOW)).detection_seconds == pytest.approx(0.4)


def test_the_explanation_holds_the_forecast_against_the_target() -> None:
    """A forecast within it, one beyond, none at all, and the region that needs none."""
    found = known(forecast(backlog(), FIRST, TIMES, NO_CORRECTION, 100.0))
    for said, target, holds in (
        (found, 8.0, True),
        (found, 2.0, False),
        ("unknown", 8.0, False),
        (HOLDS_LEASE, 8.0, True),
    ):
        line = explain(view("west"), LIMITS, NOW, "", (said, target)).predicates[-1]
        assert (line.name, line.holds) == (RTO_FORECAST, holds)
