"""Training QHRank: it learns, the same every time, also when it was killed in between, and goes on from a version."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.cases import Cases
from models.errors import CheckpointUnfit, SourceUnreadable
from tests.support.small_cases import small_cases

pytest.importorskip("torch", reason="training needs torch: make train-env")

from models.qhrank.network import Sizes
from models.qhrank.training import Progress, Trained, TrainingSettings, fit, shortened_lists

SIZES = Sizes(dim=16, layers=1, heads=2, inner=24, item_buckets=101, hidden=8)
SETTINGS = TrainingSettings(
    sizes=SIZES, text_epochs=4, head_epochs=3, batch=32, list_length=12, text_rate=1e-2, head_rate=5e-3, threads=1
)


class Killed(Exception):
    """Stands for a process that ends here."""


@pytest.fixture(scope="module")
def train() -> Cases:
    """What is learned from."""
    return small_cases(500)


@pytest.fixture(scope="module")
def held_out() -> Cases:
    """What is chosen by."""
    return small_cases(120, seed=2, first=500)


@pytest.fixture(scope="module")
def trained(train: Cases, held_out: Cases) -> Trained:
    """One training, uninterrupted."""
    return fit(train, held_out, SETTINGS)


def same(one: Trained, other: Trained) -> bool:
    """Whether two trainings ended with the same bytes of weights."""
    return one.weights.keys() == other.weights.keys() and all(
        one.weights[name].tobytes() == other.weights[name].tobytes() for name in one.weights
    )


def test_it_learns_from_text_and_from_counters(trained: Trained) -> None:
    """Better than it started, which is the counters' order alone (0.62 here); and the text tower knows its part."""
    judged = trained.judged
    assert judged.with_counters.mrr_at_5 > 0.7
    assert judged.text_alone.mrr_at_5 > 0.6
    assert trained.text_epoch >= 2


def test_the_same_seed_gives_the_same_weights(train: Cases, held_out: Cases, trained: Trained) -> None:
    """Byte for byte; and another seed gives others."""
    assert same(fit(train, held_out, SETTINGS), trained)
    short = msgspec.structs.replace(SETTINGS, text_epochs=1, head_epochs=1)
    one, other = (fit(train, held_out, msgspec.structs.replace(short, seed=seed)) for seed in (1, 2))
    assert not same(one, other)


@pytest.mark.parametrize("killed_in", [3, 6, 9])
def test_a_killed_training_goes_on_where_it_stood(
    train: Cases, held_out: Cases, trained: Trained, tmp_path: Path, killed_in: int
) -> None:
    """In each of the stages: ended in the middle of an epoch, resumed, and no different from one that never was."""
    checkpoint = tmp_path / "run" / "checkpoint.pt"

    def kill(now: Progress) -> None:
        if (now.epoch, now.step) == (killed_in, 2):
            raise Killed

    with pytest.raises(Killed):
        fit(train, held_out, SETTINGS, resume=checkpoint, on_progress=kill)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]
    begun: list[int] = []
    resumed = fit(train, held_out, SETTINGS, resume=checkpoint, on_progress=lambda now: begun.append(now.epoch))
    assert begun[0] == killed_in
    assert same(resumed, trained)


def test_a_checkpoint_of_another_training_is_refused(train: Cases, held_out: Cases, tmp_path: Path) -> None:
    """Other settings, other data, half a file: said, and nothing is overwritten."""
    checkpoint = tmp_path / "checkpoint.pt"
    short = msgspec.structs.replace(SETTINGS, text_epochs=1, head_epochs=1)
    fit(train, held_out, short, resume=checkpoint)
    kept = checkpoint.read_bytes()
    with pytest.raises(CheckpointUnfit, match="other data or settings"):
        fit(train, held_out, msgspec.structs.replace(short, dropout=0.1), resume=checkpoint)
    with pytest.raises(CheckpointUnfit, match="other data or settings"):
        fit(train.take(slice(0, 400)), held_out, short, resume=checkpoint)
    for told_otherwise in ({"history_gap": train.history_gap + 1}, {"query": np.char.add(train.query, "x")}):
        with pytest.raises(CheckpointUnfit, match="other data or settings"):
            fit(dataclasses.replace(train, **told_otherwise), held_out, short, resume=checkpoint)
    assert checkpoint.read_bytes() == kept
    checkpoint.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(CheckpointUnfit, match="remove it"):
        fit(train, held_out, short, resume=checkpoint)


def test_fine_tuning_goes_on_from_a_version(train: Cases, held_out: Cases, trained: Trained) -> None:
    """One epoch from trained weights is better than one from nothing; weights of other sizes are refused."""
    short = msgspec.structs.replace(SETTINGS, text_epochs=1, head_epochs=1, text_rate=1e-3, head_rate=1e-3)
    tuned, anew = fit(train, held_out, short, base=trained.weights), fit(train, held_out, short)
    assert tuned.judged.merit > anew.judged.merit
    assert np.array_equal(tuned.weights["mean"], trained.weights["mean"])
    with pytest.raises(CheckpointUnfit, match="do not fit"):
        fit(train, held_out, msgspec.structs.replace(short, sizes=Sizes(dim=8)), base=trained.weights)


def test_training_ends_when_nothing_gets_better(train: Cases, held_out: Cases) -> None:
    """With a rate that wrecks the weights, the stages end early and what they started from is kept."""
    wild = msgspec.structs.replace(SETTINGS, text_rate=30.0, head_rate=30.0, text_epochs=9, head_epochs=9, patience=1)
    found = fit(train, held_out, wild)
    assert found.epochs < 9
    assert found.judged.with_counters.mrr_at_5 > 0.5


def test_a_log_without_clicks_is_refused(train: Cases, held_out: Cases) -> None:
    """Nothing to learn from, or nothing to choose by: said before anything is computed."""
    silent = train.take(train.clicked < 0)
    for learned, judged in ((silent, held_out), (train, silent)):
        with pytest.raises(SourceUnreadable, match="too few"):
            fit(learned, judged, SETTINGS)


def test_shortened_lists_keep_the_click_and_the_strongest(train: Cases) -> None:
    """No click is lost, and no candidate is there twice."""
    short = shortened_lists(train, 6, seed=1)
    assert short.width == 6
    assert (short.candidate_items[np.arange(len(short)), short.clicked] == train.clicked_item).all()
    for row in short.candidate_items[:50]:
        real = row[row != 0]
        assert len(np.unique(real)) == len(real)
