"""What each checker said, and the first entry of the history that breaks it, with what stands around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from region_sim.history import NO_CALL, Entry
from region_sim.report import words
from region_sim.report.head import badge
from region_sim.report.judged import Check, Judged
from region_sim.report.markup import Child, Html, join, tag
from region_sim.report.tables import quiet, section, table

AROUND: Final = 5
EXAMPLES_MAX: Final = 20
VIOLATIONS_MAX: Final = 6
TEXT_MAX: Final = 200
SENTENCE_MAX: Final = 2_000
CHECKS_MAX: Final = 100
SAID_MAX: Final = 3
_decoder = msgspec.json.Decoder(Entry)
_ORDER: Final = ("invalid", "unknown", "valid")


def checks(judged: Judged, history: Path, began_seconds: float) -> Html:
    """The section: the worst first."""
    if not judged.checks:
        return section("checks", "Checks", quiet("Not known: the verdict names no checks."))
    ordered = sorted(judged.checks, key=lambda one: _ORDER.index(one.verdict) if one.verdict in _ORDER else 1)
    broken = [one for one in ordered if one.first_index is not None]
    entries = around(history, [one.first_index for one in broken[:VIOLATIONS_MAX] if one.first_index is not None])
    rows = [(one.check, badge(one.verdict), _said(one)) for one in ordered[:CHECKS_MAX]]
    parts: list[Child] = [table("Every checker and what it says", ["Check", "Verdict", "Why"], rows, class_="checks")]
    parts += [_violation(one, entries, began_seconds) for one in broken[:VIOLATIONS_MAX]]
    return section("checks", "Checks", *parts)


def _said(one: Check) -> Html:
    said: list[Child] = [one.sentence[:SENTENCE_MAX]]
    if one.examples:
        examples = tag("ul", *(tag("li", _short(example)) for example in one.examples[:EXAMPLES_MAX]))
        summary = tag("summary", words.count(len(one.examples), "example"))
        # What is wrong is read first: it stands open.
        said.append(tag("details", summary, examples, open=one.verdict == "invalid"))
    return join(said)


def _violation(one: Check, entries: dict[int, Entry], began_seconds: float) -> Html:
    index = one.first_index
    assert index is not None
    title = tag("h3", f"First violation: {one.check}")
    first = entries.get(index)
    if first is None:
        return tag("div", title, quiet(f"Entry {index:,} of the history is not there to be shown."), class_="violation")
    near = [entries[n] for n in sorted(entries) if abs(n - index) <= AROUND or n == first.call]
    rows = [_row(entry, began_seconds, is_first=entry.index == index) for entry in near]
    caption = f"Entry {index:,} of the history, and those around it"
    headings = ["Entry", "Time", "Type", "Operation", "Who", "Region", "Epoch", "What"]
    made = table(caption, headings, rows, numbers=[0, 1], class_="entries")
    return tag("div", title, tag("p", one.sentence[:SENTENCE_MAX]), made, class_="violation")


def _row(entry: Entry, began_seconds: float, *, is_first: bool) -> Sequence[Child]:
    index = (
        tag("strong", f"▶ {entry.index:,}", tag("span", " (first violation)", class_="unseen"))
        if is_first
        else f"{entry.index:,}"
    )
    cells: list[Child] = [
        index,
        f"{entry.monotonic_seconds - began_seconds:.3f} s",
        entry.type,
        entry.op,
        entry.process,
        entry.region,
        "" if entry.epoch is None else words.epoch(entry.epoch),
        _short(described(entry)),
    ]
    return [tag("mark", cell) if is_first and cell else cell for cell in cells]


def described(entry: Entry) -> str:
    """What an entry says besides its columns."""
    found = [entry.note, entry.error, f"rung {entry.rung}" if entry.rung else ""]
    if entry.call != NO_CALL:
        found.append(f"completes {entry.call:,}" if entry.type != "invoke" else f"of {entry.call:,}")
    found.append(_some("says", [f"{one.kind} {one.id}" for one in entry.said]))
    acks = [f"{ack.kind} {ack.id} at {ack.log}/{ack.partition}/{ack.offset}[{ack.index}]" for ack in entry.acks]
    found.append(_some("acknowledged", acks))
    found += [_some("refused", entry.refused), _some("open", entry.unknown)]
    if entry.evidence is not None:
        found.append(f"evidence: {entry.evidence.__struct_config__.tag}")
    return "; ".join(part for part in found if part)


def _some(verb: str, listed: Sequence[str]) -> str:
    if not listed:
        return ""
    more = f" and {len(listed) - SAID_MAX:,} more" if len(listed) > SAID_MAX else ""
    return f"{verb} {', '.join(listed[:SAID_MAX])}{more}"


def _short(said: str) -> str:
    return said if len(said) <= TEXT_MAX else f"{said[:TEXT_MAX]}…"


def around(history: Path, indices: Sequence[int]) -> dict[int, Entry]:
    """The entries near some indices, and those that they complete. Nothing else of the file is decoded."""
    if not indices:
        return {}
    wanted = {n for index in indices for n in range(index - AROUND, index + AROUND + 1)}
    found = _read(history, wanted)
    calls = {found[index].call for index in indices if index in found} - found.keys() - {NO_CALL}
    return found | _read(history, calls)


def _read(history: Path, wanted: Iterable[int]) -> dict[int, Entry]:
    left = {number for number in wanted if number >= 0}
    found: dict[int, Entry] = {}
    if not left:
        return found
    last = max(left)
    try:
        with history.open("rb") as lines:
            for number, line in enumerate(lines):
                if number > last:
                    break
                if number in left:
                    try:
                        found[number] = _decoder.decode(line)
                    except msgspec.MsgspecError:
                        continue
    except OSError:
        return found
    return found
