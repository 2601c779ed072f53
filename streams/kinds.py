"""The kinds of event and the rungs of an answer, as the numbers that are written into logs.

A number, once it has been written, keeps its meaning for ever: logs are never rewritten. A new kind is a new
number *and* a new frame version, because a reader that does not know a kind must stop rather than lose it.
"""

from enum import IntEnum, unique
from typing import Final


@unique
class Kind(IntEnum):
    """What an event says happened."""

    SEARCH = 0
    CLICK = 1
    CART = 2
    PURCHASE = 3
    VIEW = 4
    ITEM = 5
    """A catalogue entry: the newest one for an item wins."""
    SERVED = 6
    """Written by the gateway when it answers: what was shown, so that quality is part of the truth."""
    IMPRESSION = 7
    FEEDBACK = 8

    @property
    def word(self) -> str:
        """The name used in CloudEvents types, metrics and messages: `click`."""
        return self.name.lower()


KIND_COUNT: Final = len(Kind)


@unique
class Rung(IntEnum):
    """Which step of the ladder an answer came from; 1 is the best."""

    MODEL = 1
    COUNTERS = 2
    POPULARITY = 3

    @property
    def word(self) -> str:
        """The name used in answers and metrics: `model`."""
        return self.name.lower()
