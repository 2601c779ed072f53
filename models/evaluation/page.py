"""An evaluation as one HTML file that needs nothing else: plots, tables, and how it was judged."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, tostring

from models.evaluation.drawing import Line, Point, Row, legend, lines_plot, node, rows_plot
from models.evaluation.intervals import Estimate
from models.evaluation.metrics import HEADLINE, METRICS
from models.evaluation.results import (
    LEAD_METRIC,
    RECALL_DEPTHS,
    Result,
    Results,
    Slice,
    compared,
    rivals_of,
)
from models.evaluation.table import LABELS, sentence

FROZEN, FED, MODEL, MODEL_FED = 0, 1, 2, 3
_KINDS: Final = (
    (FROZEN, "baseline, frozen at the split"),
    (FED, "baseline, fed by the stream"),
    (MODEL, "model, counters as of the split"),
    (MODEL_FED, "model, counters as of now"),
)
_WEEKS: Final = "week from"
_METHOD: Final = """\
Rankings are of the whole catalogue. Items with equal scores share their places, and what a ranker does not rank \
shares the last ones: each figure is the expected one over all orders of tied items.
Intervals are 95 %, from 1,000 bootstrap draws of whole users, the same draws for everybody.
Frozen: learned from what happened before the first search of the test part, and from nothing since. Fed: told each \
click when it was made, after its search was ranked. The user's own history so far is part of every question.
Head items are the most clicked ones that together have half of the clicks before the split."""


def page(results: Results) -> str:
    """The file's text."""
    style = files("models.evaluation").joinpath("page.css").read_text(encoding="utf-8")
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("title", f"Evaluation of rankings: {results.source}"),
        node("style", style),
    )
    main = node("main", _header(results), _whole(results), _depths(results))
    main.extend(_section_of_slices(results))
    if any(result.with_typos for result in results.results):
        main.append(_typos(results))
    main.append(_leads(results))
    main.append(node("section", node("h2", "How it was judged"), *[node("p", said) for said in _METHOD.splitlines()]))
    document = node("html", head, node("body", main), lang="en")
    return "<!doctype html>\n" + tostring(document, encoding="unicode", method="html") + "\n"


def write_page(results: Results, path: Path) -> None:
    """Write the file. Raises OSError."""
    path.write_text(page(results), encoding="utf-8")


def _header(results: Results) -> Element:
    best = max(results.results, key=lambda result: result.figures[LEAD_METRIC].mean)
    rivals = [results.named(name) for name in rivals_of(results.results)]
    said = ", ".join(f"{rival.name} {rival.figures[LEAD_METRIC].mean:.4f}" for rival in rivals)
    return node(
        "header",
        node("h1", "How high the clicked item was ranked"),
        node("p", sentence(results)),
        node("p", f"{best.name} is best with MRR@5 {best.figures[LEAD_METRIC].mean:.4f}. Baselines to beat: {said}."),
        *[node("p", note, class_="quiet") for note in results.notes],
    )


def _kind(result: Result) -> int:
    return (MODEL_FED if result.fed else MODEL) if result.is_model else FED if result.fed else FROZEN


def _point(estimate: Estimate, look: int, said: str) -> Point:
    return Point(estimate.mean, estimate.low, estimate.high, look, said)


def _whole(results: Results) -> Element:
    rows = [
        Row(result.name, (_point(result.figures[LEAD_METRIC], _kind(result), result.name),))
        for result in results.results
    ]
    kinds = {_kind(result) for result in results.results}
    cells = [[_cell(result.figures[metric]) for metric in METRICS] for result in results.results]
    return node(
        "section",
        node("h2", "All searches"),
        legend([(look, said) for look, said in _KINDS if look in kinds]),
        *rows_plot("MRR@5 of every ranker with 95 % intervals", rows, "MRR@5, 95 % interval"),
        _table(
            "Means and 95 % intervals", ["", *[LABELS[metric] for metric in METRICS]], _names(results), cells, results
        ),
    )


def _depths(results: Results) -> Element:
    chosen = compared(results)
    lines = [
        Line(result.name, look, tuple(result.recall[depth] for depth in RECALL_DEPTHS))
        for look, result in enumerate(chosen)
    ]
    return node(
        "section",
        node("h2", "Recall by depth"),
        legend([(look, result.name) for look, result in enumerate(chosen)]),
        *lines_plot("Recall by depth", [str(depth) for depth in RECALL_DEPTHS], lines, "recall at the first k items"),
    )


