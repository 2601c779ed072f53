"""What an operator does in a drill: asked of commands that stand for the real ones, and say what those say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from region_sim.backends.process import ProcessBackend
from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.faults.plays import play_of
from region_sim.spec import OperatorPause, Switchover
from services.common.clock import SystemClock

NOT_YET = "`meridian switchover west` ended with 1:\nrefused: west cannot take over: processor: state: replaying"


@dataclass
class Commands:
    """Answers each command with the next of its answers; the last one stays."""

    answers: list[dict[str, object] | str]
    asked: list[list[str]] = field(default_factory=list)

    def operator(self, arguments: list[str], _seconds_max: float) -> dict[str, object]:
        """See ProcessBackend."""
        self.asked.append(arguments)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            raise DrillBroken(answer)
        return answer


def scene(commands: Commands) -> Scene:
    """East is active."""
    return Scene(cast("ProcessBackend", commands), SystemClock(), "east", ["east", "west"])


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once."""
    monkeypatch.setattr("region_sim.faults.switchover.ASK_AGAIN_SECONDS", 0.001)


async def test_a_switchover_waits_for_a_region_that_is_not_ready_yet() -> None:
    """As the refusal tells the operator to."""
    commands = Commands([NOT_YET, NOT_YET, {"state": "done"}])
    play = play_of(scene(commands), Switchover(), "")
    assert await play.not_injected() is not None
    assert "switchover from east to west" in await play.inject()
    assert commands.asked == [["switchover", "west", "--reason", "drill"]] * 3
    assert await play.not_injected() is None


async def test_another_refusal_is_not_asked_again() -> None:
    """Neither is one that lasts."""
    commands = Commands(["`meridian switchover west` ended with 2:\naborted: handed back"])
    with pytest.raises(DrillBroken, match="handed back"):
        await play_of(scene(commands), Switchover(), "").inject()
    assert len(commands.asked) == 1


async def test_a_region_that_never_can_is_a_switchover_that_was_not_carried_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the reason of the last answer."""
    monkeypatch.setattr("region_sim.faults.switchover.WAIT_SECONDS_MAX", 0.02)
    commands = Commands([NOT_YET])
    play = play_of(scene(commands), Switchover(), "")
    with pytest.raises(DrillBroken, match="west cannot take over"):
        await play.inject()
    assert len(commands.asked) > 1
    assert await play.not_injected() is not None


async def test_a_pause_lasts_longer_than_the_drill_and_is_ended_by_resume() -> None:
    """Both through the commands that operators have."""
    commands = Commands([{"paused": True}, {"detail": "resumed"}])
    play = play_of(scene(commands), OperatorPause(), "")
    assert await play.not_injected() is not None
    assert not play.region_lost
    await play.inject()
    assert (await play.not_injected(), await play.not_healed() is None) == (None, False)
    await play.heal()
    assert await play.not_healed() is None
    assert commands.asked == [
        ["pause", "--for", "3600", "--reason", "drill"],
        ["resume", "--reason", "drill"],
    ]


def test_the_operator_is_the_real_one_on_a_running_deployment(tmp_path: Path) -> None:
    """A deployment that is not there is told as such, with what `meridian` said."""
    from tests.unit.region_sim.test_faults import deployment

    with pytest.raises(DrillBroken, match="there is no deployment"):
        ProcessBackend(deployment(tmp_path)).operator(["resume"], 60.0)
