"""The first screen: everything that is known in words, and nothing that is not."""

from __future__ import annotations

import msgspec
import pytest

from services.controller.answers import RegionLine, StatusAnswer
from services.controller.client import Leader
from services.controller.forecast import RtoForecast
from services.controller.model import Pause
from services.controller.screen import screen
from services.controller.surroundings import Decided, Surroundings, Work, quantile

EAST = RegionLine(
    region="east",
    role="active",
    serving=True,
    incarnation="east-1",
    blocker="",
    lag_events=0,
    lag_seconds=0.0,
    gateway_url="",
)
FORECAST = RtoForecast(
    seconds=2.3,
    detection_seconds=0.0,
    lease_seconds=2.05,
    replay_seconds=0.0,
    opening_seconds=0.0,
    lag_events=3,
    events_per_second=None,
    because="2.0 s of lease",
    error_seconds=0.2,
    seconds_max=7.4,
)
WEST = msgspec.structs.replace(EAST, region="west", role="passive", serving=False, rto_forecast=FORECAST)
FOUND = StatusAnswer(
    at_ms=100_000,
    region="west",
    sentence="no action",
    leader=Leader("east", (0, 7), "", serving=True),
    lease_left_seconds=None,
    largest_epoch=(0, 7),
    view_age_seconds=0.1,
    etcd_leader="north",
    pause=None,
    operation=None,
    regions=[EAST, WEST],
    receipts_open=0,
)
AROUND = Surroundings(
    members=3,
    members_answering=2,
    lease_left_seconds=1.4,
    decisions=[Decided(at_ms=95_000, sentence="east acquired the lease")],
    work={"east": Work(waiting_records=0, stream_lag_seconds=0.0, scoring_p99_ms=5.0, device="cpu", fell_back=True)},
)


def test_an_operator_reads_who_is_active_what_votes_and_what_could_be_promoted() -> None:
    """One header, one row a region, the last decisions."""
    lines = screen(FOUND, AROUND, "shop")
    assert lines[0] == "deployment shop | east serves, epoch 0:7 | coordination 2/3 | automatic"
    east, west = (next(line for line in lines if line.startswith(name)) for name in ("east ", "west "))
    assert "1.4 s" in east
    assert "≤5 ms CPU-FALLBACK" in east
    assert east.endswith("it is active")
    assert "2.3±0.2 s, max 7.4" in west
    assert west.endswith("yes")
    assert any("5 s ago  east acquired the lease" in line for line in lines)


def test_what_is_not_known_says_so_and_a_pause_and_a_lost_quorum_are_loud() -> None:
    """No zero stands for what nobody said."""
    paused = msgspec.structs.replace(FOUND, pause=Pause(by="anna", reason="x", created_ms=0, until_ms=160_000))
    blind = msgspec.structs.replace(WEST, rto_forecast=None, rto_unknown="not asked yet", lag_events=None)
    sick = msgspec.structs.replace(WEST, region="third", blocker="processor: not ready", rto_forecast=None)
    lines = screen(
        msgspec.structs.replace(paused, regions=[EAST, blind, sick]),
        msgspec.structs.replace(AROUND, members_answering=1, decisions=None, work={}, lease_left_seconds=None),
        "shop",
    )
    text = "\n".join(lines)
    assert "coordination 1/3 NO QUORUM | PAUSED" in lines[0]
    assert "PAUSED by anna for another 60 s" in text
    west = next(line for line in lines if line.startswith("west "))
    assert west.count("unknown") >= 4
    assert west.endswith("only by an operator: paused")
    assert "no forecast of west: not asked yet" in text
    assert next(line for line in lines if line.startswith("third ")).endswith("no: processor: not ready")
    assert "no controller shows the history" in text


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        ({}, {}, None),
        ({0.01: 0.0, float("inf"): 0.0}, {}, None),
        ({0.01: 50.0, 0.1: 100.0, float("inf"): 100.0}, {}, 0.1),
        ({0.01: 150.0, 0.1: 200.0, float("inf"): 200.0}, {0.01: 50.0, 0.1: 100.0, float("inf"): 100.0}, 0.01),
        ({0.01: 5.0, float("inf"): 5.0}, {0.01: 50.0, float("inf"): 50.0}, 0.01),
        ({0.01: 0.0, float("inf"): 5.0}, {}, 0.01),
    ],
)
def test_p99_is_of_what_came_since_the_last_look(
    now: dict[float, float], before: dict[float, float], expected: float | None
) -> None:
    """A worker that was started anew counts from nothing; without new requests those of before are shown."""
    assert quantile(now, before, 0.99) == expected
