"""Similar items: pairs are asked before they are known, vectors and co-clicks help each other, the version serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.encode import FEATURE
from models.errors import ExportWrong, SourceUnreadable, VersionDamaged
from models.export import PADDING_SCORE
from models.registry import load_version
from models.similar.blend import Blend, blended, cosines, counters_alone, graph_bytes, item_vectors
from models.similar.making import check_graph, chosen, judged, make
from models.similar.pairs import Pairs, collect_pairs, hits, reciprocal_ranks
from services.inference.engine_options import Device, EngineOptions
from services.inference.loading import load
from services.inference.signature import Buckets
from streams.kinds import Kind
from tests.support.paired_shop import COUPLES, base_version, couple_vectors, paired_shop

SHOP = paired_shop()
ROWS = len(SHOP.searches)
END = ROWS * 3 // 4
BLEND = Blend(embedding=8.0, title=2.0, worth=2.0)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Of the whole shop."""
    return collect_pairs(SHOP)


def co_clicks_of_right(pairs: Pairs) -> np.ndarray:
    """The feature of the item that was clicked next, (n,)."""
    found: np.ndarray = pairs.tensors["candidate_feats"][np.arange(len(pairs)), pairs.clicked, FEATURE["co_clicks"]]
    return found


def test_a_pair_is_asked_before_its_click_is_told(pairs: Pairs) -> None:
    """The first time that two items meet, nothing is known of it; later all earlier meetings are, and no more."""
    assert len(pairs) == sum(
        one.clicked != two.clicked for one, two in zip(SHOP.searches[::2], SHOP.searches[1::2], strict=True)
    )
    met: dict[tuple[int, int], int] = {}
    for row, known in enumerate(np.expm1(co_clicks_of_right(pairs)).tolist()):
        right = int(pairs.tensors["candidate_items"][row, pairs.clicked[row]])
        both = (
            min(right, int(pairs.tensors["history_items"][row, 0])),
            max(right, int(pairs.tensors["history_items"][row, 0])),
        )
        assert known == pytest.approx(met.get(both, 0), rel=0.35)
        met[both] = met.get(both, 0) + 1


def test_the_item_asked_about_is_the_newest_of_the_history(pairs: Pairs) -> None:
    """It is looked at now; the search and the click on it before that, which the user's history has, come after."""
    assert (pairs.tensors["history_types"][:, 0] == Kind.VIEW + 1).all()
    assert (pairs.tensors["history_gap"][:, 0] == 1).all()
    assert (pairs.tensors["history_items"][:, 0] == pairs.tensors["history_items"][:, 2]).all()
    assert (pairs.tensors["candidate_items"] != pairs.tensors["history_items"][:, :1]).all()


