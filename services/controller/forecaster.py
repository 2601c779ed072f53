"""From what a controller knows to its forecast: the backlog, its place in the queue, where etcd's leader is."""

from __future__ import annotations

from collections.abc import Callable

from services.controller.blockers import active_pause, eligible, promotion_blocker, queue
from services.controller.forecast import (
    HOLDS_LEASE,
    Backlog,
    ControlTimes,
    Correction,
    RtoForecast,
    Standing,
    coarse,
    forecast,
)
from services.controller.model import Limits, Now, View


class Forecaster:
    """What would come if the active region died now. One for each controller."""

    def __init__(
        self, times: ControlTimes, correction: Correction, limits: Limits, etcd_leader: Callable[[], str | None]
    ) -> None:
        """`etcd_leader`: the site whose member leads etcd; None when that is not known."""
        self._times = times
        self._correction = correction
        self._limits = limits
        self._etcd_leader = etcd_leader

    def of(self, view: View, now: Now) -> RtoForecast | str:
        """The forecast of this region, or why there is none."""
        leader = view.store.leader
        if view.term is not None or (leader is not None and leader.record.region == view.region):
            return HOLDS_LEASE
        if (stopped := self._stopped(view, now)) is not None:
            return stopped
        active = leader.record.region if leader is not None else view.store.former
        ranked = queue(view, active)
        etcd_leader = self._etcd_leader()
        standing = Standing(
            place=ranked.index(view.region) if view.region in ranked else 0,
            # Where nobody says who leads etcd it is likely elsewhere: controllers keep it out of the active region.
            etcd_leader_too=leader is not None and etcd_leader == active,
            etcd_leader_known=leader is None or etcd_leader is not None,
            lease_gone_at=None if leader is not None else view.store.leader_gone_at,
        )
        return forecast(_backlog(view), standing, self._times, self._correction, now.boottime)

    def _stopped(self, view: View, now: Now) -> str | None:
        """Why it would not take over by itself, in words that do not change from second to second."""
        if (pause := active_pause(view.store.pause, now)) is not None:
            return f"paused by {pause.by}: no region takes over by itself"
        if now.boottime < view.hold_down_until and eligible(view.store.candidates, view.regions, besides=view.region):
            return "it stands back for a while"
        return promotion_blocker(view, self._limits, now)


def _backlog(view: View) -> Backlog:
    lag, gate = view.data.lag, view.data.gate
    fold = gate.fold if gate is not None else None
    if gate is None or fold is None or fold.waiting_events is None:
        return Backlog(None, None, None, 0.0, unknown="the processor has not said yet what it has not folded")
    return Backlog(
        # Coarse, because this is told to the other regions whenever it changes.
        copies_events=None if lag.events is None else coarse(lag.events),
        fold_events=coarse(fold.waiting_events),
        events_per_second=None if fold.events_per_second is None else float(f"{fold.events_per_second:.2g}"),
        asked_at=gate.asked_at,
        unknown=lag.unknown,
    )
