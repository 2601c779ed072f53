"""How far a training is: a bar on a terminal, a line now and then anywhere else. Both on standard error."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from models.qhrank.command import Listener
from models.qhrank.training import Progress as Step
from models.qhrank.tuning import Trial

LINES = 10
"""So many lines for a stage where there is no terminal."""


@contextlib.contextmanager
def listening() -> Iterator[Listener]:
    """Who shows it, as long as the context is open."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        board = _Board(console, bars)
        yield Listener(walked=board.walked, trained=board.trained, tried=board.tried, said=board.say)


class _Board:
    def __init__(self, console: Console, bars: Progress) -> None:
        self._console = console
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, int] = {}

    def walked(self, done: int, total: int) -> None:
        self._show("walking the log", done, total, f"{done:,} of {total:,} searches")

    def trained(self, step: Step) -> None:
        done = (step.epoch - 1) * step.steps + step.step
        note = f"epoch {step.epoch}, {step.stage}, loss {step.loss:.4f}"
        self._show("training", done, step.epochs * step.steps, note)
        if step.judged is not None:
            figures, bare = step.judged.with_counters, step.judged.without_counters
            self.say(
                f"epoch {step.epoch}: held-out MRR@5 {figures.mrr_at_5:.4f} with counters, {bare.mrr_at_5:.4f} without"
            )

    def tried(self, trial: Trial) -> None:
        changed = ", ".join(f"{name} {value:.3g}" for name, value in trial.changed.items())
        self.say(
            f"trial {trial.number} of {trial.trials}: {trial.merit:.4f} (best {trial.best_merit:.4f}) with {changed}"
        )
        self._told.pop("training", None)

    def say(self, line: str) -> None:
        self._console.print(line)

    def _show(self, what: str, done: int, total: int, note: str) -> None:
        if self._console.is_terminal:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=total, note="")
            self._bars.update(self._tasks[what], completed=done, total=total, note=note)
            return
        tenth = done * LINES // max(total, 1)
        if tenth > self._told.get(what, 0):
            self._told[what] = tenth
            self.say(f"{what}: {100 * done // max(total, 1)} %, {note}")
