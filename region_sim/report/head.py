"""The first screen: the verdict and why, RTO and RPO against their targets, and which run this was."""

from __future__ import annotations

from typing import Final

from region_sim.report import words
from region_sim.report.gather import Observed
from region_sim.report.judged import Judged
from region_sim.report.markup import Child, Html, join, tag

SIGNS: Final[dict[str, str]] = {"valid": "✓", "invalid": "✗", "unknown": "?"}
SENTENCE_MAX: Final = 2_000
MEANINGS: Final[dict[str, str]] = {
    "valid": "Every check holds.",
    "invalid": "A check found something that must not be.",
    "unknown": "Something that the proof needs is missing. That is no success.",
}


def head(judged: Judged, observed: Observed) -> Html:
    """See the module."""
    verdict = tag(
        "div",
        tag("span", SIGNS[judged.verdict], class_="sign", aria_hidden="true"),
        tag(
            "div",
            tag("p", f"Drill {judged.drill or words.NOT_KNOWN}", class_="over"),
            tag("h1", judged.verdict),
            tag("p", _sentence(judged), class_="sentence"),
        ),
        class_=f"verdict {judged.verdict}",
    )
    return tag("header", verdict, _cards(judged, observed), _facts(judged, observed), _warnings(judged, observed))


def badge(verdict: str) -> Html:
    """A verdict in a table."""
    return tag("span", f"{SIGNS.get(verdict, '?')} {verdict}", class_=f"badge {verdict}")


def _sentence(judged: Judged) -> str:
    said = judged.sentence[:SENTENCE_MAX]
    return MEANINGS[judged.verdict] if not said or said == "every check holds" else said


def _cards(judged: Judged, observed: Observed) -> Html:
    cards = [
        _timed("RTO", judged, "rto_seconds", "rto_seconds_max", "from the fault to the first answer from elsewhere"),
        _rpo(judged),
        _timed("No answers", judged, "gap_seconds", "gap_seconds_max", "longest time without any answer"),
        _loss(judged),
        _answered(judged, observed),
    ]
    return tag("ul", *cards, class_="cards")


def _timed(label: str, judged: Judged, name: str, mark: str, meaning: str) -> Html:
    value, bound = judged.number(name), judged.mark(mark)
    if bound is None:
        return _card(label, words.seconds(value), "no target", meaning)
    if value is None:
        return _card(label, words.NOT_KNOWN, f"target ≤ {words.seconds(bound)}", meaning, "unknown")
    look = "valid" if value <= bound else "invalid"
    target = f"{SIGNS[look]} {'within' if value <= bound else 'beyond'} the target of {words.seconds(bound)}"
    return _card(label, words.seconds(value), target, meaning, look, _meter(value, bound))


def _rpo(judged: Judged) -> Html:
    contact, bound = judged.number("last_contact_before_fault_seconds"), judged.mark("last_contact_seconds_max")
    events = judged.count("rpo_events")
    meaning = "acknowledged, and held by no survivor after the takeover"
    if contact is not None:
        side = "before the fault" if contact >= 0 else "after the fault began"
        meaning += f"; last contact {words.seconds(abs(contact))} {side}"
    if bound is None:
        return _card("RPO", words.count(events, "event"), "no target", meaning)
    if contact is None:
        return _card(
            "RPO", words.count(events, "event"), f"target: contact ≤ {words.seconds(bound)}", meaning, "unknown"
        )
    look = "valid" if contact <= bound else "invalid"
    target = f"{SIGNS[look]} contact {'within' if contact <= bound else 'beyond'} the target of {words.seconds(bound)}"
    return _card("RPO", words.count(events, "event"), target, meaning, look, _meter(contact, bound))


def _loss(judged: Judged) -> Html:
    lost, unlisted = judged.count("lost"), judged.count("lost_unlisted")
    meaning = f"{words.count(lost)} lost in all" if lost is not None else "losses were not counted"
    look = "unknown" if unlisted is None else "valid" if unlisted == 0 else "invalid"
    return _card("Lost, unlisted", words.count(unlisted, "event"), f"{SIGNS[look]} target: none", meaning, look)


def _answered(judged: Judged, observed: Observed) -> Html:
    answered, failed = judged.count("searches_ok"), judged.count("searches_failed")
    if answered is None or failed is None:
        answered = sum(sum(stage.answered.values()) for stage in observed.stages)
        failed = sum(stage.unanswered for stage in observed.stages)
    total = answered + failed
    value = answered / total if total else None
    return _card("Answered", words.share(value), "of all searches", f"{answered:,} of {total:,}, outages included")


def _card(label: str, value: str, target: str, meaning: str, look: str = "", meter: Child = None) -> Html:
    return tag(
        "li",
        tag("p", label, class_="label"),
        tag("p", value, class_="value"),
        meter,
        tag("p", target, class_=f"target {look}".strip()),
        tag("p", meaning, class_="quiet"),
        class_="card",
    )


def _meter(value: float, bound: float) -> Html:
    """How much of the bound was used; the words beside it say the same."""
    used = min(value / bound, 1.0) * 100 if bound > 0 else 100.0
    look = "used" if value <= bound else "used over"
    return tag("div", tag("div", class_=look, style=f"width: {used:.1f}%"), class_="meter", aria_hidden="true")


def _facts(judged: Judged, observed: Observed) -> Html:
    began = words.moment(observed.began_unix_ms) if observed.began_unix_ms else words.NOT_KNOWN
    facts = [
        ("Seed", words.NOT_KNOWN if judged.seed is None else str(judged.seed)),
        ("Backend", judged.backend or words.NOT_KNOWN),
        ("Began", began),
        ("Took", words.seconds(observed.end) if observed.entries else words.NOT_KNOWN),
        ("Regions", ", ".join(observed.regions) or words.NOT_KNOWN),
        ("Faults", str(len(observed.faults)) if observed.entries else words.NOT_KNOWN),
        ("History", words.count(observed.entries, "line") if observed.entries else words.NOT_KNOWN),
    ]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="facts")


def _warnings(judged: Judged, observed: Observed) -> Html:
    """What a reader must know before trusting the page."""
    said = []
    if observed.problem:
        said.append(f"The history could not be read to its end: {observed.problem}. What follows shows what could.")
    seed = observed.plan.seed if observed.plan is not None else None
    if seed is not None and judged.seed is not None and seed != judged.seed:
        said.append(f"The verdict is of seed {judged.seed}, the history of seed {seed}: one of them is of another run.")
    if observed.left_out:
        said.append(
            f"{observed.left_out:,} things that happened are not drawn: there are too many; the history has all."
        )
    return join(tag("p", f"! {sentence}", class_="warning", role="note") for sentence in said)
