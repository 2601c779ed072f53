"""What happened: the swim lanes, the faults, and everything else in order of time."""

from __future__ import annotations

from collections.abc import Sequence

from region_sim.report import words
from region_sim.report.drawing import Band, drawn_until
from region_sim.report.gather import Fault, Observed
from region_sim.report.lanes import swim_lanes, symbol_legend
from region_sim.report.markup import Child, Html, tag
from region_sim.report.tables import quiet, section, table
from region_sim.report.timeline import Timeline, describe


def story(observed: Observed, found: Timeline, shown: Sequence[Band]) -> Html:
    """The section."""
    if not observed.entries:
        return section("story", "What happened", quiet("Not known: there is no history to read."))
    lanes = swim_lanes(found, shown, observed.phases, drawn_until(observed))
    source = (
        "Terms are those that a watcher of the leader key saw, from outside of all regions."
        if found.terms_are_seen
        else "Nobody watched the leader key in this run: a region is drawn as active from its first accepted answer "
        "under an epoch to its last, which is less than the truth."
    )
    events = table(
        "Everything in order of time",
        ["Time", "Where", "What"],
        [(words.seconds(moment.at), moment.region or "·", moment.sentence) for moment in found.story],
        numbers=[0],
    )
    return section(
        "story",
        "What happened",
        tag("figure", lanes, tag("figcaption", symbol_legend(), quiet(source))),
        _faults(observed),
        tag("details", tag("summary", f"Everything in order of time ({len(found.story):,})"), events),
    )


def _faults(observed: Observed) -> Html:
    if not observed.faults:
        return quiet("No fault was begun.")
    rows = [_fault(number, fault) for number, fault in enumerate(observed.faults, start=1)]
    headings = ["Fault", "Target", "Began", "Verified", "Healed", "What was done"]
    return table("Faults, as they were injected", headings, rows, numbers=[2, 3, 4])


def _fault(number: int, fault: Fault) -> Sequence[Child]:
    was_active = ""
    if fault.seen is not None:
        was_active = " (active)" if fault.seen.was_active else " (not active)"
    if fault.error.startswith("refused:"):
        verified = "refused"
    else:
        verified = words.seconds(fault.taken) if fault.took else "it did not take"
    return (
        f"F{number} {fault.kind}",
        f"{fault.target or words.NOT_KNOWN}{was_active}",
        words.seconds(fault.began),
        verified,
        words.seconds(fault.healed) if fault.healed is not None else "never" if fault.took else "·",
        describe(fault),
    )
