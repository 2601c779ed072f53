"""From what was heard to what is shown: pure, and the only place that decides what counts as known.

Two rules carry it. What was not heard for `FRESH_SECONDS` is unknown, whatever it said before. And of several
controllers that say different things, the one counts that the coordination store has confirmed lately and that knows
the largest epoch; among equals, whoever learned something last. So a region that is cut off, and still believes in its
old lease, never outvotes the others.
"""

from __future__ import annotations

from typing import Final

from services.common.deployment import Deployment
from services.console import wording
from services.console.said import Epoch, LeaderSaid, RegionSaid, StatusSaid
from services.console.shapes import (
    Arrow,
    CopyLine,
    Headline,
    Level,
    Operating,
    Picture,
    ProcessLine,
    Promotable,
    RegionLine,
    SiteLine,
    Times,
)
from services.console.watch import RegionSeen, Seen

FRESH_SECONDS: Final = 3.0
STORE_SECONDS_MAX: Final = 3.0
"""As in `meridian status`: a view that the store confirmed longer ago says nothing of now."""
_WORST: Final[list[Level]] = ["good", "warning", "unknown", "bad"]


def picture(deployment: Deployment, seen: Seen, operating: Operating, now_seconds: float) -> Picture:
    """Return what is shown at `now_seconds` of the console's monotonic clock."""
    best = best_view(seen, now_seconds)
    known = best is not None and _view_age(best, now_seconds) <= STORE_SECONDS_MAX
    leader = _leader(best)
    status = _status(seen, best, now_seconds)
    regions = [
        _region_line(site.name, seen, status, leader if known else None, now_seconds, known=known)
        for site in deployment.regions
    ]
    copies = _copies(seen, now_seconds)
    return Picture(
        deployment_id=deployment.deployment_id,
        headline=_headline(seen, best, regions, now_seconds, known=known),
        active=leader.region if leader is not None else "",
        serving=known and leader is not None and leader.serving,
        known=known,
        epoch=_epoch(best, leader),
        controllers_answering=answering(seen, now_seconds),
        worst_lag_words=_worst_lag(regions),
        pause=status.pause if status is not None else None,
        operation=status.operation if status is not None else None,
        regions=regions,
        sites=_sites(deployment, seen, status if known else None),
        arrows=_arrows(deployment, copies, seen, now_seconds),
        copies=copies,
        alarms=[alarm for region in seen.regions.values() if (r := region.replication.value) for alarm in r.alarms],
        history=seen.history.value.entries[::-1] if seen.history.value is not None else [],
        history_broken=seen.history.value.broken if seen.history.value is not None else "",
        history_problem=seen.history.problem,
        receipts=sorted(
            seen.receipts.value.receipts if seen.receipts.value is not None else [],
            key=lambda receipt: (receipt.state != "open", -receipt.created_ms),
        ),
        receipts_open=_receipts_open(seen, status),
        receipts_problem=seen.receipts.problem,
        drills=seen.drills,
        operating=operating,
    )


def times(seen: Seen, now_seconds: float, unix_ms: int) -> Times:
    """Return the instants that the page counts from."""
    best = best_view(seen, now_seconds)
    holder = seen.regions.get(leader.region) if (leader := _leader(best)) is not None else None
    until = None
    if holder is not None and holder.lease.value is not None and holder.lease.value.active:
        until = holder.lease.at_seconds + holder.lease.value.remaining_ms / 1000
    confirmed = now_seconds - _view_age(best, now_seconds) if best is not None else None
    records = min(seen.history.at_seconds, seen.receipts.at_seconds)
    return Times(
        now_ms=_ms(now_seconds) or 0,
        unix_ms=unix_ms,
        lease_until_ms=_ms(until),
        store_confirmed_ms=_ms(confirmed),
        heard_ms={name: _ms(region.lease.at_seconds) for name, region in seen.regions.items()},
        records_ms=_ms(records),
    )


def answering(seen: Seen, now_seconds: float) -> int:
    """How many controllers answer."""
    return sum(_answers(region, now_seconds) for region in seen.regions.values())


def best_view(seen: Seen, now_seconds: float) -> RegionSeen | None:
    """Whose word about the lease counts; None when nobody was heard lately."""
    heard = [region for region in seen.regions.values() if region.lease.is_fresh(now_seconds, FRESH_SECONDS)]

    def weight(region: RegionSeen) -> tuple[bool, Epoch, float]:
        said = region.lease.value
        assert said is not None
        leader = said.leader.epoch if said.leader is not None else said.largest_epoch
        is_confirmed = _view_age(region, now_seconds) <= STORE_SECONDS_MAX
        return is_confirmed, max(leader, said.largest_epoch), region.lease_changed_at

    return max(heard, key=weight, default=None)


