"""The first screen of `meridian status`, in words and columns: what an operator wants to know before doing anything.

Who is active and whether the votes are there; for each region whether it is well, how far behind, how soon rankings
would come from it and whether it may be promoted; what was decided last. No colour says anything that a word does not.
"""

from __future__ import annotations

from services.controller.answers import RegionLine, StatusAnswer
from services.controller.canary import in_short
from services.controller.surroundings import Surroundings, Work

UNKNOWN = "unknown"
COLUMNS = (
    ("region", 10),
    ("role", 9),
    ("health", 10),
    ("lease", 7),
    ("replication lag", 20),
    ("stream lag", 18),
    ("scoring p99", 19),
    ("canary", 16),
    ("RTO forecast", 20),
    ("can promote?", 0),
)


def screen(found: StatusAnswer, around: Surroundings, deployment_id: str) -> list[str]:
    """The lines."""
    lines = [_header(found, around, deployment_id), ""]
    lines += _notices(found)
    lines.append("".join(f"{name:<{width}}" for name, width in COLUMNS).rstrip())
    for line in found.regions:
        cells = _cells(line, found, around)
        widths = (width for _, width in COLUMNS)
        lines.append(
            "".join(f"{cell:<{max(1, width - 1)}} " for cell, width in zip(cells, widths, strict=False)).rstrip()
        )
    lines += _problems(found)
    lines += ["", "last decisions"]
    if around.decisions is None:
        lines.append("  not known: no controller shows the history")
    elif not around.decisions:
        lines.append("  none yet")
    else:
        lines += [f"  {_ago(found.at_ms - each.at_ms):>9}  {each.sentence}" for each in around.decisions]
    where = found.etcd_leader or "a place that is not known"
    lines += ["", f"etcd leads from {where}; {found.region}'s controller: {found.sentence}"]
    return lines


def headline(found: StatusAnswer) -> str:
    """Who is active, or why nobody is known to be."""
    age = found.view_age_seconds
    if age is None or age > 3:
        since = "" if age is None else f" for {age:.0f} s"
        return f"the coordination store is silent{since}: see docs/operating/lost-quorum.md"
    if found.leader is None:
        return "NO REGION IS ACTIVE (`meridian explain` says why)"
    doing = "serves" if found.leader.serving else "holds the lease and does not serve yet"
    return f"{found.leader.region} {doing}, epoch {found.leader.epoch[0]}:{found.leader.epoch[1]}"


def forecast_cell(line: RegionLine) -> str:
    """The forecast in a few words."""
    if line.role == "active":
        return "-"
    found = line.rto_forecast
    if found is None:
        return UNKNOWN
    error = "" if found.error_seconds is None else f"±{found.error_seconds:.1f}"
    return f"{found.seconds:.1f}{error} s, max {found.seconds_max:.1f}"


def _header(found: StatusAnswer, around: Surroundings, deployment_id: str) -> str:
    enough = "" if around.members_answering > around.members // 2 else " NO QUORUM"
    mode = "automatic" if found.pause is None else "PAUSED"
    if not around.members:
        enough = " (nobody was asked)"
    votes = f"coordination {around.members_answering}/{around.members}{enough}"
    return f"deployment {deployment_id or 'without a name'} | {headline(found)} | {votes} | {mode}"


def _notices(found: StatusAnswer) -> list[str]:
    lines = []
    if found.pause is not None:
        left = max(0, found.pause.until_ms - found.at_ms) / 1000
        lines.append(f"PAUSED by {found.pause.by} for another {left:.0f} s: {found.pause.reason}")
    if (operation := found.operation) is not None:
        what = f"{operation.kind} {operation.operation_id} to {operation.target}"
        lines.append(f"under way: {what}, {operation.state}, by {operation.by}: {operation.reason}")
    if found.receipts_open:
        lines.append(f"receipts open: {found.receipts_open} (`meridian receipts list`)")
    return lines


def _cells(line: RegionLine, found: StatusAnswer, around: Surroundings) -> list[str]:
    active = line.role == "active"
    left = around.lease_left_seconds if active else None
    lag = UNKNOWN if line.lag_events is None else f"{line.lag_events} events, {line.lag_seconds or 0:.0f} s"
    work = around.work.get(line.region, Work())
    health = "silent" if line.role == "silent" else "well" if not line.blocker else "IMPAIRED"
    return [
        line.region,
        line.role,
        health,
        f"{left:.1f} s" if left is not None else UNKNOWN if active else "-",
        lag,
        _stream_lag(work),
        _scoring(work),
        in_short(line.canary, found.at_ms),
        forecast_cell(line),
        _promotable(line, found),
    ]


def _promotable(line: RegionLine, found: StatusAnswer) -> str:
    if line.role == "active":
        return "it is active" if not line.blocker else f"it is active, and not well: {line.blocker}"
    if line.blocker:
        return f"no: {line.blocker}"
    return "yes" if found.pause is None else "only by an operator: paused"


def _stream_lag(work: Work) -> str:
    if work.waiting_records is None:
        return UNKNOWN
    return f"{work.waiting_records} records, {work.stream_lag_seconds or 0:.0f} s"


def _scoring(work: Work) -> str:
    if work.scoring_p99_ms is None:
        return f"no requests {_device(work)}".rstrip() if work.device else UNKNOWN
    return f"≤{work.scoring_p99_ms:g} ms {_device(work)}".rstrip()


def _device(work: Work) -> str:
    return f"{work.device.upper()}-FALLBACK" if work.fell_back else work.device


def _problems(found: StatusAnswer) -> list[str]:
    lines = []
    for line in found.regions:
        if line.canary is not None and line.canary.problem:
            ago = max(0, found.at_ms - line.canary.at_ms) / 1000
            lines.append(f"canary of {line.region}, {ago:.0f} s ago: {line.canary.problem}")
        if line.rto_forecast is not None:
            lines.append(f"forecast of {line.region}: {line.rto_forecast.because}")
        elif line.rto_unknown and line.rto_unknown != line.blocker and line.role == "passive":
            lines.append(f"no forecast of {line.region}: {line.rto_unknown}")
    return lines


def _ago(ms: int) -> str:
    seconds = max(0, ms) / 1000
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} m ago" if seconds < 7_200 else f"{seconds / 3_600:.0f} h ago"
