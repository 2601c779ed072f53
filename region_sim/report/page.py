"""The page: one file, with its style and its one script inside, that asks nobody for anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from region_sim.report.charts import Binned, binned, latencies, rates, region_legend
from region_sim.report.checks import checks
from region_sim.report.drawing import Band, bands, drawn_until, patterns
from region_sim.report.gather import Observed
from region_sim.report.head import head
from region_sim.report.judged import Judged
from region_sim.report.ledger import ledger
from region_sim.report.markup import Child, Html, join, tag
from region_sim.report.papers import parameters, receipts
from region_sim.report.quality import quality, replayed
from region_sim.report.story import story
from region_sim.report.tables import quiet, section, table
from region_sim.report.takeover import takeovers
from region_sim.report.timeline import timeline
from region_sim.report.words import NOT_KNOWN, count, milliseconds
from region_sim.verdict import HISTORY_FILE

PARTS: Final = {
    "story": "What happened",
    "answers": "Answers",
    "takeover": "Takeover",
    "ledger": "Ledger",
    "quality": "Ranking",
    "checks": "Checks",
    "receipts": "Receipts",
    "parameters": "Run it again",
}
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""Whatever slipped into the page: it may load nothing and send nothing."""
ROWS_OF_TIME: Final = 60


def page(judged: Judged, observed: Observed, directory: Path) -> str:
    """The report of one run."""
    end = drawn_until(observed)
    shown = bands(observed, end)
    body = [
        head(judged, observed),
        story(observed, timeline(observed), shown),
        answers(binned(observed, end), shown),
        takeovers(judged),
        ledger(judged, observed),
        quality(observed, replayed(directory)),
        checks(judged, directory / HISTORY_FILE, observed.began_seconds),
        receipts(observed),
        parameters(judged, observed),
    ]
    said = "Made from history.jsonl and verdict.json beside this file; region-sim judge checks the history again."
    return whole(f"{judged.verdict}: {judged.drill or 'drill'}", body, PARTS, said)


def whole(title: str, body: Sequence[Child], parts: dict[str, str], said: str) -> str:
    """A complete document around some sections."""
    here = Path(__file__).parent
    style = Html((here / "page.css").read_text(encoding="utf-8"))
    script = Html((here / "page.js").read_text(encoding="utf-8"))
    links = tag("ul", *(tag("li", tag("a", name, href=f"#{part}")) for part, name in parts.items()))
    document = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", title),
            tag("style", style),
        ),
        tag(
            "body",
            tag("a", "Skip to the report", href="#report", class_="skip"),
            patterns(),
            tag("nav", links, aria_label="Parts of the report") if parts else None,
            tag("main", *body, id="report"),
            tag("footer", tag("p", said)),
            tag("script", script),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{document}\n"


def answers(found: Binned, shown: Sequence[Band]) -> Html:
    """Answers a second and latency, drawn and as a table."""
    regions = list(found.regions)
    if not any(b.answers for b in [*found.unanswered, *(b for bins in found.regions.values() for b in bins)]):
        return section("answers", "Answers over time", quiet("Not known: no search was completed."))
    parts: list[Child] = [
        tag("h3", "Answers a second, by region"),
        tag("figure", rates(found, shown), tag("figcaption", region_legend(regions, with_quantiles=False))),
        tag("h3", "Latency of accepted answers"),
    ]
    drawn = latencies(found, shown)
    if drawn is None:
        parts.append(quiet("Not known: nobody was answered."))
    else:
        parts.append(tag("figure", drawn, tag("figcaption", region_legend(regions, with_quantiles=True))))
    parts.append(tag("details", tag("summary", "The same as a table"), _table(found)))
    return section("answers", "Answers over time", join(parts))


def _table(found: Binned) -> Html:
    """The bins in rows, put together so that a person can read them; the worst p99 of a row stands for it."""
    together = max(-(-len(found.unanswered) // ROWS_OF_TIME), 1)
    headings = ["From", "Asked", "Unanswered"]
    for region in found.regions:
        headings += [f"{region}: answers", "worst p99"]
    rows = []
    for first in range(0, len(found.unanswered), together):
        part = slice(first, first + together)
        row: list[Child] = [f"{first * found.step} s", count(sum(found.asked[part]))]
        row.append(count(sum(b.answers for b in found.unanswered[part])))
        for bins in found.regions.values():
            known = [b.p99_ms for b in bins[part] if b.p99_ms is not None]
            row.append(count(sum(b.answers for b in bins[part])))
            row.append(milliseconds(max(known)) if known else NOT_KNOWN if any(b.answers for b in bins[part]) else "·")
        rows.append(row)
    return table("Searches over time", headings, rows, numbers=range(len(headings)))