def test_vectors_know_what_was_never_clicked_together_and_co_clicks_what_vectors_do_not(pairs: Pairs) -> None:
    """Vectors of half of the couples: the blend is better than either alone, and knows unknown couples by clicks."""
    vectors = item_vectors(couple_vectors(COUPLES // 2))
    early, late = pairs.between(0, ROWS // 6), pairs.between(ROWS // 6, ROWS)
    for part in (early, late):
        found = judged(part, {"all": BLEND}, vectors)["rankers"]
        assert found["all"]["mrr_at_10"] >= found["co_clicks"]["mrr_at_10"] + (0.02 if part is early else 0)
        assert found["all"]["mrr_at_10"] > found["embeddings"]["mrr_at_10"] + 0.1
        assert found["embeddings"]["mrr_at_10"] > found["popularity"]["mrr_at_10"] + 0.1
    best = chosen(early, vectors)
    assert best.embedding > 0
    without = item_vectors(couple_vectors(0))
    assert not cosines(without, late.tensors).any()


def test_vectors_that_say_nothing_are_not_believed(pairs: Pairs) -> None:
    """Couples that were shuffled: the choice leans on co-clicks alone."""
    table = item_vectors(couple_vectors())
    shuffled = table[np.random.Generator(np.random.PCG64(1)).permutation(len(table))]
    used = np.flatnonzero(table.any(axis=1))
    shuffled[:] = 0
    shuffled[used] = table[np.roll(used, 7)]
    assert chosen(pairs, shuffled).embedding == 0


def test_the_version_passes_what_the_worker_asks(tmp_path: Path) -> None:
    """Made from a base, loaded as the worker loads it: sums, golden set, every batch shape."""
    base = base_version(tmp_path, SHOP, END, couple_vectors())
    made = make(SHOP, base, tmp_path, 1)
    assert made.folder == tmp_path / "similar" / "1"
    version = load_version(made.folder)
    assert version.label == "similar/1" and version.manifest.frontier["rows"] == END
    assert made.figures["judged_on"]["pairs"] > 50
    proven = load(made.folder, EngineOptions(Device.CPU), Buckets((1, 8), (64, 256)), lambda: 0.0)
    assert proven.golden_rows == len(version.golden.scores) > 20
    again = make(SHOP, base, tmp_path, 1)
    assert load_version(again.folder).sha256 == version.sha256, "the same log and base, the same bytes"


def test_a_graph_that_is_not_the_formula_is_refused(pairs: Pairs) -> None:
    """The vectors of one item changed between the two."""
    vectors = item_vectors(couple_vectors())
    assert check_graph(graph_bytes(BLEND, vectors), BLEND, vectors, pairs) <= 1e-4
    with pytest.raises(ExportWrong, match="differs by"):
        check_graph(graph_bytes(BLEND, vectors[:, ::-1].copy() * 0.9), BLEND, vectors, pairs)


def test_padding_scores_below_everything(pairs: Pairs) -> None:
    """Wherever it stands, and it takes no share."""
    vectors = item_vectors(couple_vectors())
    scores = blended(BLEND, cosines(vectors, pairs.tensors), pairs.tensors)
    there = pairs.tensors["candidate_items"] != 0
    assert (scores[~there] == np.float32(PADDING_SCORE)).all()
    np.testing.assert_allclose(np.where(there, np.exp(scores), 0).sum(axis=1), 1.0, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "weights", "says"),
    [
        (END, None, "holds no weights.npz"),
        (ROWS + 1, couple_vectors(), "was trained up to row"),
        (40, couple_vectors(), "at least 50 are needed"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(tmp_path: Path, rows: int, weights: bytes | None, says: str) -> None:
    """With the cause, and nothing is written."""
    base = base_version(tmp_path, SHOP, rows, weights)
    with pytest.raises(SourceUnreadable, match=says):
        make(SHOP, base, tmp_path, 1)
    assert not (tmp_path / "similar").exists()


def test_weights_without_item_vectors_are_refused() -> None:
    """Another file, or a table with a number that is none."""
    with pytest.raises(VersionDamaged, match="no item vectors"):
        item_vectors(b"PK, or so it says")
    spoiled = couple_vectors().replace(b"text.items.weight", b"text.other.weight")
    with pytest.raises(VersionDamaged, match="no item vectors"):
        item_vectors(spoiled)


def test_places_are_expected_over_ties(pairs: Pairs) -> None:
    """All candidates alike: the mean over all orders; one above them all: first."""
    one = pairs.between(0, 2)
    alike = np.zeros(one.tensors["candidate_items"].shape, np.float32)
    count = int((one.tensors["candidate_items"] != 0).sum())
    assert hits(alike, one)[0] == pytest.approx(10 / count)
    assert reciprocal_ranks(alike, one)[0] == pytest.approx(sum(1 / r for r in range(1, 11)) / count)
    alike[0, one.clicked[0]] = 1.0
    assert reciprocal_ranks(alike, one)[0] == hits(alike, one)[0] == 1.0


def test_the_counters_rung_puts_co_clicks_first(pairs: Pairs) -> None:
    """And says nothing where nothing is known."""
    last = {name: array[-1:] for name, array in pairs.tensors.items()}
    best = int(np.argmax(counters_alone(last)))
    assert (
        last["candidate_feats"][0, best, FEATURE["co_clicks"]]
        == last["candidate_feats"][0, :, FEATURE["co_clicks"]].max()
    )
    last["candidate_feats"] = np.zeros_like(last["candidate_feats"])
    assert not counters_alone(last).any()
