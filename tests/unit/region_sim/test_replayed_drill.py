"""A drill that replays a log: its course follows from the log's sizes, and what cannot be replayed is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from region_sim.demo.drill import replayed
from region_sim.errors import BadDrill
from region_sim.spec import load_drill

REPLAY = "load.source=replay"


def test_the_fault_comes_half_way() -> None:
    """3,000 searches at 50 a second take a minute; the warm-up is part of it."""
    drill = replayed(load_drill("wipe-active", [REPLAY, "load.ranked_searches=3000"]), "process")
    assert drill.phases.warm_up_seconds + drill.phases.steady_seconds == pytest.approx(30.0)


def test_a_short_replay_has_a_short_warm_up() -> None:
    """Half of the time before the fault, at most."""
    changes = [REPLAY, "load.ranked_searches=100", "load.searches_per_second=25"]
    drill = replayed(load_drill("wipe-active", changes), "process")
    assert (drill.phases.warm_up_seconds, drill.phases.steady_seconds) == (1.0, 1.0)


def test_it_is_played_on_free_ports() -> None:
    """So that a demonstration can be run beside a deployment."""
    drill = load_drill("wipe-active", [REPLAY])
    assert replayed(drill, "process").topology.base_port != drill.topology.base_port


@pytest.mark.parametrize(("data", "why"), [("shop:often", "whole number"), ("/no/such/log", "there is no")])
def test_a_log_that_is_not_there_is_refused(data: str, why: str) -> None:
    """Before anything is started."""
    with pytest.raises(BadDrill, match=why):
        replayed(load_drill("wipe-active", [REPLAY, f"load.data={data}"]), "process")


def test_a_folder_is_taken(tmp_path: Path) -> None:
    """What is in it is looked at when the drill begins."""
    drill = load_drill("wipe-active", [REPLAY, f"load.data={tmp_path}"])
    assert replayed(drill, "process").load.data == str(tmp_path)


def test_memory_has_no_shop() -> None:
    """The models of the memory backend are too small for a real log."""
    with pytest.raises(BadDrill, match="--backend process"):
        replayed(load_drill("wipe-active", [REPLAY]), "memory")
