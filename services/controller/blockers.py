"""Why a region may not act, or could not take over: each answer is the sentence that an operator reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.controller.model import CandidateStatus, Limits, Now, Pause, View


def own_blocker(view: View, limits: Limits) -> str | None:
    """Return why this region could not take over, whoever asks; what its controller tells the others."""
    if (blocked := data_blocker(view, limits)) is not None:
        return blocked
    champion = view.data.champion
    return None if champion is None else f"its champion is not proven: {champion}"


def is_last_resort(view: View, limits: Limits) -> bool:
    """Whether only the champion stands against this region.

    Its worker is ready, so a version that reproduced its own golden set ranks here, if not the one that should.
    """
    return view.data.champion is not None and data_blocker(view, limits) is None


def data_blocker(view: View, limits: Limits) -> str | None:
    """Return why this region's processes or data could not take over, or None."""
    data = view.data
    if data.sick is not None:
        return data.sick
    if (unproven := data.unproven) is not None:
        return unproven
    lag = data.lag
    if lag.unknown and view.term is None:
        return lag.unknown
    if lag.events is not None and lag.events > limits.lag_events_max:
        return f"{lag.events} events of {lag.log} are known to be missing here (at most {limits.lag_events_max})"
    if lag.seconds > limits.lag_seconds_max:
        return (
            f"{lag.log} was {lag.seconds:.1f} s behind when its origin was last heard "
            f"(at most {limits.lag_seconds_max:g} s)"
        )
    return None


def promotion_blocker(view: View, limits: Limits, now: Now) -> str | None:
    """Return why this region may not be promoted by itself now, or None."""
    if (pause := active_pause(view.store.pause, now)) is not None:
        return paused_sentence(pause, now)
    if (blocked := own_blocker(view, limits)) is not None:
        if not is_last_resort(view, limits):
            return blocked
        if others := eligible(view.store.candidates, view.regions, besides=view.region):
            return f"{blocked}; {others[0].region} could take over with it"
    if now.boottime < view.hold_down_until and eligible(view.store.candidates, view.regions, besides=view.region):
        left = view.hold_down_until - now.boottime
        return f"it stands back for another {left:.0f} s: {view.hold_down_because}"
    return None


def forced_blocker(view: View) -> str | None:
    """Return why this region cannot take over even when an operator accepts the loss, or None."""
    return view.data.sick


def active_pause(pause: Pause | None, now: Now) -> Pause | None:
    """Return the pause unless it has expired."""
    return pause if pause is not None and now.unix_ms < pause.until_ms else None


def paused_sentence(pause: Pause, now: Now) -> str:
    """Say who paused, why and for how long."""
    return f"paused by {pause.by} for another {(pause.until_ms - now.unix_ms) / 1000:.0f} s: {pause.reason}"


def eligible(
    candidates: Mapping[str, CandidateStatus], regions: Sequence[str], besides: str = ""
) -> list[CandidateStatus]:
    """Return who could take over, the best first: least is missing, then the deployment's order."""
    found = [each for each in candidates.values() if not each.blocker and each.region != besides]
    return _ranked(found, regions)


def _ranked(found: Sequence[CandidateStatus], regions: Sequence[str]) -> list[CandidateStatus]:
    order = {region: place for place, region in enumerate(regions)}
    return sorted(found, key=lambda each: (each.lag_events or 0, order.get(each.region, len(order))))


def queue(view: View, former: str) -> list[str]:
    """Return who would campaign after `former` lost the lease, in the order of their turns."""
    # Whoever has just lost the lease is most likely dead, and its entry not gone yet: it goes last.
    candidates, order = view.store.candidates, view.regions
    ranked = [each.region for each in eligible(candidates, order, besides=former)]
    ranked += [each.region for each in last_resorts(candidates, order, besides=former)]
    return ranked + ([former] if former == view.region else [])


def last_resorts(
    candidates: Mapping[str, CandidateStatus], regions: Sequence[str], besides: str = ""
) -> list[CandidateStatus]:
    """Return who may take over when nobody could with its champion proven, the best first."""
    found = [each for each in candidates.values() if each.is_last_resort and each.region != besides]
    return _ranked(found, regions)


def right_to_act(view: View, now: Now) -> str | None:
    """Return why this region must show nothing now, or None: the one question behind every effect."""
    term = view.term
    if term is None:
        leader = view.store.leader
        if leader is None:
            return "no region holds the lease"
        if leader.record.instance == view.instance:
            return "whether this region holds the lease is not confirmed yet"
        return f"{leader.record.region} holds the lease"
    if now.boottime >= term.deadline:
        return "the lease of this region ran out"
    if term.shut is not None:
        return term.shut.because
    return uncovered(view)


def uncovered(view: View) -> str | None:
    """Return which part of a handover's frontier this region has not folded yet, or None."""
    seen = view.store.operation
    if seen is None or seen.operation.kind != "switchover" or seen.operation.target != view.region:
        return None
    for log, partition, end in seen.operation.frontier:
        if view.data.frontier.get((log, partition), 0) < end:
            return f"what was acknowledged before the handover is not folded yet: {log}/{partition} up to {end}"
    return None
