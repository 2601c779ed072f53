"""The verdict over a region: lost, counted twice, or proven right; unknown is never success."""

from collections.abc import Mapping
from enum import Enum

import msgspec

from services.ledger.count import LogCount


class Verdict(Enum):
    """What can be said."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """0 valid, 1 invalid, 2 unknown."""
        return {Verdict.VALID: 0, Verdict.INVALID: 1, Verdict.UNKNOWN: 2}[self]


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What the region says of itself at one moment (`GET /v1/state` of the processor)."""

    incarnation: str
    frontier: tuple[tuple[str, int, int], ...]
    events: int
    """Distinct events taken, without catalogue entries."""
    item_events: int = 0
    """Catalogue entries taken, repetitions included."""
    duplicates: int = 0
    late: int = 0
    """Events that came after the horizon had passed them; they do not count."""
    dead: int = 0
    digest: str = ""

    def next_offsets(self, log: str) -> dict[int, int]:
        """The frontier of one log."""
        return {partition: next_offset for name, partition, next_offset in self.frontier if name == log}

    def places(self) -> dict[tuple[str, int], int]:
        """The frontier of all logs."""
        return {(name, partition): next_offset for name, partition, next_offset in self.frontier}


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The whole finding. `counted_twice` and `not_folded` are None while they cannot be known."""

    verdict: str
    sentence: str
    events_acknowledged: int
    events_lost: int
    lost_examples: list[str]
    events_in_log: int
    """Distinct identities, catalogue included."""
    copies_in_log: int
    """Rows beyond the first of each identity: repetitions that must count once."""
    events_folded: int | None
    events_late: int | None
    events_counted_twice: int | None
    events_not_folded: int | None


def missing_cover(needed: Mapping[tuple[str, int], int], frontier: Mapping[tuple[str, int], int]) -> str | None:
    """Why a frontier does not cover what is needed, by log and partition; None when it does."""
    behind = {p: (frontier.get(p, 0), n) for p, n in needed.items() if frontier.get(p, 0) < n}
    if not behind:
        return None
    (log, partition), (at, wanted) = min(behind.items())
    return f"{len(behind)} partitions are behind; {log}/{partition} is at {at} and must reach {wanted}"


def judge(count: LogCount, claims: Claims | None, uncovered: str | None) -> Ledger:
    """Hold the log against the acknowledgements and the region's claims.

    `count` must be of the log exactly below the claims' frontier; `uncovered` says why that frontier does not
    reach everything acknowledged, or why there are no claims.
    """
    distinct = count.distinct_events + count.distinct_items
    folded = twice = missed = None
    if claims is not None:
        items_missed = max(count.item_rows - claims.item_events, 0)
        folded = claims.events + max(count.distinct_items - items_missed, 0)
        twice = max(claims.events - count.distinct_events, 0)
        missed = max(count.distinct_events - claims.events - claims.late, 0) + items_missed
    verdict, sentence = _conclude(count, uncovered, twice, missed)
    return Ledger(
        verdict=verdict.value,
        sentence=sentence,
        events_acknowledged=count.acknowledged,
        events_lost=count.lost,
        lost_examples=count.lost_examples,
        events_in_log=distinct,
        copies_in_log=count.rows - distinct,
        events_folded=folded,
        events_late=None if claims is None else claims.late,
        events_counted_twice=twice,
        events_not_folded=missed,
    )


def _conclude(count: LogCount, uncovered: str | None, twice: int | None, missed: int | None) -> tuple[Verdict, str]:
    if twice:
        return Verdict.INVALID, f"{twice} events were counted more than once"
    if count.lost:
        return Verdict.INVALID, f"{count.lost} acknowledged events are not where they were acknowledged"
    if uncovered is None and (twice is None or missed is None):
        uncovered = "the region does not say what it has counted"
    if uncovered is not None:
        return Verdict.UNKNOWN, f"nothing is proven: {uncovered}"
    if missed:
        return Verdict.INVALID, f"{missed} events in the log were not counted"
    if count.acknowledged == 0:
        return Verdict.UNKNOWN, "nothing is proven: there is not one acknowledgement to hold against the log"
    return (
        Verdict.VALID,
        f"all {count.acknowledged:,} acknowledged events are in the log, and each counted once",
    )
