"""What `GET /v1/status` and `GET /v1/explain` answer: forms for programs, words for people."""

from __future__ import annotations

from typing import Final

import msgspec

from services.controller.blockers import (
    active_pause,
    eligible,
    is_last_resort,
    own_blocker,
    promotion_blocker,
    right_to_act,
)
from services.controller.board import leader_of
from services.controller.canary import CanaryReading, in_words
from services.controller.client import Leader
from services.controller.forecast import HOLDS_LEASE, RtoForecast
from services.controller.model import CandidateStatus, Limits, Now, Operation, Pause, View

CHAMPION: Final = "champion proven by its golden set"
"""The name of that predicate."""
RTO_FORECAST: Final = "RTO forecast"
"""That of the forecast, which never keeps a region from anything."""
CANARY: Final = "canary"
"""That of the newest canary, which never does either."""


class RegionLine(msgspec.Struct, frozen=True, kw_only=True):
    """One region, as the asked controller knows it."""

    region: str
    role: str
    """`active`, `passive`, or `silent` when its controller is not there."""
    serving: bool
    incarnation: str
    blocker: str
    """Why it could not take over; empty when it could."""
    lag_events: int | None
    lag_seconds: float | None
    gateway_url: str
    rto_forecast: RtoForecast | None = None
    """When rankings would come from here, if the active region died now; None: see `rto_unknown`."""
    rto_unknown: str = ""
    """Why there is no forecast."""
    canary: CanaryReading | None = None
    """What the region's newest canary said: whether it really serves, or would. None: not known."""


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/status`."""

    at_ms: int
    region: str
    """Of the controller that was asked."""
    sentence: str
    """What its last cycle came to."""
    leader: Leader | None
    lease_left_seconds: float | None
    """Known to the holder only."""
    largest_epoch: tuple[int, int]
    view_age_seconds: float | None
    """How old the view of the coordination store is; None before the first."""
    etcd_leader: str | None
    pause: Pause | None
    operation: Operation | None
    regions: list[RegionLine]
    receipts_open: int


class Predicate(msgspec.Struct, frozen=True, kw_only=True):
    """One condition of a promotion."""

    name: str
    value: str
    limit: str
    holds: bool


class ExplainAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/explain`: may this region act, could it, and what each condition says."""

    region: str
    acts: bool
    why_not: str
    """Why it may not act; empty when it does."""
    promotion_blocker: str
    """Why it could not be promoted by itself; empty when it could."""
    sentence: str
    predicates: list[Predicate]


def status_of(
    view: View, now: Now, *, sentence: str, largest_epoch: tuple[int, int], etcd_leader: str | None, receipts_open: int
) -> StatusAnswer:
    """Everything at a glance."""
    leader = leader_of(view)
    age = now.boottime - view.store.confirmed_at
    return StatusAnswer(
        at_ms=now.unix_ms,
        region=view.region,
        sentence=sentence,
        leader=leader,
        lease_left_seconds=None if view.term is None else round(max(0.0, view.term.deadline - now.boottime), 2),
        largest_epoch=largest_epoch,
        view_age_seconds=None if age == float("inf") else round(age, 2),
        etcd_leader=etcd_leader,
        pause=active_pause(view.store.pause, now),
        operation=view.store.operation.operation if view.store.operation is not None else None,
        regions=[_line(region, view.store.candidates.get(region), leader) for region in view.regions],
        receipts_open=receipts_open,
    )


def _line(region: str, status: CandidateStatus | None, leader: Leader | None) -> RegionLine:
    active = leader is not None and leader.region == region
    silent = "its controller is not there"
    return RegionLine(
        region=region,
        role="active" if active else "silent" if status is None else "passive",
        serving=active and leader is not None and leader.serving,
        incarnation=status.incarnation if status is not None else "",
        blocker=silent if status is None else status.blocker,
        lag_events=status.lag_events if status is not None else None,
        lag_seconds=status.lag_seconds if status is not None else None,
        gateway_url=status.gateway_url if status is not None else "",
        rto_forecast=None if status is None or active else status.rto_forecast,
        rto_unknown="it is active" if active else silent if status is None else status.rto_unknown,
        canary=status.canary if status is not None else None,
    )


def explain(
    view: View, limits: Limits, now: Now, sentence: str, forecast: tuple[RtoForecast | str, float] | None = None
) -> ExplainAnswer:
    """Each condition with its value and limit; `forecast` comes with the target in seconds."""
    why_not = right_to_act(view, now)
    return ExplainAnswer(
        region=view.region,
        acts=why_not is None,
        why_not=why_not or "",
        promotion_blocker=promotion_blocker(view, limits, now) or "",
        sentence=sentence,
        predicates=[
            *_predicates(view, limits, now),
            *_canary_line(view),
            *([] if forecast is None else [_forecast_line(*forecast)]),
        ],
    )


def _canary_line(view: View) -> list[Predicate]:
    status = view.store.candidates.get(view.region)
    reading = status.canary if status is not None else None
    if reading is None:
        return []
    holds = bool(reading.reached) and not reading.problem
    return [Predicate(name=CANARY, value=in_words(reading), limit="arrives, scored by the model", holds=holds)]


def _forecast_line(found: RtoForecast | str, target_seconds: float) -> Predicate:
    """What is not known holds no target, but for the region that is active: nothing is to be forecast there."""
    limit = f"{target_seconds:g} s"
    if isinstance(found, str):
        return Predicate(name=RTO_FORECAST, value=f"none: {found}", limit=limit, holds=found == HOLDS_LEASE)
    error = "" if found.error_seconds is None else f" (mean error in drills {found.error_seconds:.1f} s)"
    value = f"{found.seconds:.1f} s{error}, at most {found.seconds_max:.1f} s: {found.because}"
    return Predicate(name=RTO_FORECAST, value=value, limit=limit, holds=found.seconds <= target_seconds)


def _predicates(view: View, limits: Limits, now: Now) -> list[Predicate]:
    data, lag = view.data, view.data.lag
    age = now.boottime - view.store.confirmed_at
    pause = active_pause(view.store.pause, now)
    held_down = max(0.0, view.hold_down_until - now.boottime)
    unknown = lag.unknown or "unknown"
    events = unknown if lag.events is None or lag.unknown else f"{lag.events}"
    found = [
        (
            "coordination",
            f"heard {min(age, 86_400):.1f} s ago",
            f"{limits.view_age_seconds_max:g} s",
            age <= limits.view_age_seconds_max,
        ),
        ("pause", f"by {pause.by}: {pause.reason}" if pause else "none", "none", pause is None),
        ("data plane", data.sick or "ready", "ready", data.sick is None),
        ("state proven equal since a rebuild", data.unproven or "yes", "yes", data.unproven is None),
        (
            "lag events",
            events,
            str(limits.lag_events_max),
            not lag.unknown and (lag.events or 0) <= limits.lag_events_max,
        ),
        ("lag seconds", f"{lag.seconds:.1f}", f"{limits.lag_seconds_max:g}", lag.seconds <= limits.lag_seconds_max),
        (CHAMPION, data.champion or "yes", "yes", data.champion is None),
        ("hold-down", f"{held_down:.0f} s: {view.hold_down_because}" if held_down else "none", "none", not held_down),
        ("could take over", own_blocker(view, limits) or "yes", "yes", own_blocker(view, limits) is None),
    ]
    if is_last_resort(view, limits):
        others = eligible(view.store.candidates, view.regions, besides=view.region)
        able = f"{others[0].region} could with its champion" if others else "no region could with its champion"
        found.append(("as a last resort", able, "no region could", not others))
    return [Predicate(name=name, value=value, limit=limit, holds=holds) for name, value, limit, holds in found]
