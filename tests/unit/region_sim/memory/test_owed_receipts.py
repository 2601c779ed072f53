"""Takeovers whose winner wrote no receipt, in the whole simulated deployment: the smallest drills of two campaigns."""

from __future__ import annotations

import pytest

from region_sim.campaign.seeds import run_one
from region_sim.spec import ClockFault, Drill, Fault, Load, Partition, Pause, Phases, Steady, Topology

CUT_OFF: list[Fault] = [
    Partition(target="active", at_seconds=0.0, for_seconds=24.97, shape="full"),
    ClockFault(target="west", at_seconds=14.4, for_seconds=0.824, step_seconds=-45.12, rate=1.000491),
]
"""The other region wins, loses its term by a jump of its clock, and the first one is cut off all the while."""
STOPPED: list[Fault] = [
    ClockFault(target="west", at_seconds=0.0, for_seconds=0.528, step_seconds=32.38, rate=0.999709),
    Pause(target="active", at_seconds=22.45, for_seconds=23.75),
    ClockFault(target="west", at_seconds=33.33, for_seconds=0.907, step_seconds=-46.41, rate=0.999633),
]
"""The same with a region that is stopped, and goes on as if nothing had been."""


@pytest.mark.parametrize(
    ("seed", "faults", "wait_seconds"), [(3088, CUT_OFF, 11.57), (3110, STOPPED, 13.87)], ids=["cut-off", "stopped"]
)
def test_every_takeover_ends_with_a_receipt(seed: int, faults: list[Fault], wait_seconds: float) -> None:
    """Who came back knew of none but itself, and wrote nothing."""
    drill = Drill(
        name=f"owed-{seed}",
        summary="A takeover that nobody saw.",
        faults=faults,
        topology=Topology(network="namespaces", pace="far"),
        load=Load(
            searches_per_second=0.6, events_per_second=1.0, events_per_call=7, bare_share=0.5, users=40, items=40
        ),
        phases=Phases(
            warm_up_seconds=5.0, steady_seconds=8.0, fault_seconds=wait_seconds, after_seconds=10.0,
            settle_seconds_max=60.0,
        ),
        steady=Steady(answered_share_min=0.9),
    )  # fmt: skip
    result = run_one(drill, seed)
    assert result.coverage.failovers >= 2, "nothing was tried"
    assert result.verdict == "valid", result.sentence
