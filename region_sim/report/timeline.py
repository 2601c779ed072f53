"""Who was active, passive or down at which time, as far as the history says so; and all that happened, in order.

A term is best known from the watcher of the leader key (TermSeen). Without one, a region counts as active from its
first accepted answer under an epoch to its last: less than the truth, and the report says where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from region_sim.evidence import Epoch
from region_sim.report import words
from region_sim.report.gather import Fault, Moment, Observed

State = Literal["active", "passive", "down", "not known"]
WHOLE_SITE: Final = {
    "kill": "killed",
    "wipe": "wiped",
    "cut": "log cut, down",
    "pause": "stopped",
    "restart": "ended in order",
}
"""Kinds of faults that, where they take a whole site, leave nobody there who could be active or passive, in words."""


@dataclass(frozen=True, slots=True)
class Span:
    """A state over a time, in seconds of the drill."""

    state: State
    began: float
    ended: float
    label: str
    epoch: Epoch | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """One site."""

    site: str
    is_witness: bool
    spans: list[Span]
    terms: list[Span]
    """When it held the leader key or, without a watcher of it, answered under an epoch."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """All sites and all that happened."""

    lanes: list[Lane]
    end: float
    terms_are_seen: bool
    """False: terms are known by answers only."""
    story: list[Moment]


def timeline(observed: Observed) -> Timeline:
    """Put it together."""
    regions = observed.regions
    witness = _witness(observed)
    others = sorted({fault.target for fault in observed.faults if fault.target} - {*regions, *witness})
    lanes = [_lane(observed, site, is_witness=site in witness) for site in [*regions, *witness, *others]]
    return Timeline(lanes=lanes, end=observed.end, terms_are_seen=bool(observed.terms), story=_story(observed))


def _witness(observed: Observed) -> list[str]:
    parameters = observed.parameters
    topology = parameters.get("topology") if isinstance(parameters, dict) else None
    witness = topology.get("witness", "north") if isinstance(topology, dict) else "north"
    return [witness] if isinstance(witness, str) and witness and observed.plan is not None else []


def _lane(observed: Observed, site: str, *, is_witness: bool) -> Lane:
    end = observed.end
    down = _merged([span for fault in observed.faults if (span := _down(fault, site, end)) is not None])
    if is_witness:
        return Lane(site, is_witness, _filled([], down, end, "passive", "up, has a vote"), [])
    terms = _terms(observed, site)
    known = bool(terms or down or observed.held or observed.terms)
    rest: State = "passive" if known else "not known"
    return Lane(site, is_witness, _filled(terms, down, end, rest, rest), terms)


def _down(fault: Fault, site: str, end: float) -> Span | None:
    seen = fault.seen
    if fault.target != site or not fault.took or seen is None or fault.kind not in WHOLE_SITE or not seen.region_lost:
        return None
    return Span("down", fault.began, end if fault.healed is None else fault.healed, WHOLE_SITE[fault.kind])


def _terms(observed: Observed, site: str) -> list[Span]:
    """Terms of one region, in order; those that are seen, and those of answers whose epoch was not seen."""
    spans = []
    seen_epochs = set()
    for term in observed.terms:
        if term.region != site:
            continue
        seen_epochs.add(term.epoch)
        began = max(observed.at(term.seen_ms) or 0.0, 0.0)
        gone = observed.at(term.gone_ms)
        label = f"active, epoch {words.epoch(term.epoch)}"
        spans.append(
            Span("active", began, min(observed.end if gone is None else gone, observed.end), label, term.epoch)
        )
    for (region, epoch), held in observed.held.items():
        if region == site and epoch not in seen_epochs:
            spans.append(Span("active", held.first, held.last, f"active, epoch {words.epoch(epoch)}", epoch))
    return sorted(spans, key=lambda span: (span.began, span.ended))


def _merged(spans: list[Span]) -> list[Span]:
    """Overlapping spans as one; the first says what it is called."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda one: one.began):
        if merged and span.began <= merged[-1].ended:
            last = merged[-1]
            merged[-1] = Span(last.state, last.began, max(last.ended, span.ended), last.label)
        else:
            merged.append(span)
    return merged


def _filled(terms: list[Span], down: list[Span], end: float, rest: State, rest_label: str) -> list[Span]:
    """One state at a time: down hides active, active hides the rest."""
    cuts = sorted({0.0, end, *(at for s in [*terms, *down] for at in (s.began, s.ended) if 0 <= at <= end)})
    found: list[Span] = []
    for began, ended in pairwise(cuts):
        over = [s for s in [*down, *terms] if s.began <= began and s.ended >= ended]
        here = over[0] if over else Span(rest, began, ended, rest_label)
        if found and (found[-1].state, found[-1].label) == (here.state, here.label):
            found[-1] = Span(here.state, found[-1].began, ended, here.label, here.epoch)
        else:
            found.append(Span(here.state, began, ended, here.label, here.epoch))
    return found


def _story(observed: Observed) -> list[Moment]:
    """Everything that is listed one by one, in order of time."""
    story = [Moment(phase.at, "phase", "", f"phase: {phase.sentence}") for phase in observed.phases]
    for number, fault in enumerate(observed.faults, start=1):
        story.append(Moment(fault.began, "fault", fault.target, f"F{number}: {describe(fault)}"))
        if fault.healed is not None:
            story.append(Moment(fault.healed, "heal", fault.target, f"F{number}: {fault.kind} healed"))
    for (region, epoch), held in observed.held.items():
        said = f"first accepted answer under epoch {words.epoch(epoch)} ({held.answers:,} in all)"
        story.append(Moment(held.first, "takeover", region, said))
    story += [moment for receipt in observed.receipts.values() if (moment := _of_receipt(observed, receipt.receipt_id))]
    story += [_of_term(observed, term.region, term.epoch, term.seen_ms) for term in observed.terms]
    story += observed.moments
    return sorted(story, key=lambda moment: moment.at)


def _of_receipt(observed: Observed, receipt_id: str) -> Moment | None:
    receipt = observed.receipts[receipt_id]
    at = observed.at(receipt.created_ms)
    if at is None:
        return None
    said = f"receipt {receipt.receipt_id} by {receipt.issued_by} about {receipt.incarnation}: {receipt.reason}"
    return Moment(at, "receipt", receipt.issued_by, said)


def _of_term(observed: Observed, region: str, epoch: Epoch, seen_ms: int) -> Moment:
    return Moment(max(observed.at(seen_ms) or 0.0, 0.0), "term", region, f"term of epoch {words.epoch(epoch)} begins")


def describe(fault: Fault) -> str:
    """A fault in words, with what became of it."""
    details = fault.seen.details if fault.seen is not None else ""
    text = f"{fault.kind or 'fault'} of {fault.target or 'nobody'}"
    if details:
        text += f": {details}"
    if fault.error:
        return f"{text}: {fault.error}"
    if not fault.took:
        return f"{text}: nobody says whether it took"
    if fault.heal_error:
        text += f"; heal failed: {fault.heal_error}"
    return text
