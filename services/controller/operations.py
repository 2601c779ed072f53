"""An operator's switchover or failover, step by step: who does what in which state. Pure.

    asked ─▶ draining ─▶ drained ─▶ covered ─▶ handed ─▶ done        any of them ─▶ aborted
     op.      source      source     target     source    target

source: shuts its gate (draining), says what it had acknowledged once nothing acts (drained), lets go (handed);
target: has folded all that (covered), holds the lease and serves (done). A failover of a source that still answers
skips `covered`: the operator accepted the loss. Whoever sees a state stand still for too long aborts: up to
`covered` the source still holds the lease and reopens its gate under the same epoch, after `handed` it campaigns again.
"""

from __future__ import annotations

from typing import Final

import msgspec

from services.controller.blockers import forced_blocker, uncovered
from services.controller.model import (
    Archive,
    Campaign,
    Decision,
    Limits,
    Now,
    Operation,
    OperationSeen,
    OperationState,
    OwnTerm,
    Resign,
    ShutGate,
    StepOperation,
    View,
)
from services.controller.quiet import nothing_acts

WON_PATIENCE: Final = 10
"""A target that has the lease is waited for so much longer: there is nothing to hand back any more."""


def step(seen: OperationSeen, state: OperationState, cause: str, now: Now, **changes: object) -> StepOperation:
    """The operation's next state."""
    operation = seen.operation
    after: Operation = msgspec.structs.replace(
        operation, state=state, steps_ms={**operation.steps_ms, state: now.unix_ms}, **changes
    )
    return StepOperation(cause, after, seen.revision)


def reserved_for(view: View) -> str | None:
    """Return the region for which the free lease is meant, if that is another one."""
    seen = view.store.operation
    if seen is None or seen.operation.state != "handed" or seen.operation.target == view.region:
        return None
    return seen.operation.target


def close_stale(view: View, limits: Limits, now: Now) -> Decision | None:
    """Archive an operation that has ended; end one that stands still, or that was overtaken by events."""
    seen = view.store.operation
    if seen is None:
        return None
    operation = seen.operation
    what = f"{operation.kind} {operation.operation_id} to {operation.target}"
    if operation.state in {"done", "aborted"}:
        cause = f"{what} is over: {operation.state}"
        return Decision(f"archiving: {cause}", (Archive(cause, operation, seen.revision),))
    because = _overtaken(view, operation)
    if because is None:
        still = now.boottime - seen.seen_at
        if still < limits.operation_step_seconds * (1 if not _is_won(view, operation) else WON_PATIENCE):
            return None
        because = f"nothing happened for {still:.1f} s in the state {operation.state!r}: {_waiting_for(seen)}"
    cause = f"{what} aborted: {because}"
    return Decision(cause, (step(seen, "aborted", cause, now, detail=because),))


def _is_won(view: View, operation: Operation) -> bool:
    leader = view.store.leader
    return operation.state == "handed" and leader is not None and leader.record.region == operation.target


def _overtaken(view: View, operation: Operation) -> str | None:
    leader = view.store.leader
    if leader is None:
        lost = operation.kind == "switchover" and operation.state in {"asked", "draining", "drained", "covered"}
        return f"{operation.source} lost the lease meanwhile" if lost else None
    holder = leader.record.region
    if operation.state == "handed":
        # The source's own key is still there until it has let go.
        return None if holder in {operation.source, operation.target} else f"{holder} took the lease meanwhile"
    if holder != operation.source:
        return f"{holder} took the lease meanwhile"
    return None


def _waiting_for(seen: OperationSeen) -> str:
    return {
        "asked": f"{seen.operation.source or seen.operation.target} did not begin",
        "draining": f"{seen.operation.source} did not say that nothing acts any more",
        "drained": f"{seen.operation.target} did not fold what {seen.operation.source} had acknowledged",
        "covered": f"{seen.operation.source} did not let go",
        "handed": f"{seen.operation.target} does not serve",
    }[seen.operation.state]


