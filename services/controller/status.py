"""`meridian status` of a deployment: who is active, who could be, and what is under way."""

from __future__ import annotations

import sys
import time

import msgspec

from services.common.deployment import Deployment
from services.controller.answers import StatusAnswer
from services.controller.asking import NoController, Refused, ask
from services.controller.canary import in_short

WATCH_SECONDS = 1.0


def show(deployment: Deployment, *, as_json: bool, watch: bool) -> int:
    """Print it; 0: some region serves, 1: none does, or no controller answers. With `watch`, until Ctrl-C."""
    if watch:
        return _watch(deployment)
    try:
        raw = ask(deployment, "/v1/status")
    except (NoController, Refused) as problem:
        print(f"meridian status: {problem}", file=sys.stderr)
        return 1
    found = msgspec.json.decode(raw, type=StatusAnswer)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print(text(found))
    return 0 if found.leader is not None and found.leader.serving else 1


def text(found: StatusAnswer) -> str:
    """The answer in words and columns."""
    lines = [_headline(found)]
    if found.pause is not None:
        left = max(0, found.pause.until_ms - found.at_ms) / 1000
        lines.append(f"PAUSED by {found.pause.by} for another {left:.0f} s: {found.pause.reason}")
    if (operation := found.operation) is not None:
        what = f"{operation.kind} {operation.operation_id} to {operation.target}"
        lines.append(f"under way: {what}, {operation.state}, by {operation.by}: {operation.reason}")
    if found.receipts_open:
        lines.append(f"receipts open: {found.receipts_open} (`meridian receipts list`)")
    lines.append(f"{'region':<12}{'role':<10}{'incarnation':<14}{'lag':<20}{'canary':<16}could take over")
    for line in found.regions:
        lag = "unknown" if line.lag_events is None else f"{line.lag_events} events, {line.lag_seconds or 0:.0f} s"
        could = "-" if line.role == "active" else line.blocker or "yes"
        lines.append(
            f"{line.region:<12}{line.role:<10}{line.incarnation:<14}{lag:<20}{in_short(line.canary):<16}{could}"
        )
    for line in found.regions:
        if line.canary is not None and line.canary.problem:
            ago = max(0, found.at_ms - line.canary.at_ms) / 1000
            lines.append(f"canary of {line.region}, {ago:.0f} s ago: {line.canary.problem}")
    where = found.etcd_leader or "not known"
    lines.append(f"etcd leads from {where}; {found.region}'s controller: {found.sentence}")
    return "\n".join(lines)


def _headline(found: StatusAnswer) -> str:
    age = found.view_age_seconds
    if age is None or age > 3:
        since = "" if age is None else f" for {age:.0f} s"
        return f"the coordination store is silent{since}: see docs/operating/lost-quorum.md"
    if found.leader is None:
        return "NO REGION IS ACTIVE (`meridian explain` says why)"
    doing = "serves" if found.leader.serving else "holds the lease and does not serve yet"
    return f"{found.leader.region} {doing}, epoch {found.leader.epoch[0]}:{found.leader.epoch[1]}"


def _watch(deployment: Deployment) -> int:
    from rich.live import Live
    from rich.text import Text

    def look() -> Text:
        try:
            return Text(text(msgspec.json.decode(ask(deployment, "/v1/status"), type=StatusAnswer)))
        except (NoController, Refused) as problem:
            return Text(str(problem))

    try:
        with Live(look(), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(WATCH_SECONDS)
                live.update(look(), refresh=True)
    except KeyboardInterrupt:
        return 0
