"""The promise over several regions: nothing acknowledged is lost without being listed, and nothing counts twice.

Every region is asked on its own: its raw logs, whoever wrote them, hold each acknowledged event, or a receipt lists
it. An event is listed when its coordinates lie in a receipt's range, or when it was acknowledged after the last contact
with an incarnation that did not come back. Loss means that *no* region holds it and no receipt lists it.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from services.common.clock import Clock, SystemClock
from services.ledger.acks import Ack, read_acks
from services.ledger.count import EventKey, LogCount, LogCounter, Place, key_of
from services.ledger.rawlog import RawLog
from services.ledger.region import claims_covering
from services.ledger.verdict import Claims, Verdict
from services.receipts.model import Receipt
from streams.copies import hole_end

AGAIN_SECONDS = 0.2


class RegionAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a region can be asked."""

    region: str
    bootstrap: str
    processor_url: str


class RegionFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One region. Numbers that need its own word are None while it has not given it."""

    region: str
    events_in_logs: int
    copies_in_logs: int
    """Rows beyond the first of each identity, over all logs: repetitions that must count once."""
    events_folded: int | None
    events_counted_twice: int | None
    events_not_folded: int | None
    missing: int
    """Acknowledged events that this region does not hold."""
    missing_unlisted: int
    digest: str
    frontier: list[tuple[str, int, int]]
    uncovered: str
    """Why its frontier does not reach the end of its logs; empty when it does."""


class DeploymentLedger(msgspec.Struct, frozen=True, kw_only=True):
    """The whole finding."""

    verdict: str
    sentence: str
    events_acknowledged: int
    events_lost: int
    """Held by no region and listed by no receipt."""
    events_listed: int
    """Held by no region, and listed."""
    digests_equal: bool | None
    """None while the regions do not stand at the same frontier."""
    regions: list[RegionFinding]


def is_listed(acks: Iterable[Ack], receipts: Sequence[Receipt]) -> bool:
    """Whether every place where an event was acknowledged is accounted for by a receipt."""
    return all(any(_covers(receipt, ack) for receipt in receipts) for ack in acks)


def _covers(receipt: Receipt, ack: Ack) -> bool:
    if ack.log.rpartition(".")[0] != receipt.incarnation:
        return False
    if any(r.log == ack.log and r.partition == ack.partition and r.start <= ack.offset < r.end for r in receipt.ranges):
        return True
    came_back = receipt.state == "healed"
    # A receipt whose writer never heard of the incarnation names no time: it would excuse everything.
    names_a_time = receipt.last_contact_ms > 0 and receipt.kind != "hole"
    return not came_back and names_a_time and ack.acknowledged_ms > receipt.last_contact_ms


async def examine_deployment(
    acks: Path,
    regions: Sequence[RegionAddress],
    receipts: Sequence[Receipt],
    *,
    wait_seconds: float = 60.0,
    clock: Clock | None = None,
) -> DeploymentLedger:
    """Count everything about all regions that are there. Raises LedgerError when that cannot be done."""
    places: dict[EventKey, list[Ack]] = {}
    for ack in read_acks(acks):
        places.setdefault(key_of(ack), []).append(ack)
    claimed = await _claims(regions, wait_seconds, clock or SystemClock())
    looked = [await _look(region, places, *claimed[region.region]) for region in regions]
    return judge_deployment(places, looked, receipts)


Claimed = tuple[Claims | None, str | None]
"""What a region says of itself, and why that does not reach the end of its logs."""


async def _claims(regions: Sequence[RegionAddress], wait_seconds: float, clock: Clock) -> dict[str, Claimed]:
    """What all regions say of themselves, at one frontier if that can be had in time.

    Logs go on by themselves (canaries), so two questions one after the other are as good as never about the same
    frontier: all regions are asked at once, again and again.
    """
    needed = [await _ends(region) for region in regions]
    deadline = clock.monotonic() + wait_seconds
    while True:
        left = max(0.0, deadline - clock.monotonic())
        said = await asyncio.gather(
            *(claims_covering(r.processor_url, ends, left, clock) for r, ends in zip(regions, needed, strict=True))
        )
        frontiers = [[row for row in claims.frontier if row[2]] for claims, _ in said if claims is not None]
        at_one = len(frontiers) == len(said) and all(frontier == frontiers[0] for frontier in frontiers)
        if at_one or clock.monotonic() >= deadline:
            return {region.region: claimed for region, claimed in zip(regions, said, strict=True)}
        await clock.sleep(AGAIN_SECONDS)


async def _ends(address: RegionAddress) -> dict[Place, int]:
    """Where the events logs that a region holds end now."""
    ends: dict[Place, int] = {}
    for log in await asyncio.to_thread(_events_logs, address.bootstrap):
        found = await asyncio.to_thread(RawLog(address.bootstrap, log).ends)
        ends |= {(log, partition): end for partition, end in found.items() if end}
    return ends


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one region."""

    region: str
    count: LogCount
    missing: frozenset[EventKey]
    claims: Claims | None
    uncovered: str


