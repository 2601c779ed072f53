"""Where a reader is, and the one rule by which it takes records.

A position names a record by its offset in the log where it was *first* written. A frontier is the next offset for
every log and partition. Because a log has one writer and a copy is a prefix of the original, three comparisons
decide everything, whoever delivers the record and however often:

* below the frontier: a duplicate, drop it;
* at the frontier: take it;
* above the frontier: something is missing, stop.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Self

import msgspec


class Position(msgspec.Struct, frozen=True, order=True):
    """A record: log, partition, and offset in the origin log. Serves as a read token."""

    log: str
    partition: int
    offset: int


class Verdict(Enum):
    """What the reader rule says about a record."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    GAP = "gap"


def judge(next_offset: int, offset: int, end: int | None = None) -> Verdict:
    """Apply the reader rule to a record at `offset` when `next_offset` is the one that is wanted.

    A record that stands for a hole covers all offsets up to `end`.
    """
    if offset > next_offset:
        return Verdict.GAP
    return Verdict.ACCEPTED if (offset + 1 if end is None else end) > next_offset else Verdict.DUPLICATE


class Frontier(Mapping[tuple[str, int], int]):
    """The next offset for each (log, partition); 0 for one that was never seen. Immutable."""

    __slots__ = ("_next_offsets",)

    def __init__(self, next_offsets: Mapping[tuple[str, int], int] | None = None) -> None:
        self._next_offsets = dict(next_offsets or {})

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, int, int]]) -> Self:
        """Build from `[log, partition, next offset]` rows, the form that travels in JSON."""
        return cls({(log, partition): next_offset for log, partition, next_offset in rows})

    def to_rows(self) -> list[tuple[str, int, int]]:
        """The sorted `[log, partition, next offset]` rows."""
        return [(log, partition, n) for (log, partition), n in sorted(self._next_offsets.items())]

    def __getitem__(self, key: tuple[str, int]) -> int:
        return self._next_offsets.get(key, 0)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._next_offsets)

    def __len__(self) -> int:
        return len(self._next_offsets)

    def __contains__(self, key: object) -> bool:
        return key in self._next_offsets

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frontier) and self.to_rows() == other.to_rows()

    def __hash__(self) -> int:
        return hash(tuple(self.to_rows()))

    def __repr__(self) -> str:
        return f"Frontier({self.to_rows()})"

    def covers(self, position: Position) -> bool:
        """Whether the record at `position` is already behind this frontier."""
        return position.offset < self[position.log, position.partition]

    def covers_all(self, other: "Frontier") -> bool:
        """Whether everything behind `other` is behind this frontier too."""
        return all(self[key] >= next_offset for key, next_offset in other.items())
