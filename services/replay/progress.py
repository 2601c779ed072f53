"""How far a long piece of work is: a bar on a terminal, one plain line now and then elsewhere."""

import sys
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

PLAIN_LINES = 10
"""How many lines a piece of work may print where there is no terminal."""


class Progress(Protocol):
    """What a piece of work tells about itself."""

    def advance(self, count: int) -> None:
        """So much more is done."""


class Quiet:
    """Says nothing."""

    def advance(self, count: int) -> None:
        """Ignored."""


class _Bar:
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, count: int) -> None:
        self._bars.advance(self._task, count)


class _PlainLines:
    def __init__(self, label: str, total: int, out: TextIO) -> None:
        self._label, self._total, self._out = label, total, out
        self._done = self._printed = 0

    def advance(self, count: int) -> None:
        self._done += count
        tenth = self._done * PLAIN_LINES // max(self._total, 1)
        if tenth > self._printed:
            self._printed = tenth
            print(f"{self._label}: {self._done:,} of {self._total:,}", file=self._out, flush=True)


class ProgressBoard:
    """The pieces of work of one command, on standard error so that results can be piped."""

    def __init__(self, out: TextIO | None = None, *, quiet: bool = False) -> None:
        self._out = out or sys.stderr
        self._quiet = quiet
        self._bars: RichProgress | None = None
        if not quiet and self._out.isatty():
            self._bars = RichProgress(
                TextColumn("{task.description:<28}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(file=self._out),
                refresh_per_second=4,
            )

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def piece(self, label: str, total: int) -> Progress:
        """Start a piece of work of `total` steps."""
        if self._quiet:
            return Quiet()
        if self._bars is not None:
            return _Bar(self._bars, self._bars.add_task(label, total=total))
        return _PlainLines(label, total, self._out)

    def say(self, line: str) -> None:
        """One line between the bars."""
        if self._quiet:
            return
        if self._bars is not None:
            self._bars.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=self._out, flush=True)
