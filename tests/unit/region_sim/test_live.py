"""What somebody sees of a drill while it runs: one screen on a terminal, lines elsewhere."""

from __future__ import annotations

import pytest
from rich.console import Console

from region_sim.history import HistoryWriter
from region_sim.live import Screen, watching
from region_sim.spec import load_drill
from region_sim.watching import Watch
from tests.support.turned_clock import TurnedClock


def story(watch: Watch, clock: TurnedClock, history: HistoryWriter) -> None:
    """A region is killed, another one answers, and it is healed but for one fault."""
    watch.begins(clock, history)
    watch.phase("steady")
    history.add("ok", "search", "library-east", region="east", epoch=(0, 7))
    clock.turn(2.0)
    watch.phase("fault")
    watch.broken("kill east", "SIGKILL to 8 processes")
    watch.broken("pause west", "SIGSTOP to etcd")
    clock.turn(3.0)
    for _ in range(10):
        history.add("ok", "search", "library-east", region="west", epoch=(0, 9))
    history.add("ok", "search", "bare-east", region="east", epoch=(0, 7))
    watch.said("another region answers")
    watch.mended("kill east", "")


def shown(screen: Screen) -> str:
    """The screen as text."""
    console = Console(width=110, record=True, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(screen.render())
    return captured.get()


def test_the_screen_shows_what_holds_now() -> None:
    """Phase, who is active, what is in force, answers by region, and the last events."""
    clock = TurnedClock()
    history = HistoryWriter(None, clock)
    screen = Screen(load_drill("kill-active"), history, clock)
    story(screen, clock, history)
    text = shown(screen)
    lines = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert "kill-active" in text
    assert "fault, 3 s (of 5 s)" in lines["phase"]
    assert "west, epoch 0.9" in lines["active"]
    assert "pause west" in lines["in"]
    assert "kill east" not in lines["in"]
    assert lines["east"].split() == ["east", "2", "0"]
    assert lines["west"].split() == ["west", "10", "2"]
    assert "another region answers" in text
    screen.mended("pause west", "it is still stopped")
    assert "nothing" in shown(screen)
    assert "not healed: pause west: it is still stopped" in shown(screen)


async def test_without_a_terminal_everything_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With the seconds since the drill began."""
    clock = TurnedClock()
    history = HistoryWriter(None, clock)
    async with watching(load_drill("kill-active"), history, clock) as watch:
        story(watch, clock, history)
    said = capsys.readouterr().out.splitlines()
    assert said[0].split(maxsplit=2) == ["0.0", "s", "steady; answers so far: none"]
    assert said[1].split(maxsplit=2) == ["2.0", "s", "fault; answers so far: east 1"]
    assert said[2].split(maxsplit=2)[2] == "broken: kill east (SIGKILL to 8 processes)"
    assert said[-1].split(maxsplit=2) == ["5.0", "s", "healed: kill east"]
