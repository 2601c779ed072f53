"""A site that an operator ends and starts again: asked of hands that stand for the real ones, and seen to be down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from region_sim.backends.hands import Hands
from region_sim.errors import BadDrill, DrillBroken
from region_sim.faults.base import Scene
from region_sim.faults.plays import play_of
from region_sim.faults.refusals import refusal_of
from region_sim.spec import Restart, kind_of, load_drill
from services.common.clock import SystemClock
from services.region.run_file import ProcessIdentity

FOUND = [ProcessIdentity(pid=11, start_ticks=1), ProcessIdentity(pid=12, start_ticks=1)]


@dataclass
class Operator:
    """Ends a site as told, unless it `clings`."""

    clings: bool = False
    is_up: bool = True
    did: list[str] = field(default_factory=list)

    def processes(self, _site: str, names: list[str]) -> list[ProcessIdentity]:
        """See Hands."""
        assert not names
        return list(FOUND) if self.is_up else []

    def alive(self, identities: list[ProcessIdentity]) -> int:
        """See Hands."""
        return len(identities) if self.is_up else 0

    def stop(self, site: str) -> None:
        """See Hands."""
        self.did.append(f"stop {site}")
        self.is_up = self.clings

    def start(self, site: str, _seconds_max: float) -> None:
        """See Hands."""
        self.did.append(f"start {site}")
        self.is_up = True


def scene(operator: Operator, target: str = "west") -> Scene:
    """West is passive."""
    return Scene(cast("Hands", operator), SystemClock(), target, ["east", "west"])


async def test_a_site_is_ended_in_order_and_started_again() -> None:
    """Nothing is killed; the region is away all the same, a witness is none."""
    operator = Operator()
    play = play_of(scene(operator), Restart(), "")
    assert play.region_lost
    assert not play_of(scene(operator, "north"), Restart(), "").region_lost
    assert await play.not_injected() is not None
    assert "west ended in order: 2 processes" in await play.inject()
    assert await play.not_injected() is None
    assert await play.not_healed() == "west does not run yet"
    await play.heal()
    assert await play.not_healed() is None
    assert operator.did == ["stop west", "start west"]


async def test_a_site_that_does_not_end_is_no_restart() -> None:
    """Then the fault did not take, and the verdict is unknown."""
    play = play_of(scene(Operator(clings=True)), Restart(), "")
    await play.inject()
    assert await play.not_injected() == "2 processes of west live on"


async def test_what_does_not_run_cannot_be_ended() -> None:
    """It would prove nothing."""
    with pytest.raises(DrillBroken, match="nothing of west runs that could be ended"):
        await play_of(scene(Operator(is_up=False)), Restart(), "").inject()


def test_an_upgrade_is_two_restarts_and_a_switchover_that_every_backend_can_do() -> None:
    """Each waits until what came before it is over, so each restart has a time after which it is healed."""
    drill = load_drill("rolling-restart")
    assert [kind_of(fault) for fault in drill.faults] == ["restart", "switchover", "restart"]
    assert [fault.target for fault in drill.faults] == ["passive", "active", "passive"]
    assert (drill.marks.gap_seconds_max, drill.marks.failovers_max, drill.marks.lost_max) == (1.0, 1, 0)
    for backend in ("process", "compose", "memory"):
        refused = refusal_of(backend, drill)  # type: ignore[arg-type]
        assert [refused(fault) for fault in drill.faults] == [None] * 3
    with pytest.raises(BadDrill, match="needs a for_seconds of the restart before it"):
        load_drill("kill-active", ["faults.0.kind=restart", "faults.1.kind=restart", "faults.1.after_recovery=true"])
