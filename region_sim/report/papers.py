"""What the run leaves on paper: receipts, terms with their markers, every parameter, and the command of the replay."""

from __future__ import annotations

from collections.abc import Sequence

from region_sim.report import words
from region_sim.report.gather import Observed
from region_sim.report.judged import Judged, flat
from region_sim.report.markup import Child, Html, tag
from region_sim.report.tables import quiet, section, table
from services.receipts.model import Range, Receipt

RANGES_MAX = 12


def receipts(observed: Observed) -> Html:
    """The receipts, and the terms under which they were written."""
    parts: list[Child] = []
    if observed.receipts:
        ordered = sorted(observed.receipts.values(), key=lambda one: (one.created_ms, one.receipt_id))
        headings = [
            "Receipt",
            "About",
            "Kind",
            "State",
            "By",
            "Epoch",
            "Written",
            "Last contact",
            "Events",
            "Ranges",
            "Why",
        ]
        rows = [_receipt(observed, one) for one in ordered]
        parts.append(table("Receipts, as last seen", headings, rows, numbers=[5, 6, 7, 8]))
    elif observed.receipts_read:
        parts.append(quiet("There is none: all were asked for, and no region wrote one."))
    else:
        parts.append(quiet("Not known: no region was asked for its receipts, or none said."))
    if observed.markers or observed.terms:
        parts.append(_terms(observed))
    return section("receipts", "Receipts and terms", *parts)


def _receipt(observed: Observed, one: Receipt) -> Sequence[Child]:
    return (
        one.receipt_id,
        f"{one.incarnation}{' (was active)' if one.was_active else ''}",
        one.kind,
        one.state.replace("_", " "),
        one.issued_by,
        words.epoch(one.epoch),
        words.seconds(observed.at(one.created_ms)),
        "never" if one.last_contact_ms == 0 else words.seconds(observed.at(one.last_contact_ms)),
        words.count(one.events_listed),
        _ranges(one.ranges),
        one.closed_because or one.reason,
    )


def _ranges(ranges: Sequence[Range]) -> str:
    if not ranges:
        return "none"
    said = [f"{one.log}/{one.partition} [{one.start}, {one.end})" for one in ranges[:RANGES_MAX]]
    more = f" and {len(ranges) - RANGES_MAX} more" if len(ranges) > RANGES_MAX else ""
    return ", ".join(said) + more


def _terms(observed: Observed) -> Html:
    seen = {(term.region, term.epoch): term for term in observed.terms}
    lives: dict[tuple[str, tuple[int, int]], tuple[str, set[str]]] = {}
    for (region, incarnation, epoch), where in observed.markers.items():
        lives[region, epoch] = (incarnation, where)
    rows: list[Sequence[Child]] = []
    for region, epoch in sorted(seen.keys() | lives.keys(), key=lambda key: (key[1], key[0])):
        term = seen.get((region, epoch))
        incarnation, where = lives.get((region, epoch), ("", set[str]()))
        gone = words.NOT_KNOWN if term is None else "to the end" if not term.gone_ms else _at(observed, term.gone_ms)
        rows.append(
            (
                words.epoch(epoch),
                region,
                incarnation or words.NOT_KNOWN,
                words.NOT_KNOWN if term is None else _at(observed, term.seen_ms),
                gone,
                ", ".join(sorted(where)) or "none was seen",
            )
        )
    headings = ["Epoch", "Region", "Life", "Seen from", "Until", "Its marker lies in the logs of"]
    return table("Terms, and the markers that they left in rankings logs", headings, rows, numbers=[0, 3, 4])


def _at(observed: Observed, unix_ms: int) -> str:
    return words.seconds(observed.at(unix_ms))


def parameters(judged: Judged, observed: Observed) -> Html:
    """Every parameter, and the command."""
    said = flat(judged.parameters or observed.parameters or {})
    command = tag("code", judged.replay or words.NOT_KNOWN, id="replay-command")
    button = tag("button", "Copy", type="button", data_copy="replay-command", hidden=True) if judged.replay else None
    status = tag("span", "", role="status", class_="copied", data_copied="replay-command")
    made = (
        table("Parameters", ["Parameter", "Value"], list(said.items()), rows_max=500)
        if said
        else quiet("Parameters: not known.")
    )
    figures = table(
        "Figures of the verdict",
        ["Figure", "Value", "Name in verdict.json"],
        [(words.title_of(name), words.said(name, value), tag("code", name)) for name, value in judged.figures.items()],
        numbers=[1],
        class_="titled",
    )
    return section(
        "parameters",
        "Run it again",
        tag("div", tag("pre", command), button, status, class_="command"),
        tag("details", tag("summary", f"All {len(said)} parameters"), made),
        tag("details", tag("summary", "All figures"), figures),
    )
