"""The ledger of events: what apps sent, what they were promised, what regions counted, what is lost."""

from __future__ import annotations

from collections.abc import Sequence

from region_sim.report import words
from region_sim.report.gather import Observed, distinct
from region_sim.report.judged import Judged
from region_sim.report.markup import Child, Html, tag
from region_sim.report.tables import quiet, section, table


def ledger(judged: Judged, observed: Observed) -> Html:
    """The section."""
    counts = observed.ledger
    has_history = observed.entries > 0
    said = distinct(counts.said) if has_history else None
    promised = distinct(counts.acknowledged) if has_history else None
    acknowledged = judged.count("acknowledged")
    lost, unlisted = judged.count("lost"), judged.count("lost_unlisted")
    listed = None if lost is None or unlisted is None else lost - unlisted
    rows: list[Sequence[Child]] = [
        (
            "Sent",
            words.count(judged.count("events_said") or said),
            "different events that apps said; repetitions count once",
        ),
        ("Acknowledged", words.count(promised if acknowledged is None else acknowledged), "promised to be durable"),
        ("Refused", words.count(counts.refused if has_history else None), "the gateway kept nothing, and said so"),
        (
            "Left open",
            words.count(counts.unknown if has_history else None),
            "times that nobody said what became of an event",
        ),
        ("Lost", words.count(lost), "acknowledged, and not in every region in the end"),
        ("  of these listed", words.count(listed), "a receipt names them, or the time after which they came"),
        ("  of these in no receipt", words.count(unlisted), "must be none"),
        ("Counted twice", words.count(judged.count("counted_twice")), "must be none"),
        ("Dead letters", words.count(_dead(judged, observed)), "read, and could not be counted"),
    ]
    parts: list[Child] = [
        table("Events, over all regions", ["", "Events", "Meaning"], rows, numbers=[1], class_="ledger")
    ]
    if acknowledged is not None and promised is not None and acknowledged != promised:
        parts.append(
            tag(
                "p",
                f"! The verdict counts {acknowledged:,} acknowledged events, the history {promised:,}: "
                "judge the history again.",
                class_="warning",
            )
        )
    parts.append(_by_region(observed))
    return section("ledger", "The ledger", *parts)


def _dead(judged: Judged, observed: Observed) -> int | None:
    said = judged.count("dead_letters")
    if said is not None or not observed.states:
        return said
    return max(state.dead for state in observed.states.values())


def _by_region(observed: Observed) -> Html:
    rows = [_region(observed, region) for region in observed.regions]
    known = [row for row in rows if any(cell != words.NOT_KNOWN for cell in row[1:])]
    if not known:
        return quiet("By region: not known. No logs and no states were collected.")
    headings = ["Region", "In its logs", "Copied", "Duplicates", "Applied", "Late", "Digest"]
    made = table("Events by region, after the heal", headings, rows, numbers=[1, 2, 3, 4, 5])
    said = (
        "In its logs: rows of events logs, its own and copies. Copied: rows of other regions' logs, which its "
        "replicator replayed into it. Duplicates: rows that hold an event which is there already; they are dropped. "
        "Applied: what its state says that it counted. Late: too old to be counted. Catalogue entries are left out."
    )
    return tag("div", made, quiet(said))


def _region(observed: Observed, region: str) -> Sequence[Child]:
    rows = observed.ledger.rows.get(region)
    state = observed.states.get(region)
    return (
        region,
        words.count(None if rows is None else len(rows)),
        words.count(None if rows is None else observed.ledger.copied[region]),
        words.count(None if rows is None else len(rows) - distinct(rows)),
        words.count(None if state is None else state.events),
        words.count(None if state is None else state.late),
        words.NOT_KNOWN if state is None else tag("code", state.digest[:16]),
    )
