"""What a drill tells whoever watches it while it runs."""

from __future__ import annotations

from typing import Protocol

from region_sim.history import HistoryWriter
from services.common.clock import Clock


class Watch(Protocol):
    """Is told what happens."""

    def begins(self, clock: Clock, history: HistoryWriter) -> None:
        """The drill begins; told first, and once."""

    def phase(self, name: str) -> None:
        """A phase begins."""

    def broken(self, label: str, details: str) -> None:
        """A fault is in force, named by its label."""

    def mended(self, label: str, problem: str) -> None:
        """A fault was healed, or should have been."""

    def said(self, sentence: str) -> None:
        """Something else happened."""


class Silent:
    """Nobody watches."""

    def begins(self, clock: Clock, history: HistoryWriter) -> None:
        """See Watch."""

    def phase(self, name: str) -> None:
        """See Watch."""

    def broken(self, label: str, details: str) -> None:
        """See Watch."""

    def mended(self, label: str, problem: str) -> None:
        """See Watch."""

    def said(self, sentence: str) -> None:
        """See Watch."""


class Lines:
    """A line for everything, with the seconds since the drill began."""

    def __init__(self) -> None:
        self._clock: Clock | None = None
        self._history: HistoryWriter | None = None
        self._began = 0.0

    def begins(self, clock: Clock, history: HistoryWriter) -> None:
        """See Watch."""
        self._clock, self._history, self._began = clock, history, clock.monotonic()

    def phase(self, name: str) -> None:
        """See Watch."""
        answers = {} if self._history is None else self._history.answers
        shown = ", ".join(f"{region} {count}" for region, count in sorted(answers.items())) or "none"
        self.said(f"{name}; answers so far: {shown}")

    def broken(self, label: str, details: str) -> None:
        """See Watch."""
        self.said(f"broken: {label} ({details})")

    def mended(self, label: str, problem: str) -> None:
        """See Watch."""
        self.said(f"not healed: {label}: {problem}" if problem else f"healed: {label}")

    def said(self, sentence: str) -> None:
        """See Watch."""
        now = 0.0 if self._clock is None else self._clock.monotonic() - self._began
        print(f"{now:6.1f} s  {sentence}", flush=True)