def _section_of_slices(results: Results) -> list[Element]:
    chosen = compared(results)
    keys = [(look, result.name) for look, result in enumerate(chosen)]
    weeks = [one for one in results.slices if one.group == _WEEKS]
    others = [one for one in results.slices if one.group != _WEEKS]
    found = []
    if others:
        rows = [
            Row(
                f"{one.group}: {one.name}",
                tuple(_point(one.figures[name][LEAD_METRIC], look, name) for look, name in keys),
            )
            for one in others
        ]
        found.append(
            node(
                "section",
                node("h2", "Slices"),
                legend(keys),
                *rows_plot("MRR@5 by slice", rows, "MRR@5, 95 % interval"),
                _slice_table("MRR@5 by slice", others, results),
            )
        )
    if weeks:
        lines = [Line(name, look, tuple(one.figures[name][LEAD_METRIC].mean for one in weeks)) for look, name in keys]
        found.append(
            node(
                "section",
                node("h2", "Week by week"),
                legend(keys),
                *lines_plot("MRR@5 by week", [one.name for one in weeks], lines, "MRR@5, week from"),
                _slice_table("MRR@5 by week", weeks, results),
            )
        )
    return found


def _typos(results: Results) -> Element:
    rows = [
        Row(
            result.name,
            (
                _point(result.with_typos[LEAD_METRIC], 4, f"{result.name}, with a typo"),
                _point(result.figures[LEAD_METRIC], 1, f"{result.name}, as typed"),
            ),
        )
        for result in results.results
    ]
    cells = [[_cell(result.with_typos[metric]) for metric in HEADLINE] for result in results.results]
    return node(
        "section",
        node("h2", "One typo in each query"),
        node("p", f"{results.typos:,} of {results.searches:,} queries were changed by one slip; shorter ones stayed."),
        legend([(1, "as typed"), (4, "with a typo")]),
        *rows_plot("MRR@5 as typed and with a typo", rows, "MRR@5, 95 % interval"),
        _table("With a typo", ["", *[LABELS[metric] for metric in HEADLINE]], _names(results), cells, results),
    )


def _leads(results: Results) -> Element:
    cells = [
        [
            node("td", lead.over),
            node("td", f"{lead.difference.mean:+.4f}"),
            node("td", f"{lead.difference.low:+.4f}"),
            node("td", f"{lead.difference.high:+.4f}"),
        ]
        for lead in results.leads
    ]
    heads = ["", "over", "MRR@5", "from", "to"]
    table = _table(
        "Differences on the same searches, 95 % intervals", heads, [lead.name for lead in results.leads], cells, None
    )
    return node("section", node("h2", "Leads of the models"), table if cells else node("p", "No model took part."))


def _slice_table(title: str, slices: Sequence[Slice], results: Results) -> Element:
    heads = ["", *[f"{one.name} ({one.searches:,})" for one in slices]]
    cells = [[_cell(one.figures[result.name][LEAD_METRIC]) for one in slices] for result in results.results]
    return _table(title, heads, _names(results), cells, results)


def _names(results: Results) -> list[str]:
    return [result.name for result in results.results]


def _cell(estimate: Estimate) -> Element:
    return node("td", f"{estimate.mean:.4f}", node("small", f"{estimate.low:.4f} to {estimate.high:.4f}"))


def _table(
    title: str, heads: Sequence[str], names: Sequence[str], cells: Sequence[Sequence[Element]], results: Results | None
) -> Element:
    """A table that scrolls by itself where the page is narrow; the best frozen baseline and the models stand out."""
    marked = set() if results is None else {r.name for r in results.results if r.is_model}
    body = node("tbody")
    for name, row in zip(names, cells, strict=True):
        line = node("tr", node("th", name, scope="row"), *row)
        if name in marked:
            line.set("class", "best")
        body.append(line)
    top = node("thead", node("tr", *[node("th", head, scope="col") for head in heads]))
    return node(
        "div",
        node("table", node("caption", title), top, body),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=title,
    )
