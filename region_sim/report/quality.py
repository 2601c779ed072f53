"""Ranking before, during and after the faults: how many searches were answered, from which rung, how fast, how well.

Before: the steady phase. During: from the first fault to the end of the last heal. After: from there until the load
stops. How *well* is only known where an app replayed a log whose clicks are known; its figures lie in `replay.json`.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from region_sim.report import words
from region_sim.report.charts import quantile_ms
from region_sim.report.drawing import LETTER_WIDTH, Size, both, rectangle, text, words_fit
from region_sim.report.gather import Observed
from region_sim.report.markup import Child, Html, join, tag
from region_sim.report.scale import Scale
from region_sim.report.tables import quiet, section, table

REPLAY_FILE: Final = "replay.json"
PARTS: Final = ("before", "during", "after")
RUNGS: Final = ("model", "counters", "popularity")
"""The ladder, best first; whatever else an answer says comes after these."""
UNANSWERED: Final = "not answered"
BAR: Final = 26.0
MRR_PLACES: Final = 5


@dataclass(slots=True)
class Part:
    """The searches asked in one part of a drill."""

    asked: int = 0
    rungs: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))
    ranks: array[int] = field(default_factory=lambda: array("H"))

    @property
    def mrr_at_5(self) -> float | None:
        """Mean of 1/rank of the clicked items, 0 beyond place 5; None when no ranking was judged."""
        if not self.ranks:
            return None
        return sum(1 / rank for rank in self.ranks if 0 < rank <= MRR_PLACES) / len(self.ranks)

    @property
    def completed(self) -> int:
        """Searches whose end is known."""
        return self.rungs.total() + self.unanswered


class _Figures(msgspec.Struct, frozen=True):
    searches: int = 0
    mrr_at_5: float | None = None
    ndcg_at_10: float | None = None


class Replayed(msgspec.Struct, frozen=True):
    """What is read of `replay.json`."""

    judged: int = 0
    quality: dict[str, _Figures] = {}


def parts(observed: Observed) -> dict[str, Part]:
    """The drill's searches by part; what was asked in no part (warm-up, the end) is left out."""
    found = {name: Part() for name in PARTS}
    has_steady = any(stage.name == "steady" for stage in observed.stages)
    first = min((fault.began for fault in observed.faults), default=None)
    healed = max((stage.began for stage in observed.stages if stage.name in ("heal", "recover")), default=None)
    names = [stage.name for stage in observed.stages]
    healing = max((n for n, name in enumerate(names) if name in ("heal", "recover")), default=None)
    steady = not has_steady
    for number, stage in enumerate(observed.stages):
        steady = steady or stage.name == "steady"
        if stage.name == "load stops":
            break
        if first is None or stage.began < first:
            name = "before" if steady else ""
        elif healing is None or healed is None or number < healing:
            name = "during"
        else:
            name = "after"
        if name:
            part = found[name]
            part.asked += stage.asked
            part.rungs.update(stage.answered)
            part.unanswered += stage.unanswered
            part.latencies_ms.extend(stage.latencies_ms)
            part.ranks.extend(stage.ranks)
    return found


def replayed(directory: Path) -> Replayed | None:
    """What an app that replayed a log found; None when there was none, or it cannot be read."""
    try:
        return msgspec.json.decode((directory / REPLAY_FILE).read_bytes(), type=Replayed)
    except (OSError, msgspec.MsgspecError):
        return None


def quality(observed: Observed, found: Replayed | None) -> Html:
    """The section."""
    by_part = parts(observed)
    if not any(part.completed for part in by_part.values()):
        return section("quality", "Ranking before, during and after", quiet("Not known: no search was completed."))
    rungs = _rungs(by_part)
    drawing = _drawing(by_part, rungs)
    rows: list[Sequence[Child]] = []
    for name, part in by_part.items():
        total = part.completed
        rows.append(
            (
                name,
                words.count(part.asked),
                words.share(part.rungs.total() / total if total else None),
                *(words.share(part.rungs[rung] / total if total else None) for rung in rungs),
                words.milliseconds(quantile_ms(part.latencies_ms, 0.5)),
                words.milliseconds(quantile_ms(part.latencies_ms, 0.99)),
            )
        )
    headings = ["Part", "Asked", "Answered", *(f"From {rung}" for rung in rungs), "p50", "p99"]
    made = table("Searches by part of the drill", headings, rows, numbers=range(1, len(headings)))
    said = (
        "Before: the steady phase. During: from the first fault to the end of the last heal. After: until the load "
        "stops. A search belongs to the part in which it was asked."
    )
    figure = tag("figure", drawing, tag("figcaption", _legend(rungs)))
    return section("quality", "Ranking before, during and after", figure, made, quiet(said), _truth(by_part, found))


