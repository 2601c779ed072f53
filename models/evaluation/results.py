"""The outcome of an evaluation as values: figures with intervals, by slice, under typos, and who leads whom."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.evaluation.entrants import COUNTERS, Entrant
from models.evaluation.intervals import Bootstrap, Estimate
from models.evaluation.metrics import HEADLINE, METRICS, Mask, Places, Values, recall_at
from models.evaluation.trial import Judged, users_of
from models.records import Source

HEAD_SHARE: Final = 0.5
"""Head items are the most clicked ones that together have this share of the clicks before the split."""
RECALL_DEPTHS: Final = (1, 2, 3, 5, 7, 10, 15, 20)
LEAD_METRIC: Final = "mrr_at_5"
COMPARED_MAX: Final = 6
"""Rankers that can be told apart in one plot."""

Figures = dict[str, Estimate]
"""Metric -> mean with its interval."""


class Slice(msgspec.Struct, frozen=True):
    """Some of the searches, and the figures of everybody on them."""

    group: str
    name: str
    searches: int
    figures: dict[str, Figures]
    """Entrant -> figures of the headline metrics."""


class Result(msgspec.Struct, frozen=True):
    """One entrant on the whole test part."""

    name: str
    fed: bool
    is_model: bool
    figures: Figures
    with_typos: Figures
    """The same searches with one typo each; empty when that was left out."""
    recall: dict[int, float]
    """Depth -> recall at it."""


class Lead(msgspec.Struct, frozen=True):
    """By how much one entrant's MRR@5 is above another's on the same searches."""

    name: str
    over: str
    difference: Estimate


class Results(msgspec.Struct, frozen=True):
    """A whole evaluation."""

    source: str
    rows: int
    """All rows that were read."""
    learned_from: int
    """Rows before the split."""
    searches: int
    """Rows after it that ended in a click: what everybody is judged on."""
    items: int
    outside: int
    """Clicked items that were not in the catalogue; nobody can find them."""
    typos: int
    """Queries that a typo changed."""
    split_ms: int
    end_ms: int
    seed: int
    notes: list[str]
    results: list[Result]
    slices: list[Slice]
    leads: list[Lead]

    def named(self, name: str) -> Result:
        """The result of one entrant. Raises KeyError."""
        return {result.name: result for result in self.results}[name]

    def headline(self) -> dict[str, object]:
        """What `--json` prints."""
        models = {
            result.name: {metric: round(result.figures[metric].mean, 6) for metric in HEADLINE}
            for result in self.results
        }
        return {"rows": self.rows, "models": models}


def summarise(
    source: Source, split: int, judged: Judged, entrants: list[Entrant], *, seed: int, notes: list[str]
) -> Results:
    """Figures, intervals, slices and leads of what was judged."""
    draws = Bootstrap.draw(users_of(judged), seed)
    slices = [
        Slice(group, name, int(rows.sum()), _figures(judged.places, draws.take(rows), HEADLINE, rows))
        for group, name, rows in slices_of(judged)
    ]
    figures = _figures(judged.places, draws, tuple(METRICS))
    typos = _figures(judged.mistyped, draws, HEADLINE) if len(judged.mistyped[entrants[0].name]) else {}
    results = [
        Result(
            name=entrant.name,
            fed=entrant.fed,
            is_model=entrant.is_model,
            figures=figures[entrant.name],
            with_typos=typos.get(entrant.name, {}),
            recall={depth: float(recall_at(judged.places[entrant.name], depth).mean()) for depth in RECALL_DEPTHS},
        )
        for entrant in entrants
    ]
    return Results(
        source=source.name,
        rows=len(source.searches),
        learned_from=split,
        searches=len(judged.searches),
        items=len({entry.item for entry in source.items}),
        outside=int((judged.columns < 0).sum()),
        typos=judged.typos,
        split_ms=source.searches[split].time_ms,
        end_ms=source.searches[-1].time_ms,
        seed=seed,
        notes=notes,
        results=results,
        slices=slices,
        leads=_leads(results, judged.places, draws),
    )


def best_baseline(results: list[Result], *, fed: bool) -> str:
    """The baseline with the highest MRR@5 among those that are told what happens after the split, or are not."""
    rivals = [result for result in results if result.fed == fed and not result.is_model]
    return max(rivals, key=lambda result: result.figures[LEAD_METRIC].mean).name


def rivals_of(results: list[Result]) -> list[str]:
    """Whom models have to beat: the best frozen baseline, the best one beside the counters rung, and the best fed."""
    others = [result for result in results if result.name != COUNTERS]
    best = (best_baseline(others, fed=False), best_baseline(results, fed=False), best_baseline(results, fed=True))
    return list(dict.fromkeys(best))


def compared(results: Results) -> list[Result]:
    """Few enough to tell apart in one plot: the rivals that leads are over, and models."""
    names = rivals_of(results.results)
    models = [result for result in results.results if result.is_model]
    models.sort(key=lambda result: (not result.fed, -result.figures[LEAD_METRIC].mean))
    names += [result.name for result in models][: COMPARED_MAX - len(names)]
    return [result for result in results.results if result.name in names]


def _leads(results: list[Result], places: dict[str, Places], draws: Bootstrap) -> list[Lead]:
    """Each model against each of the rivals."""
    models = [result.name for result in results if result.is_model]
    rivals = rivals_of(results)
    pairs = [(model, rival) for model in models for rival in rivals]
    if not pairs:
        return []
    metric = METRICS[LEAD_METRIC]
    gaps = np.stack([metric(places[model]) - metric(places[rival]) for model, rival in pairs], axis=1)
    return [Lead(model, rival, estimate) for (model, rival), estimate in zip(pairs, draws.estimates(gaps), strict=True)]


def _figures(
    places: dict[str, Places], draws: Bootstrap, metrics: tuple[str, ...], rows: Mask | None = None
) -> dict[str, Figures]:
    """Entrant -> metric -> estimate, over some of the searches; everybody on the same draws."""
    columns: list[Values] = []
    for found in places.values():
        chosen = found if rows is None else found.take(rows)
        columns += [METRICS[metric](chosen) for metric in metrics]
    estimates = iter(draws.estimates(np.stack(columns, axis=1)))
    return {name: {metric: next(estimates) for metric in metrics} for name in places}


def slices_of(judged: Judged) -> list[tuple[str, str, Mask]]:
    """Group, name and searches of each slice; those of a group share no search. Empty ones are left out."""
    columns, before = judged.columns, judged.clicks_before
    inside = columns >= 0
    clicks = np.zeros(len(columns), np.int64)
    clicks[inside] = before[columns[inside]]
    is_head = np.zeros(len(columns), np.bool_)
    is_head[inside] = head_items(before)[columns[inside]]
    found = [
        ("clicked item", "head", is_head),
        ("clicked item", "tail", inside & ~is_head & (clicks > 0)),
        ("clicked item", "never clicked before", inside & (clicks == 0)),
        ("query", "asked before", judged.query_known),
        ("query", "new", ~judged.query_known),
        ("user", "has clicked before", judged.has_history),
        ("user", "has not clicked before", ~judged.has_history),
    ]
    weeks = np.array([week_of(search.time_ms) for search in judged.searches])
    found += [("week from", week, weeks == week) for week in sorted(set(weeks.tolist()))]
    return [(group, name, rows) for group, name, rows in found if rows.any()]


def head_items(clicks: npt.NDArray[np.int64]) -> Mask:
    """The fewest items that together have HEAD_SHARE of the clicks; an item that was never clicked is none of them."""
    order = np.argsort(-clicks, kind="stable")
    before = np.cumsum(clicks[order]) - clicks[order]
    is_head = np.zeros(len(clicks), np.bool_)
    is_head[order] = (before < HEAD_SHARE * clicks.sum()) & (clicks[order] > 0)
    return is_head


def week_of(time_ms: int) -> str:
    """The Monday (UTC) that begins the week of a moment, as a date."""
    day = datetime.fromtimestamp(time_ms / 1000, UTC).date()
    return (day - timedelta(days=day.weekday())).isoformat()
