"""Words for numbers, and what each means: pure functions, so that "unknown" is decided in one place."""

from __future__ import annotations

from typing import NamedTuple

from services.console.asking import Heard
from services.console.said import CanarySaid, ForecastSaid, RegionSaid
from services.console.shapes import CopyLine, Level, ModelLine
from services.inference.report import ChampionReport, ServingVersion
from services.replicator.client import LogReport, ReplicationReport

UNKNOWN = "unknown"
CONTACT_SECONDS_MAX = 3.0
"""An origin that was not heard for longer may hold anything."""
CANARY_SECONDS_MAX = 15.0
"""A canary that is older says nothing of now."""


def seconds(value: float) -> str:
    """A duration in words: `0.4 s`, `12 s`, `3 min`."""
    if value < 10:
        return f"{max(0.0, value):.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def events(count: int) -> str:
    """A number of events: `1 event`, `12,345 events`."""
    return f"{count:,} event{'' if count == 1 else 's'}"


def lag(line: RegionSaid | None) -> tuple[Level, str]:
    """How far a region is behind; none is good, some is a warning, unknown is unknown."""
    if line is None or line.lag_events is None:
        return "unknown", UNKNOWN
    behind = line.lag_seconds or 0.0
    level: Level = "good" if line.lag_events == 0 and behind < 1.0 else "warning"
    return level, f"{events(line.lag_events)}, {seconds(behind)}"


def canary(found: CanarySaid | None, at_ms: int, *, is_active: bool) -> tuple[Level, str]:
    """How the last canary went; `at_ms` is when the controller said so, by its clock."""
    if found is None or found.at_ms <= 0:
        return "unknown", UNKNOWN
    age_seconds = max(0.0, (at_ms - found.at_ms) / 1000)
    lost = f", {found.lost:,} of {found.sent:,} lost so far" if found.lost else ""
    if age_seconds > CANARY_SECONDS_MAX:
        return "unknown", f"the last one was {seconds(age_seconds)} ago{lost}"
    if found.unknown:
        return "unknown", f"could not be sent: {found.problem}{lost}"
    if not found.reached:
        return "bad", f"did not arrive: {found.problem or 'no answer came'}{lost}"
    took = "" if found.latency_ms is None else f" in {found.latency_ms:.0f} ms"
    # One that arrived may still have something to say: that a lower rung scored it.
    noted = f", {found.problem}" if found.problem else ""
    at_gate = found.reached == "gate"
    level: Level = "warning" if noted or (at_gate and is_active) else "good"
    return level, f"{'reached the closed gate' if at_gate else 'answered'}{took}{noted}{lost}"


def forecast(found: ForecastSaid | None) -> str:
    """How long a failover to it would take, and what of that is what."""
    if found is None:
        return UNKNOWN
    parts = (
        f"{seconds(found.detection_seconds)} to notice + {seconds(found.lease_seconds)} of lease + "
        f"{seconds(found.replay_seconds)} of replay + {seconds(found.opening_seconds)} to open"
    )
    return f"{seconds(found.seconds)} ({parts})"


def models(heard: Heard[ChampionReport], *, is_fresh: bool) -> ModelLine:
    """Which versions rank, and whether that is proven."""
    found = heard.value
    if found is None or not is_fresh:
        why = f"the inference worker does not say ({heard.problem})" if heard.problem else "not heard lately"
        return _model_line("unknown", why, None)
    if found.blocker is not None:
        return _model_line("bad", found.blocker, found)
    if found.serving is None:
        return _model_line("bad", "no version serves", found)
    if found.named is None:
        return _model_line("warning", "no alias is set: the newest version that passed its golden set serves", found)
    rows = f"{found.serving.golden_rows:,} golden row{'' if found.serving.golden_rows == 1 else 's'}"
    return _model_line("good", f"the champion serves, proven by {rows}", found)


def _model_line(level: Level, said: str, found: ChampionReport | None) -> ModelLine:
    def version(which: ServingVersion | None) -> str:
        return which.version if which is not None else ""

    serving = found.serving if found is not None else None
    return ModelLine(
        level=level,
        words=said,
        named=found.named.version if found is not None and found.named is not None else "",
        serving=version(serving),
        golden_rows=serving.golden_rows if serving is not None else None,
        device=serving.device if serving is not None else "",
        challenger=version(found.challenger) if found is not None else "",
        shadow=version(found.shadow) if found is not None else "",
        standby=version(found.standby) if found is not None else "",
    )


def copy_line(report: ReplicationReport, found: LogReport, *, is_fresh: bool) -> CopyLine:
    """How far one copy is."""
    behind = _behind(found)
    said = _Said("unknown", "unknown", "its replicator does not answer")
    if is_fresh:
        said = _ended(found) if found.sealed else _living(report, found)
        if alarm := next((partition.alarm for partition in found.partitions if partition.alarm), ""):
            said = _Said("bad", "stopped", f"stopped: {alarm}")
    return CopyLine(
        log=found.log,
        source=found.source,
        origin=found.origin,
        target=report.region,
        level=said.level,
        label=said.label,
        words=said.words,
        lag_events=behind if is_fresh else None,
        is_over=found.sealed and found.caught_up,
    )


class _Said(NamedTuple):
    level: Level
    label: str
    words: str


def _behind(found: LogReport) -> int | None:
    # A record holds at least one event: with no record behind there is no event behind, whatever the gateway says.
    return 0 if found.lag_records == 0 else found.lag_events


def _missing(found: LogReport) -> str:
    behind = _behind(found)
    return f"at least {found.lag_records:,} events" if behind is None else events(behind)


def _ended(found: LogReport) -> _Said:
    if found.caught_up:
        return _Said("good", "complete", "complete: its life is over and all of it is here")
    return _Said("warning", f"{_missing(found)} to come", f"{_missing(found)} of an ended life still to come")


def _living(report: ReplicationReport, found: LogReport) -> _Said:
    if not found.last_contact_ms:
        return _Said("unknown", "never heard", "its origin was never heard")
    silent_seconds = (report.at_ms - found.last_contact_ms) / 1000
    if not found.reachable or silent_seconds > CONTACT_SECONDS_MAX:
        rest = f"; {_missing(found)} known to be missing" if found.lag_records else ""
        return _Said("bad", "cut off", f"out of reach for {seconds(silent_seconds)}{rest}")
    if not found.lag_records:
        return _Said("good", "level", "level: nothing behind")
    return _Said("warning", f"{_missing(found)} behind", f"{_missing(found)}, {seconds(found.lag_seconds)} behind")
