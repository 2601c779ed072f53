"""What to do now: a pure function of what is known and the time.

It holds, whatever the view: while an operator has paused, the lease does not move; nobody campaigns who has a blocker,
unless an operator accepted the loss; a holder lets go of the lease only when nothing of its region can act any more;
every transition names its cause. Who wins is not decided here but by the store, which creates the leader key once.
"""

from __future__ import annotations

from services.controller.blockers import (
    active_pause,
    eligible,
    is_last_resort,
    last_resorts,
    own_blocker,
    paused_sentence,
    promotion_blocker,
    queue,
    right_to_act,
)
from services.controller.model import (
    Campaign,
    Decision,
    EndPause,
    LeaderSeen,
    Limits,
    Now,
    OwnTerm,
    ReopenGate,
    Resign,
    ShutGate,
    View,
)
from services.controller.operations import as_source, as_target, close_stale, cover, reserved_for
from services.controller.quiet import nothing_acts


def decide(view: View, limits: Limits, now: Now) -> Decision:
    """Return what to do, and the sentence of this cycle."""
    store = view.store
    age = now.boottime - store.confirmed_at
    if age > limits.view_age_seconds_max:
        return Decision(f"no action: the coordination store has been silent for {min(age, 86_400):.1f} s")
    if (pause := active_pause(store.pause, now)) is not None:
        return _while_paused(view, paused_sentence(pause, now), now)
    if store.pause is not None:
        cause = f"the pause of {store.pause.by} has expired"
        return Decision(cause, (EndPause(cause, store.pause_revision),))
    if (stale := close_stale(view, limits, now)) is not None:
        return stale
    if view.term is not None:
        return _as_holder(view, view.term, limits, now)
    return _as_candidate(view, limits, now)


def _while_paused(view: View, paused: str, now: Now) -> Decision:
    """Nothing moves; but a gate that was shut in order to let go stays shut for nobody's sake."""
    term = view.term
    if term is not None and term.shut is not None and view.store.operation is None and now.boottime < term.deadline:
        return Decision(f"reopening the gate: {paused}", (ReopenGate(paused),))
    return Decision(f"no action: {paused}")


def _as_holder(view: View, term: OwnTerm, limits: Limits, now: Now) -> Decision:
    """The region holds the lease, or did until now."""
    left = term.deadline - now.boottime
    if left <= 0:
        return Decision("no action: the lease ran out and was not renewed; nothing is shown until the store answers")
    found = as_source(view, term, limits, now) or as_target(view, now) or _shut(view, term, limits, now)
    if found is not None:
        return found
    if (cause := _too_sick(view, term, limits, now)) is not None:
        return Decision(f"shutting the gate: {cause}", (ShutGate(cause),))
    why = right_to_act(view, now) or "it may act"
    return Decision(f"no action: {view.region} holds the lease, epoch {_epoch(term.epoch)}, {left:.1f} s left; {why}")


def _shut(view: View, term: OwnTerm, limits: Limits, now: Now) -> Decision | None:
    """Go on with a gate that was shut: open it again after an operation that came to nothing, else resign."""
    if term.shut is None:
        return None
    if term.shut.operation_id:
        cause = f"operation {term.shut.operation_id} is over, and the lease is still here"
        return Decision(f"reopening the gate: {cause}", (ReopenGate(cause),))
    if (acting := nothing_acts(view, term, limits, now)) is not None:
        return Decision(f"no action: resigning ({term.shut.because}), once {acting}")
    return Decision(f"resigning: {term.shut.because}", (Resign(term.shut.because, hold_down=True),))


def _too_sick(view: View, term: OwnTerm, limits: Limits, now: Now) -> str | None:
    """Return why the lease should go to another region, or None."""
    data = view.data
    if data.sick is None or data.sick_since is None or now.boottime - data.sick_since < limits.sick_seconds:
        return None
    if now.boottime - term.since < limits.term_seconds_min:
        return None
    candidates, order = view.store.candidates, view.regions
    others = eligible(candidates, order, besides=view.region) or last_resorts(candidates, order, besides=view.region)
    if not others:
        return None
    return f"{data.sick}, for {now.boottime - data.sick_since:.0f} s; {others[0].region} can take over"


def _as_candidate(view: View, limits: Limits, now: Now) -> Decision:
    """Another region holds the lease, or none does."""
    leader = view.store.leader
    if leader is not None:
        return _beside(view, leader, limits, now)
    if (found := as_target(view, now)) is not None:
        return found
    if (other := reserved_for(view)) is not None:
        return Decision(f"no action: the lease is being handed to {other}")
    if (blocker := promotion_blocker(view, limits, now)) is not None:
        return Decision(f"no action: no region holds the lease, and {view.region} cannot take it: {blocker}")
    return _take_turn(view, limits, now)


def _beside(view: View, leader: LeaderSeen, limits: Limits, now: Now) -> Decision:
    """Somebody holds the lease; that may be this very process, without knowing it.

    Or it was: a key whose term ended here is on its way out. Who took that for a campaign whose outcome is not known
    would take the lease back that was just handed over.
    """
    is_own = leader.record.instance == view.instance
    if is_own and leader.epoch > view.ended_epoch:
        cause = "the leader key names this process, but the outcome of its campaign is not known"
        return Decision(f"campaigning: {cause}", (Campaign(cause, leader.record.operation_id),))
    if (found := cover(view, now)) is not None:
        return found
    if is_own:
        return Decision(f"no action: the term {_epoch(leader.epoch)} ended here, and its key is still seen")
    blocker = own_blocker(view, limits)
    standing = "could take over" if blocker is None else f"could not take over: {blocker}"
    held = f"{leader.record.region} holds the lease, epoch {_epoch(leader.epoch)}"
    return Decision(f"no action: {held}; {view.region} {standing}")


def _take_turn(view: View, limits: Limits, now: Now) -> Decision:
    """Nothing stands against this region: campaign, but leave a better one the first try."""
    former = view.store.former
    ranked = queue(view, former)
    rank = ranked.index(view.region) if view.region in ranked else 0
    gone_seconds = now.boottime - view.store.leader_gone_at
    if gone_seconds < rank * limits.rank_delay_seconds:
        return Decision(f"no action: no region holds the lease; {ranked[0]} is better and goes first")
    if former:
        cause = f"the lease of {former} ended {gone_seconds:.2f} s ago"
    else:
        cause = f"no region holds the lease, seen for {gone_seconds:.1f} s"
    if is_last_resort(view, limits):
        cause += f"; as a last resort, no region has its champion proven: {view.data.champion}"
    return Decision(f"campaigning: {cause}", (Campaign(cause),))


def _epoch(epoch: tuple[int, int]) -> str:
    return f"{epoch[0]}:{epoch[1]}"
