"""Events of a shop as they come from a file or from the generator, before anybody has published them.

One search and what came of it stand in one record, because that is how logs are kept and what quality is measured
on. `timeline` takes them apart again in the order of time: a click is known only when it has happened, also when
another search came in between. Ranking a search first and telling its click at once would let the next search
(often the same user's, in the same second) know a click that was made after it.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

OutcomeKind = Literal["click", "cart", "purchase"]
OUTCOME_STEPS: Final[dict[OutcomeKind, tuple[OutcomeKind, ...]]] = {
    "click": ("click",),
    "cart": ("click", "cart"),
    "purchase": ("click", "cart", "purchase"),
}
STEP_GAP_MS: Final = 45_000
"""Time between a click, its cart and its purchase where a source knows only that they followed."""


class ItemRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the catalogue as it stands from `time_ms` on."""

    time_ms: int
    item: str
    title: str = ""
    category: str = ""
    price: float | None = None
    attributes: dict[str, str] = {}
    stock: int | None = None


class SearchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A search and the item that was clicked for it; `clicked` is empty when there was no click."""

    index: int
    """Place in its source, from 0; makes ids of events that are the same whenever the source is replayed."""
    time_ms: int
    user: str
    query: str
    session: str = ""
    clicked: str = ""
    click_time_ms: int = 0
    position: int = 0
    """1-based place at which the shop showed the clicked item; 0 when unknown."""
    outcome: OutcomeKind = "click"
    """The last step that the user took with the clicked item."""


class OutcomeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One step that followed a search: its click, or the cart and purchase after it."""

    search: SearchRecord
    kind: OutcomeKind
    time_ms: int


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A shop's log: its catalogue and its searches, both in order of time."""

    name: str
    items: list[ItemRecord]
    searches: list[SearchRecord]


def outcomes_of(search: SearchRecord) -> list[OutcomeRecord]:
    """The steps that followed a search, in order; none when there was no click."""
    if not search.clicked:
        return []
    clicked_ms = max(search.click_time_ms, search.time_ms)
    return [
        OutcomeRecord(search=search, kind=kind, time_ms=clicked_ms + place * STEP_GAP_MS)
        for place, kind in enumerate(OUTCOME_STEPS[search.outcome])
    ]


def timeline(
    searches: Iterable[SearchRecord], items: Iterable[ItemRecord] = ()
) -> Iterator[ItemRecord | SearchRecord | OutcomeRecord]:
    """Everything in the order in which it happened: each search before its own click, a click when it was made.

    Both arguments must be in order of time. At the same millisecond items come before outcomes, and outcomes before
    searches, except that an outcome never comes before its own search.
    """
    pending: list[tuple[int, int, int, OutcomeRecord]] = []
    catalogue = iter(items)
    entry = next(catalogue, None)

    def due(until_ms: int) -> Iterator[ItemRecord | OutcomeRecord]:
        nonlocal entry
        while True:
            outcome_ms = pending[0][0] if pending else until_ms + 1
            if entry is not None and entry.time_ms <= min(until_ms, outcome_ms):
                yield entry
                entry = next(catalogue, None)
            elif outcome_ms <= until_ms:
                yield heapq.heappop(pending)[-1]
            else:
                return

    last_ms = 0
    for search in searches:
        yield from due(search.time_ms)
        yield search
        for place, outcome in enumerate(outcomes_of(search)):
            heapq.heappush(pending, (outcome.time_ms, search.index, place, outcome))
            last_ms = max(last_ms, outcome.time_ms)
    yield from due(last_ms)
    if entry is not None:
        yield entry
        yield from catalogue
