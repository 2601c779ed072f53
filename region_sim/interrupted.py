"""Ctrl-C and SIGTERM: both end a drill the same way, and neither disturbs the tidying up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from region_sim.errors import RegionSimError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(RegionSimError):
    """Somebody ended the drill: there is no verdict."""


class _Asked(KeyboardInterrupt):
    """To end, by a signal.

    A class of its own: when exactly KeyboardInterrupt leaves a string that is executed (a `dataclass` does that while
    its module is imported), `python -m` ends itself by SIGINT, whoever caught it and whatever the exit code should be.
    """


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Asked


@contextmanager
def both_interrupt() -> Iterator[None]:
    """Within it, SIGTERM raises KeyboardInterrupt as Ctrl-C does. Raises Interrupted when either did."""
    before = [signal.signal(number, _interrupt) for number in SIGNALS]
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted, so there is no verdict. What was broken was let go, and what was started was ended."
        ) from None
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def interrupted_later() -> Iterator[None]:
    """Within it, neither does anything yet; what came meanwhile comes at its end."""
    came: list[int] = []
    before = [signal.signal(number, lambda number, _: came.append(number)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within it, neither does anything: what was started is being ended."""
    before = [signal.signal(number, signal.SIG_IGN) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)
