"""Tensors: the full ranker's shapes, features that mean the same everywhere, one code for training and serving."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from models.encode import (
    FEATURE,
    FEATURE_NAMES,
    QUERY_TOKENS,
    TOKEN_BUCKETS,
    Tensors,
    counters_score,
    encode,
    popularity_score,
    query_tokens,
)
from models.export import INPUTS
from models.records import SearchRecord
from models.retrieval import HISTORY_MAX, Retriever
from models.shop import ShopSettings, generate
from models.text import read_query
from models.walk import Walk, event_of, steps
from streams.asks import Ask
from streams.fold import Fold
from streams.frame import decode_frame, encode_frame, frame_headers
from streams.hashing import item_hash, query_hash
from streams.index import ReadIndex
from streams.kinds import Kind
from streams.state import State
from tests.support.plain_counters import PlainCounters
from tests.unit.models.test_retrieval import NOW, USER, ask, shop

DTYPES = {"INT32": np.int32, "INT64": np.int64, "FP32": np.float32}


def tensors_of(request: Ask, counters: PlainCounters, extra: int = 0) -> tuple[Tensors, list[str]]:
    """Tensors of a request to the test shop, and the candidates' ids in their order."""
    _, catalogue, retriever = shop(extra)
    view = counters.read(NOW)
    candidates = retriever.candidates(request, view)
    ids = [catalogue.item_at(int(row)).item for row in candidates.rows]
    return encode(request, candidates, view, catalogue), ids


def feature(tensors: Tensors, ids: list[str], item: str, name: str) -> float:
    """One feature of one candidate."""
    return float(tensors["candidate_feats"][0, ids.index(item), FEATURE[name]])


def clicked(*pairs: tuple[str, str, int]) -> PlainCounters:
    """Counters after (query, item, times) clicks of strangers."""
    counters = PlainCounters()
    for query, item, times in pairs:
        for n in range(times):
            counters.take(Kind.CLICK, NOW, 1000 + n, n + 1, query_hash(query), item_hash(item))
    return counters


@pytest.mark.parametrize(
    "request_",
    [ask("gears 3"), ask(""), ask(kind="similar", item="g1"), ask("x", candidates=[]), ask("x", candidates=["g1"])],
)
def test_shapes_and_types_are_what_the_model_declares(request_: Ask) -> None:
    """Every input is there with its type; one batch row, K candidates; all numbers finite."""
    tensors, ids = tensors_of(request_, clicked(("gears 3", "g3", 2)))
    assert tensors.keys() == INPUTS.keys()
    for name, (kind, shape) in INPUTS.items():
        expected = tuple(1 if n == 0 else len(ids) if isinstance(size, str) else size for n, size in enumerate(shape))
        assert tensors[name].shape == expected, name
        assert tensors[name].dtype == DTYPES[kind], name
    assert np.isfinite(tensors["candidate_feats"]).all()
    assert (tensors["candidate_items"] > 0).all()


def test_a_click_counts_for_the_very_next_ranking() -> None:
    """One click for the query moves its item ahead on the counters rung."""
    before, ids = tensors_of(ask("batman"), clicked(("batman", "b1", 1)))
    after, _ = tensors_of(ask("batman"), clicked(("batman", "b1", 1), ("batman", "b2", 3)))
    assert ids[int(np.argmax(counters_score(before)))] == "b1"
    assert ids[int(np.argmax(counters_score(after)))] == "b2"


def test_the_size_of_a_shop_does_not_show() -> None:
    """A hundred times the clicks in the same proportions: shares and logarithms stay about the same."""
    small, ids = tensors_of(ask("batman"), clicked(("batman", "b1", 30), ("batman", "b2", 10), ("gears", "g1", 20)))
    large, _ = tensors_of(ask("batman"), clicked(("batman", "b1", 300), ("batman", "b2", 100), ("gears", "g1", 200)))
    places = [ids.index(item) for item in ("b1", "b2")]
    for name in ("query_log_long", "query_share_long", "popularity_share_long", "popularity_log_long", "blend"):
        column = FEATURE[name]
        few, many = small["candidate_feats"][0, places, column], large["candidate_feats"][0, places, column]
        assert np.allclose(few, many, atol=0.12), name


def test_clicks_of_a_part_of_the_query_and_of_its_right_spelling_count() -> None:
    """A query that nobody clicked before borrows from what stands inside it, or from what it was meant to be."""
    longer, ids = tensors_of(ask("batman arkham city"), clicked(("arkham city", "b2", 5)))
    assert feature(longer, ids, "b2", "variant_share_long") > 0.9
    assert feature(longer, ids, "b2", "query_share_long") == 0
    mistyped, ids = tensors_of(ask("geers of war 3"), clicked(("gears of war 3", "g3", 5)))
    assert feature(mistyped, ids, "g3", "variant_share_long") > 0.9


