"""Train the small ranker: `python -m models.train --out models/repository/ranker --version 1 --seed 7`.

It learns from made-up shops only, many small ones that differ in everything a shop can differ in: what it learns is how
far to trust which signal, not any shop's items. Each shop's log is walked through the real fold, index, retrieval and
encoding, and each list is taken before its click is told. The last part of every shop's time is held out to stop early;
a shop of a seed that was never trained on gives the figures that are shipped with the version, beside the baselines.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.baselines import baselines
from models.encode import FEATURE, FEATURE_NAMES, counters_score
from models.export import INPUTS, PADDING_SCORE, Weights, graph_bytes, triton_config
from models.fit import Fitted, Float, Lists, fit
from models.quality import Quality
from models.records import OutcomeRecord, SearchRecord
from models.registry import GOLDEN_FILE, METRICS_FILE, MODEL_FILE, Golden, golden_bytes, top_places, write_version
from models.shop import ShopSettings, generate
from models.walk import Moment, Walk, steps
from streams.hashing import item_hash

LIST_LENGTH: Final = 48
HELD_OUT_SHARE: Final = 0.15
WARM_UP_SHARE: Final = 0.03
"""Of each shop's searches: nothing is known of anything yet."""
WITHOUT_QUERY_EVERY: Final = 6
"""Every so many searches of users with a history, the list is taken as for a home page."""
GOLDEN_ROWS: Final = 72
GOLDEN_CANDIDATES: Final = 40
EVENTS_DEFAULT: Final = 60_000
_SHOPS: Final = 12