def _answers(region: RegionSeen, now_seconds: float) -> bool:
    return not region.lease.problem and region.lease.is_fresh(now_seconds, FRESH_SECONDS)


def _view_age(region: RegionSeen, now_seconds: float) -> float:
    said = region.lease.value
    assert said is not None
    return said.view_age_ms / 1000 + max(0.0, now_seconds - region.lease.at_seconds)


def _leader(best: RegionSeen | None) -> LeaderSaid | None:
    return best.lease.value.leader if best is not None and best.lease.value is not None else None


def _epoch(best: RegionSeen | None, leader: LeaderSaid | None) -> Epoch | None:
    if leader is not None:
        return leader.epoch
    said = best.lease.value if best is not None else None
    return said.largest_epoch if said is not None and said.largest_epoch[0] >= 0 else None


def _status(seen: Seen, best: RegionSeen | None, now_seconds: float) -> StatusSaid | None:
    """The status of whose word counts, or else of anybody who answers."""
    order = [best] if best is not None else []
    order += sorted(seen.regions.values(), key=lambda region: -region.status.at_seconds)
    fresh = [region.status.value for region in order if region.status.is_fresh(now_seconds, FRESH_SECONDS)]
    return next((found for found in fresh if found is not None), None)


def _receipts_open(seen: Seen, status: StatusSaid | None) -> int | None:
    if not seen.receipts.problem and seen.receipts.value is not None:
        return sum(receipt.state == "open" for receipt in seen.receipts.value.receipts)
    return status.receipts_open if status is not None else None


def _headline(
    seen: Seen, best: RegionSeen | None, regions: list[RegionLine], now_seconds: float, *, known: bool
) -> Headline:
    if best is None:
        said = "; ".join(
            f"{name}: {region.lease.problem or 'not heard lately'}" for name, region in seen.regions.items()
        )
        return Headline(
            level="unknown",
            title="No controller answers",
            sentence=f"Which region is active is not known. {said}.",
            next_step="`meridian status` looks at the processes themselves.",
        )
    if not known:
        age = _view_age(best, now_seconds)
        since = "has not been heard yet" if age > 86_400 else f"was last heard {wording.seconds(age)} ago"
        return Headline(
            level="unknown",
            title="The coordination store is silent",
            sentence=f"It {since}, so which region is active is not known, and nothing can be decided safely.",
            next_step="docs/operating/lost-quorum.md says what to do.",
        )
    leader = _leader(best)
    could = _successors(regions)
    if leader is None:
        return Headline(
            level="bad",
            title="No region is active",
            sentence=could,
            next_step="The conditions of each region stand below; `meridian explain` prints them.",
        )
    holder = seen.regions.get(leader.region)
    if holder is None or not _answers(holder, now_seconds):
        title = f"{leader.region} holds the lease, but its controller does not answer"
        return Headline(level="warning", title=title, sentence=could)
    if not leader.serving:
        title = f"{leader.region} holds the lease and does not serve yet"
        return Headline(level="warning", title=title, sentence=could)
    return _serving(leader.region, regions, could)


def _serving(name: str, regions: list[RegionLine], could: str) -> Headline:
    """Of a region that says that it serves: a gate that is open is a word, a search that came back the thing itself."""
    line = next((region for region in regions if region.name == name), None)
    if line is not None and line.canary_level == "bad":
        title = f"{name} is active, but its canary does not come back"
        return Headline(level="warning", title=title, sentence=f"Its canary {line.canary_words}. {could}")
    is_safe = any(region.promotable == "yes" for region in regions)
    return Headline(level="good" if is_safe else "warning", title=f"{name} serves", sentence=could)


def _successors(regions: list[RegionLine]) -> str:
    """Is it safe to fail over now? In one sentence."""
    able = [region for region in regions if region.promotable == "yes"]
    if able:
        ready = ", ".join(f"{region.name} ({region.lag_words} behind)" for region in able)
        return f"Ready to take over: {ready}."
    others = [region for region in regions if region.promotable in {"no", "unknown"}]
    reasons = "; ".join(f"{region.name}: {region.blocker}" for region in others)
    return f"No other region could take over now. {reasons}." if others else "There is no other region."


def _worst_lag(regions: list[RegionLine]) -> str:
    if any(region.lag_events is None for region in regions):
        return wording.UNKNOWN
    worst = max(regions, key=lambda region: (region.lag_events or 0, region.lag_seconds or 0.0), default=None)
    return worst.lag_words if worst is not None else wording.UNKNOWN


