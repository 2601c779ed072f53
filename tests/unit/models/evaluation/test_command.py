"""The whole evaluation of a made-up shop: what is printed, what is refused, what the report shows."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from models.errors import EvaluationImpossible
from models.evaluation.command import EvaluationOptions, evaluate, split_at, unused
from models.evaluation.metrics import HEADLINE
from models.evaluation.page import page
from models.evaluation.results import Results, head_items, slices_of, week_of
from models.evaluation.table import sentence
from models.evaluation.trained import needed
from models.evaluation.trial import Trial
from models.records import Source
from models.shop import ShopSettings, generate
from models.sources import open_source
from models.typos import mistyped, with_one_typo
from models.walk import Walk
from services.models.cli_evaluate import evaluate as command

SHOP = ShopSettings(seed=3, items=60, searches=200, users=50, days=20, follow_up_share=0.4)
NAMES = [
    *("popularity", "popularity+stream", "query_table", "query_table+stream", "bm25"),
    *("item_knn", "item_knn+stream", "vsknn", "vsknn+stream"),
    *("counters", "counters+stream", "small", "small+stream"),
]


@pytest.fixture(scope="module")
def shop() -> Source:
    """A made-up shop."""
    return generate(SHOP)


@pytest.fixture(scope="module")
def results(shop: Source) -> Results:
    """Its evaluation, from half of its time on."""
    return evaluate(shop, EvaluationOptions(train=False, split=0.5))


def run(*words: str) -> tuple[int, str, str]:
    """The command: exit code, standard output, standard error."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    found = CliRunner().invoke(app, words)
    return found.exit_code, found.stdout, found.stderr


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    """One object with the agreed keys on standard output, progress on standard error, and the two files."""
    report, details = tmp_path / "new" / "report.html", tmp_path / "details.json"
    words = ["--data", "shop:3", "--searches", "220", "--no-train", "--no-typos", "--json"]
    code, out, err = run(*words, "--report", str(report), "--details", str(details))
    found = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert "Ranking the test part: 100 %" in err
    assert list(found) == ["rows", "models"]
    assert found["rows"] == 220
    assert list(found["models"]) == NAMES
    for figures in found["models"].values():
        assert tuple(figures) == HEADLINE
        assert all(0 <= value <= 1 for value in figures.values())
    assert report.read_text().startswith("<!doctype html>")
    assert msgspec.json.decode(details.read_bytes(), type=Results).headline() == found