def _rungs(by_part: dict[str, Part]) -> list[str]:
    there = {rung for part in by_part.values() for rung in part.rungs}
    return [*(rung for rung in RUNGS if rung in there), *sorted(there - set(RUNGS))]


def _drawing(by_part: dict[str, Part], rungs: Sequence[str]) -> Html:
    def draw(size: Size) -> tuple[float, Html]:
        scale = Scale(0.0, 1.0, size.left, size.width - size.right)
        pieces: list[Html] = []
        for row, (name, part) in enumerate(by_part.items()):
            y = 4 + row * (BAR + 10)
            pieces.append(text(0, y + 17, name, "lane-name"))
            if not part.completed:
                pieces.append(text(size.left, y + 17, words.NOT_KNOWN, "note"))
                continue
            at = 0.0
            counts = [
                *((n, rung, part.rungs[rung]) for n, rung in enumerate(rungs)),
                (None, UNANSWERED, part.unanswered),
            ]
            for number, rung, count in counts:
                value = count / part.completed
                if count:
                    pieces.append(_piece(scale, y, at, value, rung, number))
                at += value
        return 4 + len(by_part) * (BAR + 10), join(pieces)

    said = [
        f"{name}: " + ", ".join(f"{rung} {words.share(n / part.completed)}" for rung, n in part.rungs.most_common())
        for name, part in by_part.items()
        if part.completed
    ]
    return both("quality-bars", "Share of searches by the rung that answered", "; ".join(said), draw)


def _piece(scale: Scale, y: float, at: float, value: float, rung: str, number: int | None) -> Html:
    x, width = scale.at(at), scale.at(at + value) - scale.at(at)
    look = "unanswered" if number is None else f"rung rung{min(number, 4)}"
    box = rectangle(x, y, max(width, 1.0), BAR, look, f"{rung}: {words.share(value)}")
    said = next((s for s in (f"{rung} {words.share(value)}", words.share(value)) if words_fit(s, width)), None)
    if said is None:
        return box
    if number is None:
        plate = rectangle(x + 3, y + 5, len(said) * LETTER_WIDTH + 2, BAR - 10, "plate")
        return join([box, plate, text(x + 5, y + 17, said, "note")])
    return join([box, text(x + 5, y + 17, said, "on-rung")])


def _legend(rungs: Sequence[str]) -> Html:
    looks = [*((rung, f"rung rung{min(n, 4)}") for n, rung in enumerate(rungs)), (UNANSWERED, "unanswered")]
    found = [
        tag(
            "li",
            tag("svg", rectangle(0, 0, 14, 12, look), viewBox="0 0 14 12", class_="key-box"),
            f" {rung}",
            class_="key",
        )
        for rung, look in looks
    ]
    return tag("ul", *found, class_="legend")


def _truth(by_part: dict[str, Part], found: Replayed | None) -> Html:
    """How well the clicked items were ranked: by part from the history, over all and beside baselines from the app."""
    rows: list[Sequence[Child]] = [
        (name, "ours", words.count(len(part.ranks)), f"{mrr:.4f}", "·")
        for name, part in by_part.items()
        if (mrr := part.mrr_at_5) is not None
    ]
    if found is not None:
        rows += [
            (
                "all of it",
                method.replace("_", " "),
                words.count(one.searches),
                words.NOT_KNOWN if one.mrr_at_5 is None else f"{one.mrr_at_5:.4f}",
                words.NOT_KNOWN if one.ndcg_at_10 is None else f"{one.ndcg_at_10:.4f}",
            )
            for method, one in found.quality.items()
        ]
    if not rows:
        return quiet("How good the rankings were is not known: no app in this run knew which result its users took.")
    return table(
        "Against the clicks that followed", ["Part", "Method", "Searches", "MRR@5", "NDCG@10"], rows, numbers=[2, 3, 4]
    )