def as_source(view: View, term: OwnTerm, limits: Limits, now: Now) -> Decision | None:
    """What the holder does for an operation that takes the lease away from it."""
    seen = view.store.operation
    if seen is None or seen.operation.source != view.region or seen.operation.target == view.region:
        return None
    operation = seen.operation
    cause = f"{operation.kind} to {operation.target} by {operation.by}: {operation.reason}"
    if operation.state == "asked":
        shut = ShutGate(cause, operation.operation_id)
        return Decision(f"shutting the gate: {cause}", (shut, step(seen, "draining", cause, now)))
    if term.shut is None:
        # A restart of this process loses the term as well, so this is a step that was taken by hand.
        return Decision(f"shutting the gate: {cause}", (ShutGate(cause, operation.operation_id),))
    if operation.state == "covered":
        cause = f"{operation.target} has folded all that {view.region} acknowledged: {cause}"
        return Decision(f"handing over: {cause}", (step(seen, "handed", cause, now),))
    if operation.state in {"draining", "handed"}:
        return _drain(view, seen, term, cause, limits, now)
    return Decision(f"no action: {cause} ({operation.state}): waiting for {operation.target}")


def _drain(view: View, seen: OperationSeen, term: OwnTerm, cause: str, limits: Limits, now: Now) -> Decision:
    """The gate is told to shut: go on once nothing acts, with what had been acknowledged by then."""
    assert term.shut is not None
    if (acting := nothing_acts(view, term, limits, now)) is not None:
        return Decision(f"no action: {cause} ({seen.operation.state}), once {acting}")
    if seen.operation.state == "handed":
        return Decision(f"resigning: {cause}", (Resign(cause, hold_down=False),))
    if seen.operation.kind == "failover":
        return Decision(f"handing over: {cause}", (step(seen, "handed", cause, now),))
    if view.data.acknowledged_at <= term.shut.since:
        return Decision(f"no action: {cause} (draining), once it is known what was acknowledged")
    found = step(seen, "drained", cause, now, frontier=list(view.data.acknowledged))
    return Decision(f"drained: {cause}", (found,))


def as_target(view: View, now: Now) -> Decision | None:
    """What the successor does: cover, take the lease, serve."""
    seen = view.store.operation
    if seen is None or seen.operation.target != view.region:
        return None
    operation = seen.operation
    cause = f"{operation.kind} from {operation.source or 'no region'} by {operation.by}: {operation.reason}"
    if view.term is not None:
        return _serve(view, view.term, seen, cause, now)
    gone = view.store.leader is None
    if operation.state in {"asked", "draining"} and operation.kind == "failover" and gone:
        return Decision(f"taking over: {cause}", (step(seen, "handed", cause, now),))
    if operation.state == "handed" and gone:
        if (sick := forced_blocker(view)) is not None:
            return _give_up(seen, cause, sick, now)
        return Decision(f"campaigning: {cause}", (Campaign(cause, operation.operation_id),))
    return None


def cover(view: View, now: Now) -> Decision | None:
    """The successor, while the source still holds the lease: say when all that it acknowledged is folded here."""
    seen = view.store.operation
    if seen is None or seen.operation.target != view.region or seen.operation.state != "drained":
        return None
    cause = f"switchover from {seen.operation.source} by {seen.operation.by}"
    if (sick := forced_blocker(view)) is not None:
        return _give_up(seen, cause, sick, now)
    if (missing := uncovered(view)) is not None:
        return Decision(f"no action: {cause}: {missing}")
    return Decision(f"covered: {cause}", (step(seen, "covered", cause, now),))


def _give_up(seen: OperationSeen, cause: str, sick: str, now: Now) -> Decision:
    """Nobody shows anything while the lease is under way: say at once that it cannot be taken."""
    detail = f"{seen.operation.target} cannot take the lease: {sick}"
    return Decision(f"aborted: {cause}: {detail}", (step(seen, "aborted", f"{cause}: {detail}", now, detail=detail),))


def _serve(view: View, term: OwnTerm, seen: OperationSeen, cause: str, now: Now) -> Decision | None:
    gate = view.data.gate
    if seen.operation.state != "handed":
        return None
    if gate is not None and gate.open and gate.epoch == term.epoch:
        detail = f"{view.region} serves under epoch {term.epoch[0]}:{term.epoch[1]}"
        return Decision(f"done: {cause}: {detail}", (step(seen, "done", cause, now, detail=detail),))
    why = uncovered(view) or ("its gate was not asked yet" if gate is None else gate.reason or "its gate opens")
    return Decision(f"no action: {cause}: {view.region} holds the lease and does not serve yet: {why}")