async def _look(
    address: RegionAddress, places: Mapping[EventKey, list[Ack]], claims: Claims | None, uncovered: str | None
) -> Looked:
    logs = await asyncio.to_thread(_events_logs, address.bootstrap)
    raws = [RawLog(address.bootstrap, log) for log in logs]
    counter = LogCounter(logs, [ack for acks in places.values() for ack in acks])
    await asyncio.to_thread(_read_all, raws, counter, claims.places() if claims is not None else {})
    return Looked(
        region=address.region,
        count=counter.result(),
        missing=frozenset(counter.missing()),
        claims=claims,
        uncovered=uncovered or "",
    )


def _events_logs(bootstrap: str) -> list[str]:
    return [name for name in RawLog(bootstrap, "").names() if name.endswith(".events")]


def _read_all(raws: Iterable[RawLog], counter: LogCounter, frontier: Mapping[Place, int]) -> None:
    """What lies beyond the frontier only clears acknowledgements."""
    for raw in raws:
        for record in raw.read(raw.ends()):
            if hole_end(record.headers) is None:
                counted = record.offset < frontier.get((record.log, record.partition), 0)
                counter.take(record, counted=counted)


def judge_deployment(
    places: Mapping[EventKey, list[Ack]], looked: Sequence[Looked], receipts: Sequence[Receipt]
) -> DeploymentLedger:
    """Hold the regions against the acknowledgements and the receipts. Pure."""
    listed = {
        key
        for key in frozenset[EventKey]().union(*(region.missing for region in looked))
        if is_listed(places[key], receipts)
    }
    everywhere_missing = frozenset.intersection(*(region.missing for region in looked)) if looked else frozenset()
    findings = [_finding(region, listed) for region in looked]
    frontiers = [finding.frontier for finding in findings]
    at_one = bool(findings) and all(frontier == frontiers[0] for frontier in frontiers)
    digests_equal = len({finding.digest for finding in findings}) == 1 if at_one else None
    verdict, sentence = _conclude(len(places), findings, len(everywhere_missing - listed), digests_equal)
    return DeploymentLedger(
        verdict=verdict.value,
        sentence=sentence,
        events_acknowledged=len(places),
        events_lost=len(everywhere_missing - listed),
        events_listed=len(everywhere_missing & listed),
        digests_equal=digests_equal,
        regions=findings,
    )


def _finding(region: Looked, listed: set[EventKey]) -> RegionFinding:
    count, claims = region.count, region.claims
    items_missed = max(count.item_rows - claims.item_events, 0) if claims else 0
    return RegionFinding(
        region=region.region,
        events_in_logs=count.distinct_events + count.distinct_items,
        copies_in_logs=count.rows - count.distinct_events - count.distinct_items,
        events_folded=claims.events + max(count.distinct_items - items_missed, 0) if claims else None,
        events_counted_twice=max(claims.events - count.distinct_events, 0) if claims else None,
        events_not_folded=max(count.distinct_events - claims.events - claims.late, 0) + items_missed
        if claims
        else None,
        missing=len(region.missing),
        missing_unlisted=len(region.missing - listed),
        digest=claims.digest if claims else "",
        frontier=[row for row in claims.frontier if row[2]] if claims else [],
        uncovered=region.uncovered,
    )


def _conclude(
    acknowledged: int,
    findings: Sequence[RegionFinding],
    lost: int,
    digests_equal: bool | None,  # noqa: FBT001 - a finding, no switch
) -> tuple[Verdict, str]:
    wrong = [
        *(f"{f.region} counted {f.events_counted_twice} events twice" for f in findings if f.events_counted_twice),
        *([f"{lost} acknowledged events are in no region and on no receipt"] if lost else []),
    ]
    unknown = [f"{f.region}: {f.uncovered or 'it does not say'}" for f in findings if f.uncovered or not f.digest]
    if not wrong and not unknown:
        wrong = [
            *(
                f"{f.region} does not hold {f.missing_unlisted} acknowledged events that no receipt lists"
                for f in findings
                if f.missing_unlisted
            ),
            *(f"{f.region} did not count {f.events_not_folded} events" for f in findings if f.events_not_folded),
            *(["the regions hold different states at the same frontier"] if digests_equal is False else []),
        ]
    if wrong:
        return Verdict.INVALID, "; ".join(wrong)
    if digests_equal is None:
        unknown.append("the regions do not stand at the same frontier")
    if acknowledged == 0:
        unknown.append("there is not one acknowledgement to hold against the logs")
    if unknown:
        return Verdict.UNKNOWN, f"nothing is proven: {'; '.join(unknown)}"
    return (
        Verdict.VALID,
        f"all {acknowledged:,} acknowledged events are in every region or on a receipt, and each counted once",
    )
