"""Receipts and history as people read them."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.coordination.history import Entry
from services.receipts import Matches, Range, Receipt

MEANING = {
    "open": "open: it is not known yet whether the region comes back with its data",
    "healed": "healed: nothing is missing",
    "confirmed_lost": "confirmed lost: the region came back without its data",
}


def when(at_ms: int) -> str:
    """Return a time in UTC to the millisecond; `never` for 0."""
    if at_ms <= 0:
        return "never"
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}.{at_ms % 1000:03d}Z"


def listing(receipts: Sequence[Receipt]) -> RenderableType:
    """One line a receipt."""
    if not receipts:
        return Text("No receipts: no region was ever lost, left or out of reach.")
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    for column in ("receipt", "kind", "of", "written (UTC)", "state"):
        table.add_column(column)
    table.add_column("events listed", justify="right")
    table.add_column("still missing", justify="right")
    for found in receipts:
        table.add_row(
            found.receipt_id,
            found.kind,
            f"{found.incarnation}{' (active)' if found.was_active else ''}",
            when(found.created_ms),
            found.state,
            counted(found.ranges),
            counted(found.remaining),
        )
    return table


def details(found: Receipt) -> RenderableType:
    """Everything that a receipt says, in sentences."""
    place = "the active region" if found.was_active else "not the active region"
    whose = f" of {found.holder}" if found.holder != found.issued_by else ""
    epoch = f"{found.epoch[0]}.{found.epoch[1]}{whose}"
    plural = "" if len(found.ranges) == 1 else "s"
    listed = f"{counted(found.ranges)} events in {len(found.ranges)} range{plural}"
    left = f"{counted(found.remaining)} in {len(found.remaining)}"
    lines = [
        f"Receipt {found.receipt_id} ({found.kind}) of {found.incarnation}, {place}",
        f"  {MEANING[found.state]}{f' ({found.closed_because})' if found.closed_because else ''}",
        f"  written {when(found.created_ms)} by {found.issued_by}, epoch {epoch}: {found.reason}",
        f"  last contact {when(found.last_contact_ms)}: what was acknowledged later is not known to the survivors",
        f"  survivors: {', '.join(found.survivors) or 'none'}",
        f"  known to exist and held by no survivor: {listed}; still missing: {left}",
    ]
    lines += inbox_lines(found)
    if found.accepted_loss_events is not None:
        lines.append(f"  accepted by the operator: the loss of {found.accepted_loss_events} events")
    steps = [
        (name, at_ms)
        for name, at_ms in (
            ("last seen", found.timeline.last_seen_ms),
            ("lease gone", found.timeline.lease_gone_ms),
            ("acquired", found.timeline.acquired_ms),
            ("serving", found.timeline.serving_ms),
        )
        if at_ms
    ]
    if steps:
        first = steps[0][1]
        lines.append("  takeover: " + ", ".join(f"{name} +{(at_ms - first) / 1000:.3f} s" for name, at_ms in steps))
    if not found.ranges and not found.inbox:
        return Group(*map(Text, lines))
    table = Table(box=None, pad_edge=True, header_style="bold")
    for column in ("log", "partition", "from", "to", "events", "still missing from"):
        table.add_column(column, justify="left" if column == "log" else "right")
    for missing in [*found.ranges, *found.inbox]:
        now = [
            left
            for left in [*found.remaining, *found.inbox_remaining]
            if (left.log, left.partition) == (missing.log, missing.partition)
        ]
        table.add_row(
            missing.log,
            str(missing.partition),
            str(missing.start),
            str(missing.end),
            "unknown" if missing.events is None else str(missing.events),
            str(now[0].start) if now else "nothing",
        )
    return Group(*map(Text, lines), table)


def inbox_lines(found: Receipt) -> list[str]:
    """What a receipt says of the inbox, which nobody holds but the region itself; nothing when it had none."""
    if not found.inbox_known_ms:
        return []
    left = f"{counted(found.inbox_remaining)} in {len(found.inbox_remaining)}"
    listed = f"{counted(found.inbox)} records in {len(found.inbox)} ranges"
    return [
        f"  inbox, known up to {when(found.inbox_known_ms)}: {listed} were not known to be moved; still not: {left}",
    ]


def matching(receipt: Receipt, found: Matches) -> RenderableType:
    """What a receipt means for an app."""
    contact = when(receipt.last_contact_ms)
    lines = [
        f"{found.acknowledged} acknowledgements against receipt {receipt.receipt_id} ({receipt.state}):",
        f"  affected    {len(found.affected):>10}   held by no survivor",
        f"  unknown     {len(found.unknown):>10}   acknowledged after the last contact ({contact})",
        f"  unaffected  {found.unaffected:>10}   of which {found.recovered} were missing and came back",
    ]
    if found.affected or found.unknown:
        lines.append("Publish them again with the same ids: whatever is there already counts once.")
    return Group(*map(Text, lines))


def chronicle(entries: Sequence[Entry]) -> RenderableType:
    """The history, one line an entry."""
    if not entries:
        return Text("Nothing has happened yet.")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("#", "when (UTC)", "epoch", "kind", "by", "what"):
        table.add_column(column, justify="right" if column == "#" else "left")
    for entry in entries:
        table.add_row(
            str(entry.sequence),
            when(entry.at_ms),
            f"{entry.epoch[0]}.{entry.epoch[1]}" if entry.epoch else "",
            entry.kind,
            entry.by or entry.region,
            entry.sentence,
        )
    return table


def counted(ranges: Sequence[Range]) -> str:
    """Return the events in ranges; `at least N` when some were not counted."""
    known = sum(found.events or 0 for found in ranges)
    return f"{known}" if all(found.events is not None for found in ranges) else f"at least {known}"


def show(what: RenderableType) -> None:
    """Print it; never cut lines when the output is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)
    console.print(what, markup=False, highlight=False)
