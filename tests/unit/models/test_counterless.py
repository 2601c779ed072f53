"""Features without counters are those that the encoding gives when nothing was counted."""

from __future__ import annotations

import numpy as np
import pytest

from models.counterless import COUNTERS, without_counters
from models.encode import FEATURE, FEATURE_NAMES, encode
from models.records import SearchRecord
from models.shop import ShopSettings, generate
from models.walk import Walk, steps
from streams.index import ReadIndex
from streams.state import Parameters, State


@pytest.mark.parametrize("kind", ["search", "recommendations"])
def test_they_are_those_of_empty_counters(kind: str) -> None:
    """The same candidates encoded with the counters of an empty state, for searches and for visits."""
    empty = ReadIndex(State(Parameters()))
    walk, compared, differed = Walk(), 0, set()
    for step in steps(generate(ShopSettings(seed=9, items=30, searches=150, users=20, days=4))):
        if isinstance(step, SearchRecord) and step.index >= 100:
            moment = walk.ask(step, kind, 24)  # type: ignore[arg-type]
            if not len(moment.candidates):
                continue
            features, items = moment.tensors["candidate_feats"], moment.tensors["candidate_items"]
            bare = encode(moment.ask, moment.candidates, empty.read(moment.ask.at_ms), walk.catalogue)
            found = without_counters(features, items, np.array([moment.ask.query != ""]))
            np.testing.assert_allclose(found, bare["candidate_feats"], atol=2e-6)
            differed |= {FEATURE_NAMES[place] for place in np.flatnonzero((found != features).any(axis=(0, 1)))}
            compared += 1
        walk.tell(step)
    assert compared > 20
    assert {"popularity_share_long", "blend", "blend_log"} <= differed <= {*COUNTERS, "blend", "blend_log"}


def test_padding_stays_nothing() -> None:
    """Places without an item are zeros before and after, and have no share of the blend."""
    features = np.zeros((1, 3, len(FEATURE_NAMES)), np.float32)
    found = without_counters(features, np.array([[5, 6, 0]]), np.array([True]))
    assert not found[0, 2].any()
    assert found[0, :2, FEATURE["blend"]].tolist() == [0.5, 0.5]