def test_numbers_and_initials() -> None:
    """`gears 3` means part 3 and no other; `mw3` is Modern Warfare 3."""
    tensors, ids = tensors_of(ask("gears of war 3"), PlainCounters())
    equal = {item: feature(tensors, ids, item, "numbers_equal") for item in ("g1", "g2", "g3")}
    assert equal["g3"] > equal["g2"] == equal["g1"]
    assert feature(tensors, ids, "g2", "numbers_extra") == 1
    tensors, ids = tensors_of(ask("mw3"), PlainCounters())
    assert [item for item in ids if feature(tensors, ids, item, "initials")] == ["m3"]


def test_history_is_seen_and_fades() -> None:
    """What the user touched a minute ago weighs more than what they touched last week."""
    counters = PlainCounters()
    counters.take(Kind.CLICK, NOW - 7 * 86_400_000, USER, 1, 0, item_hash("g1"))
    counters.take(Kind.SEARCH, NOW - 90_000, USER, 2, query_hash("batman"))
    counters.take(Kind.CLICK, NOW - 60_000, USER, 2, query_hash("batman"), item_hash("b1"))
    tensors, ids = tensors_of(ask("batman"), counters)
    assert feature(tensors, ids, "b1", "touched") > 0.9
    assert 0.1 > feature(tensors, ids, "g1", "touched") > 0
    assert feature(tensors, ids, "b1", "touched_for_query") > 0.9
    assert feature(tensors, ids, "g1", "touched_for_query") == 0
    assert tensors["history_types"][0, :4].tolist() == [Kind.CLICK + 1, Kind.SEARCH + 1, Kind.CLICK + 1, 0]
    gaps = tensors["history_gap"][0, :4].tolist()
    assert gaps[0] < gaps[1] < gaps[2] and gaps[3] == 0
    assert np.count_nonzero(tensors["history_items"]) == 3 <= HISTORY_MAX


def test_query_tokens_are_padded_and_bounded() -> None:
    """24 places, 0 for padding, the same token for the same word in any query."""
    tokens = query_tokens(read_query("Halo Wars"))
    assert tokens.shape == (QUERY_TOKENS,) and tokens[-1] == 0
    assert (query_tokens(read_query("word " * 50)) > 0).all()
    assert (tokens < TOKEN_BUCKETS).all()
    assert query_tokens(read_query("wars halo"))[0] == tokens[1]


def test_rungs_say_nothing_when_the_counters_know_nothing() -> None:
    """All zero without a single click, so that the next rung is tried; popularity follows clicks."""
    tensors, _ = tensors_of(ask("gears"), PlainCounters())
    assert not counters_score(tensors).any()
    tensors, ids = tensors_of(ask("gears"), clicked(("x", "ho", 3), ("y", "ac", 1)))
    order = [ids[place] for place in np.argsort(-popularity_score(tensors), kind="stable")]
    assert order[:2] == ["ho", "ac"]
    assert counters_score(tensors).shape == popularity_score(tensors).shape == (len(ids),)
    empty, _ = tensors_of(ask("x", candidates=[]), PlainCounters())
    assert counters_score(empty).shape == popularity_score(empty).shape == (0,)


def test_training_and_serving_see_the_same_features() -> None:
    """Tensors of a log that is walked event by event equal those of a region that folded it in large frames.

    The walk is how training sees a log. The region builds its index and catalogue from the state, as after a start.
    """
    source = generate(ShopSettings(seed=9, items=90, searches=400, users=60, days=10))
    walk = Walk()
    told: list[object] = []
    checked = 0
    for step in steps(source):
        if isinstance(step, SearchRecord) and step.index % 80 == 79:
            trained = walk.ask(step)
            served = _served(trained.ask, [event_of(one) for one in told])  # type: ignore[arg-type]
            for name, array in trained.tensors.items():
                assert np.allclose(array, served[name], rtol=1e-5, atol=1e-6), name
            checked += 1
        told.append(step)
        walk.tell(step)
    assert checked == 5


def _served(request: Ask, rows: list[object]) -> Tensors:
    state = State()
    fold = Fold(state)
    for offset, first in enumerate(range(0, len(rows), 250)):
        frame = rows[first : first + 250]
        columns = decode_frame(encode_frame(frame), frame_headers(len(frame), "k"))  # type: ignore[arg-type]
        fold.apply(columns, "east-1.events", 0, offset, 0, 0)
    from models.catalogue import Catalogue

    catalogue = Catalogue(state.catalogue)
    view = ReadIndex(state).read(request.at_ms)
    return encode(request, Retriever(catalogue).candidates(request, view), view, catalogue)


def test_blend_is_a_share() -> None:
    """The blended estimate is a distribution over the candidates."""
    tensors, _ = tensors_of(ask("batman"), clicked(("batman", "b1", 7), ("gears", "g1", 3)))
    blend: npt.NDArray[np.float32] = tensors["candidate_feats"][0][:, FEATURE["blend"]]
    assert math.isclose(float(blend.sum()), 1.0, abs_tol=1e-5)
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES)) == tensors["candidate_feats"].shape[2]
