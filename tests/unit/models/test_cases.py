"""Cases: what is kept of a log is what a model would have been sent, before the click was told."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from models.cases import Cases, collect_cases
from models.errors import SourceUnreadable
from models.export import INPUTS
from models.records import SearchRecord, Source
from models.shop import ShopSettings, generate
from models.walk import Walk, steps
from tests.support.small_cases import small_cases

SHOP = ShopSettings(seed=5, items=30, searches=120, users=25, days=4)


@pytest.fixture(scope="module")
def source() -> Source:
    """A small shop's log."""
    return generate(SHOP)


@pytest.fixture(scope="module")
def cases(source: Source) -> Cases:
    """Its searches from the 40th on."""
    return collect_cases(source, first=40, candidates=24)


def test_each_case_is_what_a_worker_would_have_been_sent(source: Source, cases: Cases) -> None:
    """The tensors of a walk that is asked at the same moment, and the click's place among its candidates."""
    walk, seen = Walk(), 0
    for step in steps(source):
        if isinstance(step, SearchRecord) and step.index >= 40:
            moment = walk.ask(step, limit=24)
            found = cases.tensors(slice(seen, seen + 1))
            for name in INPUTS:
                wanted = moment.tensors[name]
                assert np.array_equal(found[name][:, : wanted.shape[1]], wanted)
                assert not found[name][:, wanted.shape[1] :].any()
            place = int(cases.clicked[seen])
            if place >= 0:
                assert cases.candidate_items[seen, place] == cases.clicked_item[seen]
            assert (cases.index[seen], cases.time_ms[seen], cases.query[seen]) == (
                step.index,
                step.time_ms,
                step.query,
            )
            seen += 1
        walk.tell(step)
    assert seen == len(cases) == SHOP.searches - 40


def test_visits_without_a_query_are_collected_beside(source: Source) -> None:
    """Every so many searches of a user who touched something, also as for a home page."""
    both = collect_cases(source, end=80, candidates=24, without_query_every=2)
    visits = both.take(both.query == "")
    assert 0 < len(visits) < 40
    assert (visits.index % 2 == 0).all()
    assert not visits.query_tokens.any()
    assert visits.history_types[:, 0].all()


def test_cases_come_back_from_disk_as_they_were(tmp_path: Path, cases: Cases) -> None:
    """Every column, and no half of a file beside it."""
    path = tmp_path / "deep" / "cases.npz"
    cases.save(path)
    back = Cases.load(path)
    for field in fields(Cases):
        assert np.array_equal(getattr(back, field.name), getattr(cases, field.name))
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_holds_no_cases_is_named(tmp_path: Path) -> None:
    """What is wrong, where, and what to do."""
    path = tmp_path / "cases.npz"
    path.write_bytes(b"PK\x03\x04 half of one")
    with pytest.raises(SourceUnreadable, match="remove it, it is made again"):
        Cases.load(path)


def test_chosen_candidates_take_the_click_along() -> None:
    """The place of the click is that in the new order; left out, it is none."""
    cases = small_cases(50)
    places = np.stack([np.argsort(-cases.candidate_items[row], kind="stable")[:6] for row in range(50)])
    places[0, 0] = -1
    few = cases.with_candidates(places)
    assert few.width == 6
    assert few.candidate_items[0, 0] == 0
    assert not few.candidate_feats[0, 0].any()
    kept = few.clicked >= 0
    assert 0 < kept.sum() < 50
    rows = np.flatnonzero(kept)
    assert (few.candidate_items[rows, few.clicked[rows]] == cases.clicked_item[rows]).all()
    gone = np.flatnonzero(~kept)
    assert not (few.candidate_items[gone] == cases.clicked_item[gone, None]).any()


def test_parts_of_different_widths_are_joined() -> None:
    """Narrower ones are padded, and nothing else changes."""
    one, other = small_cases(7, width=8), small_cases(5, width=12, seed=2, first=7)
    both = Cases.concatenate([one, other])
    assert (len(both), both.width) == (12, 12)
    assert not both.candidate_items[:7, 8:].any()
    assert np.array_equal(both.between(7, 12).candidate_feats, other.candidate_feats)