def test_the_table_names_everybody_and_fits_a_screen() -> None:
    """Without --json: the sentence, a line for each ranker, the slices and the leads."""
    code, out, _ = run("--data", "shop:3", "--searches", "220", "--no-train")
    assert code == 0
    assert all(re.search(rf"^ +{re.escape(name)} +0\.", out, re.MULTILINE) for name in NAMES)
    assert "query: new" in out
    assert "small+stream - counters+stream:" in out
    assert max(map(len, out.splitlines())) <= 140


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--data", "/nowhere"], "/nowhere does not exist"),
        (["--data", "shop:3", "--searches", "100"], "at least 20 are needed"),
        (["--data", "shop:3", "--split", "1"], "leaves nothing to judge"),
        (["--data", "shop:x"], "whole number"),
        (["--data", "shop", "--report", "/proc/none/report.html"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(words: list[str], reason: str) -> None:
    """Exit code 64, the cause and what to do on standard error, nothing on standard output."""
    code, out, err = run(*words, "--no-train", "--json")
    assert (code, out) == (64, "")
    assert reason in err


def test_a_damaged_version_is_refused(tmp_path: Path) -> None:
    """A folder that is no version: exit code 68."""
    code, out, err = run("--data", "shop:3", "--no-train", "--json", "--model", str(tmp_path))
    assert (code, out) == (68, "")
    assert "manifest" in err


def test_real_searches_are_ranked_better_than_by_baselines() -> None:
    """Searches of a real log: the shipped model leads the fed table, V-SKNN, BM25 and popularity beyond doubt."""
    log = Path(__file__).parents[5] / "shared/data/bestbuy"
    if not log.is_dir():
        pytest.skip("the real log is not on this machine (it may not be redistributed)")
    source = open_source(log)
    source = msgspec.structs.replace(source, searches=source.searches[:1600])
    found = evaluate(source, EvaluationOptions(train=False, split=0.75, typos=False))
    best = found.named("small+stream").figures["mrr_at_5"]
    for rival in ("query_table+stream", "popularity+stream", "vsknn+stream", "bm25"):
        assert best.low > found.named(rival).figures["mrr_at_5"].mean, rival
    assert found.outside > 0


def test_what_training_needs_is_named() -> None:
    """A missing library, and too few rows to learn from."""
    with pytest.raises(EvaluationImpossible, match="make train-env"):
        needed(1000, library="no_such_library")
    with pytest.raises(EvaluationImpossible, match="--no-train"):
        needed(10, library="json")


def test_qhrank_is_trained_for_the_evaluation(shop: Source) -> None:
    """It scores every candidate of an ask, and the note says which rows it saw."""
    pytest.importorskip("torch", reason="torch is not installed: make train-env adds it")
    from models.evaluation.trained import train_before
    from models.qhrank.training import TrainingSettings

    walk = Walk()
    for entry in shop.items[:30]:
        walk.tell(entry)
    tensors = walk.ask(shop.searches[0]).tensors
    settings = TrainingSettings(text_epochs=1, head_epochs=1, up_to_end=False, list_length=16, batch=32)
    trained = train_before(shop, 45, 7, lambda _: lambda *_: None, settings)
    assert "rows 1 to 45, the last 5 held out" in trained.notes[0]
    scores = trained.scorers["qhrank"](tensors)
    assert scores.shape == tensors["candidate_items"].shape[1:]
    assert np.isfinite(scores).all()


def test_the_split_is_the_first_nine_tenths(shop: Source) -> None:
    """Rows, not time; rounded down, so that the test part is never smaller than a tenth."""
    assert split_at(shop, 0.9) == 180
    assert split_at(msgspec.structs.replace(shop, searches=shop.searches[:199]), 0.9) == 179
    assert split_at(shop, 0.0) == 0


def test_rows_without_a_click_are_read_and_not_judged(shop: Source) -> None:
    """They count as rows, and nobody can be right or wrong about them."""
    searches = [msgspec.structs.replace(s, clicked="") if s.index % 4 == 0 else s for s in shop.searches]
    found = evaluate(
        msgspec.structs.replace(shop, searches=searches), EvaluationOptions(train=False, split=0.5, typos=False)
    )
    assert (found.rows, found.learned_from, found.searches) == (200, 100, 75)


def test_the_same_seed_gives_the_same_results(shop: Source, results: Results) -> None:
    """Typos and intervals included; another seed gives the same means with other intervals."""
    assert evaluate(shop, EvaluationOptions(train=False, split=0.5)) == results
    other = evaluate(shop, EvaluationOptions(train=False, split=0.5, seed=8, typos=False))
    assert other.headline() == results.headline()
    assert other.named("bm25").figures != results.named("bm25").figures


def test_slices_of_a_group_share_no_search(shop: Source) -> None:
    """Query, user and week cover everything; clicked items too, as all of this shop's are in its catalogue."""
    from models.evaluation.entrants import baselines

    judged = Trial(shop, 100, lambda shelf: baselines(shelf)[:1], with_typos=False).run()
    for group in ("clicked item", "query", "user", "week from"):
        members = [rows for name, _, rows in slices_of(judged) if name == group]
        assert np.array_equal(np.sum(members, axis=0), np.ones(100)), group
        assert len(members) > 1


def test_slices_weigh_up_to_the_whole(results: Results) -> None:
    """The mean over a group's slices, by searches, is the whole's."""
    for group in ("query", "user", "week from"):
        members = [one for one in results.slices if one.group == group]
        total = sum(one.searches * one.figures["bm25"]["mrr_at_5"].mean for one in members)
        assert total / results.searches == pytest.approx(results.named("bm25").figures["mrr_at_5"].mean)


def test_head_items_have_half_of_the_clicks() -> None:
    """The fewest that reach half; nothing clicked, no head."""
    assert head_items(np.array([1, 5, 0, 3, 1])).tolist() == [False, True, False, False, False]
    assert head_items(np.array([1, 4, 0, 3, 2])).tolist() == [False, True, False, True, False]
    assert not head_items(np.zeros(3, np.int64)).any()


def test_weeks_begin_on_monday() -> None:
    """2011-10-24 was a Monday; the Sunday before belongs to the week before."""
    monday = 1_319_414_400_000
    assert (week_of(monday), week_of(monday - 1)) == ("2011-10-24", "2011-10-17")


def test_typos_hurt_the_table_and_change_one_letter(results: Results) -> None:
    """A typo is there in nearly every query of four letters or more, and the exact-query table suffers."""
    assert results.typos > results.searches * 0.8
    table = results.named("query_table")
    assert table.with_typos["mrr_at_5"].mean < table.figures["mrr_at_5"].mean - 0.1
    popular = results.named("popularity")
    assert popular.with_typos["mrr_at_5"] == popular.figures["mrr_at_5"]


def test_a_typo_shows_and_is_the_same_every_time() -> None:
    """Every number gives a changed query, one letter longer or shorter at most; short ones stay."""
    for number in range(200):
        query = with_one_typo("blue shoes", 1, number)
        assert query != "blue shoes"
        assert query == with_one_typo("blue shoes", 1, number)
        assert abs(len(query) - 10) <= 1
    assert with_one_typo("abc", 1, 1) == mistyped("abc", np.random.default_rng(1)) == "abc"


class Links(HTMLParser):
    """Notes what a page would load, and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for key, value in attrs if key in ("src", "href")]


def test_the_report_stands_alone_and_escapes_names(results: Results) -> None:
    """Nothing is loaded from anywhere, and a source's name is text."""
    text = page(msgspec.structs.replace(results, source="<script>alert(1)</script>"))
    read = Links()
    read.feed(text)
    assert read.loads == []
    assert "script" not in read.tags
    assert "&lt;script&gt;" in text
    assert "@import" not in text
    assert "url(" not in text
    assert read.tags.count("svg") > 10
    assert read.tags.count("table") == 5
    for result in results.results:
        assert f"{result.figures['mrr_at_5'].mean:.4f}" in text


def test_the_report_can_do_without_models_and_typos(shop: Source, results: Results) -> None:
    """Fewer sections, and no error."""
    plain = [msgspec.structs.replace(result, with_typos={}) for result in results.results if not result.is_model]
    text = page(msgspec.structs.replace(results, results=plain, leads=[]))
    assert "No model took part" in text
    assert "One typo" not in text
    assert shop.name in sentence(results)


def test_versions_of_the_same_name_are_told_apart() -> None:
    """The second folder called ranker/1 is ranker/1-2."""
    assert [unused("a", taken) for taken in ({}, {"a": 0}, {"a": 0, "a-2": 0})] == ["a", "a-2", "a-3"]
