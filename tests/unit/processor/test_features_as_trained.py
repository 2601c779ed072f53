"""Training features are serving features: the tensors of every ask of a log, and those that training makes of it.

The log takes the real way, from the client's bytes over the gateway's rows and frames into the processor's fold and
featurizer, record by record; training makes its cases afterwards, of the events that were folded or of the shop's
own file. They must agree bit by bit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from models.cases import Cases, collect_cases
from models.catalogue import Catalogue
from models.data.log_cut import cut_source
from models.data.logged import LoggedSource
from models.encode import Tensors
from models.export import INPUTS
from models.records import Source
from models.shop import ShopSettings, generate
from services.client import Event, View
from services.processor.features import ModelFeaturizer
from streams.asks import decode_asks
from streams.digest import digest
from streams.fold import Fold
from streams.frame import HEADER_ASKS, EventRow, decode_frame, header
from streams.index import ReadIndex
from streams.kinds import Kind
from streams.logs import record_checksum
from streams.state import Parameters, State
from tests.support.published import Record, published

LOG = "east-1.events"
CANDIDATES = 30
SHOP = ShopSettings(seed=8, items=40, searches=90, users=2, days=1, follow_up_share=0.4)


class Processor:
    """The processor's fold, catalogue and featurizer, fed record by record."""

    def __init__(self) -> None:
        self.state = State(Parameters())
        index = ReadIndex(self.state)
        self._fold = Fold(self.state, index)
        self._catalogue = Catalogue(self.state.catalogue)
        self._featurizer = ModelFeaturizer(self._catalogue, index.read, CANDIDATES)
        self.rows: list[EventRow] = []
        self.answered: list[Tensors] = []

    def take(self, record: Record) -> None:
        """Fold a record, then prepare the answer to each ask in it."""
        columns = decode_frame(record.value, record.headers)
        offset = self.state.next_offset(LOG, record.partition)
        checksum = record_checksum(record.value)
        applied = self._fold.apply(columns, LOG, record.partition, offset, checksum, 0)
        self._catalogue.follow(applied.changed_items)
        self.rows += [columns.row(place) for place in range(columns.count)]
        raw = header(record.headers, HEADER_ASKS)
        for ask in decode_asks(raw) if raw else []:
            self.answered.append(self._featurizer.prepare(ask).tensors)


@dataclass(frozen=True, slots=True)
class Lived:
    """A shop, and what a region answered while it was published."""

    source: Source
    processor: Processor

    @property
    def cut(self) -> LoggedSource:
        """The training set of the same events, handed over in no particular order and twice."""
        rows = self.processor.rows
        return cut_source([*rows[::-1], *rows[::2]], self.processor.state)


def lived(*, views: bool) -> Lived:
    """Publish a shop of few users with long histories; with views, which no record of the shop speaks of."""
    source = generate(SHOP)
    between = [
        Event(
            body=View(user=search.user, item=source.items[search.index % 40].item, session=search.session or None),
            id=f"view-{search.index}",
            time_ms=search.time_ms + 1,
            source="/views",
        )
        for search in source.searches[:: 2 if views else 1000]
        if views
    ]
    processor = Processor()
    for record in published(source, between):
        processor.take(record)
    return Lived(source, processor)


@pytest.fixture(scope="module")
def plain() -> Lived:
    """As the shop's file has it."""
    return lived(views=False)


def difference(answered: list[Tensors], cases: Cases) -> str:
    """The first ask and tensor that differ by a bit; empty when none does."""
    if len(answered) != len(cases):
        return f"{len(answered)} asks, {len(cases)} cases"
    for number, tensors in enumerate(answered):
        found = cases.tensors(slice(number, number + 1))
        for name in INPUTS:
            served = tensors[name]
            padded = np.zeros_like(found[name])
            padded[:, : served.shape[1]] = served
            if served.dtype != found[name].dtype or padded.tobytes() != found[name].tobytes():
                return f"ask {number}: {name}"
    return ""


def test_features_of_the_shops_file_are_those_that_were_served(plain: Lived) -> None:
    """Users have other numbers there and events other identities; neither may show in a feature."""
    cases = collect_cases(plain.source, candidates=CANDIDATES)
    assert difference(plain.processor.answered, cases) == ""
    histories = (cases.history_types != 0).sum(axis=1)
    assert histories.max() == 20, "no history is long enough to be cut"


def test_features_of_the_events_are_those_that_were_served(plain: Lived) -> None:
    """Cut out of the log, in whatever order the events come and however often."""
    cut = plain.cut
    assert len(cut.rows) == len(plain.processor.rows)
    assert difference(plain.processor.answered, collect_cases(cut, candidates=CANDIDATES)) == ""
    assert cut.cut is not None
    assert cut.cut.digest == digest(plain.processor.state).hex()


def test_events_that_no_record_speaks_of_count_as_they_did() -> None:
    """Views are in the histories of the training set, as they were in those that were served."""
    seen = lived(views=True)
    cut = seen.cut
    assert Counter(row.kind for row in cut.rows)[Kind.VIEW] == SHOP.searches // 2
    assert difference(seen.processor.answered, collect_cases(cut, candidates=CANDIDATES)) == ""
    without = [row for row in cut.rows if row.kind is not Kind.VIEW]
    again = cut_source(without, seen.processor.state)
    assert difference(seen.processor.answered, collect_cases(again, candidates=CANDIDATES))


def test_a_search_and_its_click_are_joined(plain: Lived) -> None:
    """Records out of the log say what the shop's file says, but for names: users and sessions are keyed numbers."""
    cut = plain.cut
    asked = Counter((search.user, search.query) for search in plain.source.searches)
    once = [search for search in plain.source.searches if asked[search.user, search.query] == 1]
    assert len(once) > 20, "too few to say anything"
    for original in once:
        found = cut.searches[original.index]
        assert (found.time_ms, found.query, found.clicked) == (original.time_ms, original.query, original.clicked)
        assert original.user not in (found.user, found.session)
        if original.clicked:
            assert found.click_time_ms == max(original.click_time_ms, original.time_ms)
            assert found.outcome == original.outcome
    assert {(item.item, item.title) for item in cut.items} == {(i.item, i.title) for i in plain.source.items}
    assert cut.joined.clicks == sum(bool(search.clicked) for search in plain.source.searches)
    assert cut.joined.alone == 0


def test_a_difference_would_be_seen(plain: Lived) -> None:
    """One event less, or the click of one search on another item, is another set of features."""
    rows = plain.processor.rows
    clicks = [place for place, row in enumerate(rows) if row.kind is Kind.CLICK]
    state = plain.processor.state
    missing = cut_source(rows[: clicks[3]] + rows[clicks[3] + 1 :], state)
    assert difference(plain.processor.answered, collect_cases(missing, candidates=CANDIDATES))
    other = msgspec.structs.replace(rows[clicks[3]], item="item-of-nobody")
    moved = cut_source([*rows[: clicks[3]], other, *rows[clicks[3] + 1 :]], state)
    assert difference(plain.processor.answered, collect_cases(moved, candidates=CANDIDATES))