def _region_line(
    name: str, seen: Seen, status: StatusSaid | None, leader: LeaderSaid | None, now_seconds: float, *, known: bool
) -> RegionLine:
    region = seen.regions[name]
    answers = _answers(region, now_seconds)
    own = region.status.value if answers and region.status.is_fresh(now_seconds, FRESH_SECONDS) else None
    said_by = own or status
    line = said_by.line(name) if said_by is not None else None
    is_active = leader is not None and leader.region == name
    promotable, blocker = _promotable(region, line, is_active=is_active, answers=answers)
    if not known:
        silent = "the coordination store is silent" if answering(seen, now_seconds) else "no controller answers"
        promotable, blocker = "unknown", f"{silent}, so nothing can be decided"
    lag_level, lag_words = wording.lag(line)
    canary = line.canary if line is not None else None
    canary_level, canary_words = wording.canary(
        canary, said_by.at_ms if said_by is not None else 0, is_active=is_active
    )
    explained = region.explain.value if answers and region.explain.is_fresh(now_seconds, FRESH_SECONDS) else None
    return RegionLine(
        name=name,
        role="active" if is_active else "unknown" if not known else "passive" if answers else "silent",
        serving=is_active and leader is not None and leader.serving,
        incarnation=line.incarnation if line is not None else "",
        gateway_url=line.gateway_url if line is not None else "",
        heard="" if answers else f"its controller does not answer: {region.lease.problem or 'not heard lately'}",
        promotable=promotable,
        blocker=blocker,
        lag_level=lag_level,
        lag_words=lag_words,
        lag_events=line.lag_events if line is not None else None,
        lag_seconds=line.lag_seconds if line is not None else None,
        canary=canary,
        canary_level=canary_level,
        canary_words=canary_words,
        forecast=line.rto_forecast if line is not None else None,
        forecast_words=wording.forecast(line.rto_forecast if line is not None else None),
        sentence=own.sentence if own is not None else "",
        conditions=explained.predicates if explained is not None else [],
        processes=[ProcessLine(name=p, state=r.state, reason=r.reason) for p, r in region.processes.items()],
        models=wording.models(region.champion, is_fresh=region.champion.is_fresh(now_seconds, 2 * FRESH_SECONDS)),
    )


def _promotable(
    region: RegionSeen, line: RegionSaid | None, *, is_active: bool, answers: bool
) -> tuple[Promotable, str]:
    """`yes` only on a word that was heard lately; everything else says why not, or why it is not known."""
    if is_active:
        return "active", ""
    if line is None:
        return "unknown", f"no controller says anything of it ({region.lease.problem or 'not heard lately'})"
    if line.blocker:
        return "no", line.blocker
    if not answers:
        return "unknown", f"its controller does not answer: {region.lease.problem or 'not heard lately'}"
    return "yes", ""


def _sites(deployment: Deployment, seen: Seen, status: StatusSaid | None) -> list[SiteLine]:
    leads = status.etcd_leader if status is not None else None
    return [
        SiteLine(name=site.name, kind=site.kind, state=found.state, reason=found.reason, leads=leads == site.name)
        for site in deployment.sites
        for found in [seen.etcd[site.name]]
    ]


def _copies(seen: Seen, now_seconds: float) -> list[CopyLine]:
    return [
        wording.copy_line(report, log, is_fresh=region.replication.is_fresh(now_seconds, FRESH_SECONDS))
        for region in seen.regions.values()
        if (report := region.replication.value) is not None
        for log in report.logs
    ]


def _arrows(deployment: Deployment, copies: list[CopyLine], seen: Seen, now_seconds: float) -> list[Arrow]:
    """One for each ordered pair of regions, so that a copying that is missing is seen as well."""
    found = []
    for target in deployment.regions:
        fresh = seen.regions[target.name].replication.is_fresh(now_seconds, FRESH_SECONDS)
        for source in deployment.peers_of(target.name):
            lines = [
                line
                for line in copies
                if line.target == target.name and not line.is_over and source.name in {line.source, line.origin}
            ]
            # A region that was wiped is still the origin of its log, which may come from elsewhere by now.
            lines = [line for line in lines if line.source in {"", source.name}] or lines
            found.append(_arrow(source.name, target.name, lines, seen, is_fresh=fresh))
    return found


def _arrow(source: str, target: str, lines: list[CopyLine], seen: Seen, *, is_fresh: bool) -> Arrow:
    if not is_fresh:
        why = seen.regions[target].replication.problem or "not heard lately"
        said = f"unknown: the replicator says nothing ({why})"
        return Arrow(source=source, target=target, level="unknown", label="unknown", words=said)
    if not lines:
        return Arrow(source=source, target=target, level="unknown", label="nothing", words="nothing is copied")
    worst = max(lines, key=lambda line: (_WORST.index(line.level), line.lag_events or 0))
    return Arrow(source=source, target=target, level=worst.level, label=worst.label, words=worst.words)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None or seconds in {float("inf"), float("-inf")} else int(seconds * 1000)
