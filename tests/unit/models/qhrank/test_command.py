"""From a log to a version: what it was trained on is in the manifest, and the same log gives the same version."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from models.errors import SourceUnreadable
from models.records import Source
from models.registry import MANIFEST_FILE, load_version, read_manifest
from models.shop import ShopSettings, generate
from tests.support.small_cases import small_cases

pytest.importorskip("torch", reason="training needs torch: make train-env")

from models.qhrank.command import Listener, TrainingRun, train
from models.qhrank.network import Sizes
from models.qhrank.training import TrainingSettings
from models.qhrank.tuning import Trial, search

SETTINGS = TrainingSettings(
    sizes=Sizes(dim=8, layers=1, heads=1, inner=8, item_buckets=101, hidden=8),
    text_epochs=1,
    head_epochs=1,
    batch=64,
    list_length=12,
    threads=1,
)


@pytest.fixture(scope="module")
def source() -> Source:
    """A small shop's log."""
    return generate(ShopSettings(seed=11, items=25, searches=400, users=60, days=5))


def test_a_version_says_what_it_was_trained_on(source: Source, tmp_path: Path) -> None:
    """Rows, times and their sum, seed and code; a second training is the same version; going on from it is another."""
    said: list[str] = []
    run = TrainingRun(repository=tmp_path / "one", version=2, end=330)
    folder = train(source, run, SETTINGS, Listener(said=said.append))
    manifest = read_manifest(folder)[0]
    assert manifest.trained_on == source.name
    assert manifest.frontier["rows"] == 330
    assert manifest.frontier["last_time_ms"] == source.searches[329].time_ms
    assert (manifest.seed, bool(manifest.code_version)) == (SETTINGS.seed, True)
    assert load_version(folder).metrics["settings"]["text_epochs"] == 1
    assert "the graph scores as the network does" in said[0]
    again = train(source, msgspec.structs.replace(run, repository=tmp_path / "two"), SETTINGS)
    assert (again / MANIFEST_FILE).read_bytes() == (folder / MANIFEST_FILE).read_bytes()
    tuned = train(source, msgspec.structs.replace(run, version=3, base=folder), SETTINGS)
    assert load_version(tuned).metrics["based_on"] == "2"


def test_too_short_a_log_is_refused_at_once(source: Source, tmp_path: Path) -> None:
    """Before anything is walked, and nothing is written."""
    with pytest.raises(SourceUnreadable, match="at least 300"):
        train(source, TrainingRun(repository=tmp_path, version=1, end=299), SETTINGS)
    assert not list(tmp_path.iterdir())


def test_a_search_takes_the_best_of_its_trials() -> None:
    """The first trial is the settings as they are; the answer is never worse; only what is searched changes."""
    trials: list[Trial] = []
    found = search(small_cases(200), small_cases(60, seed=2, first=200), SETTINGS, 3, on_trial=trials.append)
    assert [trial.number for trial in trials] == [1, 2, 3]
    assert trials[0].changed["dropout"] == SETTINGS.dropout
    best = max(trials, key=lambda trial: trial.merit)
    assert (found.dropout, found.text_rate) == (best.changed["dropout"], best.changed["text_rate"])
    assert (found.sizes, found.seed, found.up_to_end) == (SETTINGS.sizes, SETTINGS.seed, True)
