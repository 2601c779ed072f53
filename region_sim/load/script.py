"""What the apps say: every search and event as a pure function of the seed and its number.

So a drill can be replayed with the same load, and a history can be held against what should have been said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from region_sim.spec import Load

ADJECTIVES: Final = ("oaken", "red", "small", "quiet", "folding", "warm", "plain", "tall", "blue", "round")
NOUNS: Final = ("lamp", "chair", "table", "mug", "rug", "clock", "shelf", "vase", "desk", "mirror", "stool", "bowl")
KINDS: Final = ("click", "click", "click", "click", "view", "view", "cart", "purchase")
SEARCHES, EVENTS = 1, 2


@dataclass(frozen=True, slots=True)
class SearchSaid:
    """A search."""

    id: str
    user: str
    query: str


@dataclass(frozen=True, slots=True)
class EventSaid:
    """Something that a user did."""

    id: str
    kind: str
    user: str
    item: str
    query: str


@dataclass(frozen=True, slots=True)
class ItemSaid:
    """An entry of the catalogue."""

    id: str
    item: str
    title: str
    price: float


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that will be said in one drill."""

    seed: int
    load: Load
    run: str
    """Part of every id, so that two drills in one deployment never say the same."""

    def catalogue(self) -> list[ItemSaid]:
        """The items, published before anything else."""
        return [
            ItemSaid(f"{self.run}-item-{number}", _item(number), _title(number), 1.0 + number % 97)
            for number in range(self.load.items)
        ]

    def search(self, process: str, number: int) -> SearchSaid:
        """The `number`-th search of a client."""
        draw = self._draw(process, SEARCHES, number)
        query = f"{_one(draw, ADJECTIVES)} {_one(draw, NOUNS)}"
        return SearchSaid(f"{self.run}-{process}-s{number}", self._user(draw), query)

    def events(self, process: str, call: int) -> list[EventSaid]:
        """The events of the `call`-th call of a client."""
        draw = self._draw(process, EVENTS, call)
        said = []
        for place in range(self.load.events_per_call):
            item = int(draw.integers(self.load.items))
            kind = KINDS[int(draw.integers(len(KINDS)))]
            identifier = f"{self.run}-{process}-e{call}.{place}"
            said.append(EventSaid(identifier, kind, self._user(draw), _item(item), _title(item)))
        return said

    def _user(self, draw: np.random.Generator) -> str:
        return f"user-{int(draw.integers(self.load.users))}"

    def _draw(self, process: str, what: int, number: int) -> np.random.Generator:
        name = int.from_bytes(process.encode()[-8:], "little")
        return np.random.Generator(np.random.PCG64([self.seed, name, what, number]))


def _one(draw: np.random.Generator, words: Sequence[str]) -> str:
    """As `draw.choice`, which makes an array of the words first."""
    return words[int(draw.integers(len(words)))]


def _item(number: int) -> str:
    return f"item-{number}"


def _title(number: int) -> str:
    return f"{ADJECTIVES[number % len(ADJECTIVES)]} {NOUNS[number // len(ADJECTIVES) % len(NOUNS)]}"