def shop_family(seed: int, searches: int, shops: int = _SHOPS) -> list[ShopSettings]:
    """Shops that differ widely; together about `searches` searches."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return [
        ShopSettings(
            seed=int(rng.integers(1 << 31)),
            items=int(np.exp(rng.uniform(np.log(80), np.log(2500)))),
            searches=max(searches // shops, 50),
            users=max(searches // shops, 50),
            days=int(rng.integers(6, 60)),
            zipf_exponent=float(rng.uniform(0.7, 1.3)),
            launches_share=float(rng.uniform(0.1, 0.6)),
            focus=float(rng.uniform(0.45, 0.9)),
            stray_share=float(rng.uniform(0.0, 0.2)),
            typo_share=float(rng.uniform(0.03, 0.12)),
            follow_up_share=float(rng.uniform(0.05, 0.35)),
        )
        for _ in range(shops)
    ]


def moments(settings: ShopSettings) -> Iterator[Moment]:
    """Every search of a shop, as it would be asked; now and then also its user without the query."""
    walk = Walk()
    for step in steps(generate(settings)):
        if isinstance(step, SearchRecord):
            moment = walk.ask(step)
            yield moment
            if step.index % WITHOUT_QUERY_EVERY == 0 and len(moment.candidates.reading.anchors):
                yield walk.ask(step, "recommendations")
        walk.tell(step)


def one_list(moment: Moment, rng: np.random.Generator) -> Float | None:
    """Features (LIST_LENGTH, F): the clicked candidate first, then strong rivals and some others, NaN after the last.

    None when the clicked item is no candidate.
    """
    clicked = np.flatnonzero(moment.candidates.items == np.uint64(item_hash(moment.search.clicked)))
    if not len(clicked):
        return None
    features = moment.tensors["candidate_feats"][0]
    order = np.argsort(-counters_score(moment.tensors), kind="stable")
    order = order[order != clicked[0]]
    strong = LIST_LENGTH * 3 // 4
    rest = order[strong:]
    others = rng.choice(rest, min(len(rest), LIST_LENGTH - 1 - strong), replace=False)
    chosen = features[np.concatenate([clicked[:1], order[:strong], others])]
    padded = np.full((LIST_LENGTH, len(FEATURE_NAMES)), np.nan, np.float32)
    padded[: len(chosen)] = chosen
    return padded


def collect(family: Sequence[ShopSettings], seed: int) -> tuple[Lists, Lists]:
    """The lists to learn from and the held-out ones (the end of each shop's time)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    learn: list[Float] = []
    judge: list[Float] = []
    for number, settings in enumerate(family, start=1):
        _say(f"shop {number} of {len(family)}: {settings.items} items, {settings.searches} searches")
        for moment in moments(settings):
            place = moment.search.index / settings.searches
            if place < WARM_UP_SHARE:
                continue
            features = one_list(moment, rng)
            if features is not None:
                (judge if place >= 1 - HELD_OUT_SHARE else learn).append(features)
    return _lists(learn), _lists(judge)


def _lists(features: list[Float]) -> Lists:
    stacked = np.stack(features)
    known = ~np.isnan(stacked[:, :, 0])
    return Lists(np.nan_to_num(stacked), known)


def judge_on(settings: ShopSettings, weights: Weights) -> tuple[dict[str, dict[str, float]], Golden]:
    """Figures of the model, the counters rung and the baselines on one shop, and a golden set out of its moments."""
    rivals = baselines()
    tallies = {name: Quality() for name in ("model", "counters", *(rival.name for rival in rivals))}
    kept: list[Moment] = []
    every = max(settings.searches // GOLDEN_ROWS, 1)
    walk = Walk()
    for step in steps(generate(settings)):
        if isinstance(step, SearchRecord):
            moment = walk.ask(step)
            features = moment.tensors["candidate_feats"][0]
            tallies["model"].add_rank(rank_in(moment, weights.score(features)))
            tallies["counters"].add_rank(rank_in(moment, counters_score(moment.tensors)))
            for rival in rivals:
                tallies[rival.name].add(rival.rank(step.query), step.clicked)
            if step.index % every == every - 1 and len(kept) < GOLDEN_ROWS:
                kept.append(moment)
        elif isinstance(step, OutcomeRecord) and step.kind == "click":
            for rival in rivals:
                rival.update(step.search.query, step.search.clicked)
        walk.tell(step)
    figures = {name: msgspec.to_builtins(tally.figures()) for name, tally in tallies.items()}
    return figures, golden_set(kept, weights)


def rank_in(moment: Moment, scores: Float) -> int:
    """1-based rank of the clicked item among the candidates, ties in order of hash; 0 when it is none of them."""
    clicked = np.flatnonzero(moment.candidates.items == np.uint64(item_hash(moment.search.clicked)))
    if not len(clicked):
        return 0
    place = int(clicked[0])
    return 1 + int((scores > scores[place]).sum()) + int((scores[:place] == scores[place]).sum())


def golden_set(kept: Sequence[Moment], weights: Weights) -> Golden:
    """Real inputs with the scores they must give, the last rows with fewer candidates and padding after them."""
    inputs = {
        name: np.zeros(
            (len(kept), *(size if isinstance(size, int) else GOLDEN_CANDIDATES for size in shape[1:])),
            {"INT32": np.int32, "INT64": np.int64, "FP32": np.float32}[kind],
        )
        for name, (kind, shape) in INPUTS.items()
    }
    scores = np.full((len(kept), GOLDEN_CANDIDATES), PADDING_SCORE, np.float32)
    for row, moment in enumerate(kept):
        best = np.argsort(-counters_score(moment.tensors), kind="stable")
        count = min(len(best), GOLDEN_CANDIDATES - (row % 8) * (row >= len(kept) // 2))
        chosen = np.sort(best[:count])
        for name, array in inputs.items():
            if name.startswith("candidate_"):
                array[row, :count] = moment.tensors[name][0][chosen]
            else:
                array[row] = moment.tensors[name][0]
        scores[row, :count] = weights.score(moment.tensors["candidate_feats"][0][chosen])
    return Golden(inputs, scores, top_places(scores))


def train(out: Path, version: int, seed: int, searches: int = EVENTS_DEFAULT, iterations: int = 120) -> Path:
    """Train, judge and write a version; returns its folder. The same arguments give the same bytes."""
    family = shop_family(seed, searches)
    learn, judge = collect(family, seed)
    _say(f"fitting to {len(learn)} lists, {len(judge)} held out")
    prior = np.zeros(len(FEATURE_NAMES), np.float32)
    prior[FEATURE["blend_log"]] = 1.0  # the counters rung: what is learned is where to part from it
    fitted = fit(learn, judge, seed=seed, prior=prior, iterations=iterations, on_iteration=_progress)
    unseen = ShopSettings(seed=seed + 1_000_003, items=450, searches=max(searches // 8, 200), days=40)
    figures, golden = judge_on(unseen, fitted.weights)
    metrics = _metrics(seed, searches, learn, judge, fitted, figures)
    for name, figure in figures.items():
        _say(f"{name:12} MRR@5 {figure['mrr_at_5']:.4f}  NDCG@10 {figure['ndcg_at_10']:.4f}")
    files = {
        MODEL_FILE: graph_bytes(fitted.weights),
        GOLDEN_FILE: golden_bytes(golden),
        METRICS_FILE: msgspec.json.format(msgspec.json.encode(metrics), indent=1) + b"\n",
    }
    return write_version(out.parent, out.name, version, files, triton_config(out.name))


def _metrics(
    seed: int, searches: int, learn: Lists, judge: Lists, fitted: Fitted, figures: dict[str, dict[str, float]]
) -> dict[str, object]:
    return {
        "trained_on": "generated shops",
        "seed": seed,
        "searches": searches,
        "lists": len(learn),
        "lists_held_out": len(judge),
        "iterations": fitted.iterations,
        "loss": round(fitted.loss, 5),
        "loss_held_out": round(fitted.held_out_loss, 5),
        "unseen_shop": figures,
        "features": list(FEATURE_NAMES),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _progress(iteration: int, loss: float) -> None:
    if iteration % 20 == 0:
        _say(f"iteration {iteration}: held-out loss {loss:.4f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description="Train the small ranker.")
    parser.add_argument("--out", type=Path, default=Path("models/repository/ranker"), help="the model's folder")
    parser.add_argument("--version", type=int, default=1, help="number of the version to write; must be new")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--events", type=int, default=EVENTS_DEFAULT, help="searches to learn from, over all shops")
    given = parser.parse_args(arguments)
    print(train(given.out, given.version, given.seed, given.events))


if __name__ == "__main__":
    main()
