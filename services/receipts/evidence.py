"""From what every region's replicator reports to what the receipts need to know.

Several survivors may each know something that the others do not: one holds more, another saw a later end. Each number
is therefore the largest of all reports, and a count of events is taken only from a report about exactly that range.
Logs of rankings and of what could not be read hold no events: their ranges are listed and count as none.

A copy of a log that was cut may have gone on behind the cut before anybody noticed. Its records from there on are not
those that were acknowledged under these offsets, so they count for nothing here.
"""

from collections.abc import Iterable, Mapping, Sequence

from services.coordination.lives import Life, LogCut
from services.receipts.core import Contact, Ends, LogEvidence
from services.receipts.model import Receipt
from services.replicator.client import LogReport, PartitionReport, ReplicationReport
from streams.logs import events_log

EVENTS = events_log("")


def log_evidence(
    log: str, reports: Iterable[ReplicationReport], acknowledged_ends: Ends, cuts: Iterable[LogCut] = ()
) -> LogEvidence:
    """Return what survivors and the coordination store know of one log.

    `reports`: of the regions that survive, each the newest there is. `acknowledged_ends`: as recorded in the store.
    `cuts`: of the life that wrote it.
    """
    cuts = list(cuts)
    found = _reports_of(log, reports)
    held: dict[int, int] = {}
    known = dict(acknowledged_ends)
    for part in _partitions(found):
        held[part.partition] = max(held.get(part.partition, 0), _genuine(log, part, cuts))
        known[part.partition] = max(known.get(part.partition, 0), part.origin_end)
    events: dict[int, int | None] = {}
    for part in _partitions(found):
        exact = part.held == held[part.partition] and part.origin_end == known[part.partition]
        if exact and part.lag_events is not None:
            events[part.partition] = part.lag_events
    if not log.endswith(EVENTS):
        events = dict.fromkeys(known, 0)
    last_contact_ms = max((report.last_contact_ms for report in found), default=0)
    return LogEvidence(log, held, known, events, last_contact_ms)


def held_by_log(
    receipt: Receipt, reports: Mapping[str, ReplicationReport], lives: Iterable[Life] = ()
) -> dict[str, dict[int, int]]:
    """Return, for the logs of a receipt, the longest prefix that any region (by name in `reports`) holds as a copy."""
    cuts = [cut for life in lives if life.incarnation == receipt.incarnation for cut in life.cuts]
    held: dict[str, dict[int, int]] = {}
    for log in _logs_of(receipt):
        for part in _partitions(_reports_of(log, reports.values())):
            ends = held.setdefault(log, {})
            ends[part.partition] = max(ends.get(part.partition, 0), _genuine(log, part, cuts))
    return held


def contact_of(receipt: Receipt, reports: Mapping[str, ReplicationReport], regions: Sequence[str]) -> Contact:
    """Return what is known of the receipt's incarnation now.

    `reports`: by region, only those fresh enough to be believed. `regions`: all that the deployment has; those that
    did not report are unheard, as are those that do not know yet what they hold of these logs: a replicator that has
    just started says nothing of them. The region of the receipt itself, back in a new life, counts like any other.
    """
    unheard = _unheard(receipt, reports, regions)
    contacts: list[int] = []
    ends: dict[str, dict[int, int]] = {}
    for log in _logs_of(receipt):
        heard = [found for found in _reports_of(log, reports.values()) if found.reachable and not found.sealed]
        if not heard:
            return Contact(0, {}, unheard)
        freshest = max(heard, key=lambda found: found.last_contact_ms)
        contacts.append(freshest.last_contact_ms)
        ends[log] = {part.partition: part.origin_end for part in freshest.partitions}
    return Contact(min(contacts, default=0), ends, unheard)


def _unheard(receipt: Receipt, reports: Mapping[str, ReplicationReport], regions: Sequence[str]) -> list[str]:
    return [region for region in regions if not says_all(_logs_of(receipt), reports.get(region))]


def says_all(logs: Iterable[str], report: ReplicationReport | None) -> bool:
    """Whether a region says what it holds of all `logs`; until its replicator has looked, it seems to hold nothing."""
    found = [report.log(name) for name in logs] if report is not None else [None]
    return all(each is not None and each.walked for each in found)


def _genuine(log: str, part: PartitionReport, cuts: Iterable[LogCut]) -> int:
    """What a copy holds of what was acknowledged."""
    own = [cut for cut in cuts if (cut.log, cut.partition) == (log, part.partition)]
    return min([part.held, *(cut.found for cut in own if 0 <= cut.leader_epoch <= part.leader_epoch)])


def _logs_of(receipt: Receipt) -> list[str]:
    return sorted({*receipt.known_ends, *(found.log for found in receipt.ranges)})


def _reports_of(log: str, reports: Iterable[ReplicationReport]) -> list[LogReport]:
    return [found for report in reports if (found := report.log(log)) is not None]


def _partitions(reports: Iterable[LogReport]) -> Iterable[PartitionReport]:
    return [part for report in reports for part in report.partitions]
