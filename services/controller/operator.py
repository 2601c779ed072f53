"""What an operator may ask for, and why it is refused: pure checks, each with the next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from services.controller.blockers import active_pause, paused_sentence
from services.controller.model import CandidateStatus, Limits, Now, Operation, View

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
OperationId = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{1,64}$")]
PAUSE_SECONDS_MAX: Final = 86_400


class SwitchoverRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/switchover`."""

    operation_id: OperationId
    to: Word
    by: Word
    reason: Word


class FailoverRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/failover`."""

    operation_id: OperationId
    to: Word
    by: Word
    reason: Word
    accept_loss_events: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """How many events the operator accepts to lose; refused with the number when it is left out or too small."""


class PauseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/pause`."""

    operation_id: OperationId
    by: Word
    reason: Word
    seconds: Annotated[int, msgspec.Meta(ge=1, le=PAUSE_SECONDS_MAX)] = 3_600


class ResumeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/resume`."""

    operation_id: OperationId
    by: Word
    reason: Word = "resumed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not, and what to do instead."""

    kind: str
    detail: str
    remedy: str
    loss_events: int | None = None


def refuse_switchover(view: View, wanted: SwitchoverRequest, limits: Limits, now: Now) -> Refusal | None:
    """Return why this switchover must not begin, or None."""
    if (refused := _refuse_any(view, wanted.to, wanted.operation_id, limits, now)) is not None:
        return refused
    if view.store.leader is None:
        return Refusal(
            "no-leader",
            "no region holds the lease, so there is nobody to take over from",
            f"See why with `meridian explain`; `meridian failover {wanted.to}` forces it, with the loss it names.",
        )
    status = view.store.candidates.get(wanted.to)
    if status is not None and status.blocker:
        return Refusal(
            "blocked",
            f"{wanted.to} cannot take over: {status.blocker}",
            "Mend that or wait for it (`meridian explain` shows it); a loss is accepted with `meridian failover`.",
        )
    return None


def refuse_failover(view: View, wanted: FailoverRequest, limits: Limits, now: Now) -> Refusal | None:
    """Return why this failover must not begin, or None."""
    if (refused := _refuse_any(view, wanted.to, wanted.operation_id, limits, now)) is not None:
        return refused
    loss = known_loss(view.store.candidates[wanted.to])
    if wanted.accept_loss_events is None or wanted.accept_loss_events < loss:
        said = "no loss was accepted" if wanted.accept_loss_events is None else f"{wanted.accept_loss_events} were"
        return Refusal(
            "loss-not-accepted",
            f"{wanted.to} is known to lack {loss} events that other regions acknowledged, and {said}; what was "
            "acknowledged after the last contact comes on top, and the receipt will list all of it",
            f"`meridian failover {wanted.to} --accept-loss {loss}` accepts that; events of a region that comes back "
            "are not lost.",
            loss_events=loss,
        )
    return None


def known_loss(status: CandidateStatus) -> int:
    """How many events the region is known to lack; what it cannot count is not in it."""
    return status.lag_events or 0


def operation_of(view: View, kind: str, wanted: SwitchoverRequest | FailoverRequest, now: Now) -> Operation:
    """The operation that is asked for."""
    leader = view.store.leader
    return Operation(
        operation_id=wanted.operation_id,
        kind="switchover" if kind == "switchover" else "failover",
        source=leader.record.region if leader is not None else "",
        target=wanted.to,
        by=wanted.by,
        reason=wanted.reason,
        created_ms=now.unix_ms,
        accepted_loss_events=wanted.accept_loss_events if isinstance(wanted, FailoverRequest) else None,
        steps_ms={"asked": now.unix_ms},
    )


def _refuse_any(view: View, to: str, operation_id: str, limits: Limits, now: Now) -> Refusal | None:
    if to not in view.regions:
        return Refusal("unknown-region", f"there is no region {to!r}", f"There are: {', '.join(view.regions)}.")
    if now.boottime - view.store.confirmed_at > limits.view_age_seconds_max:
        return Refusal(
            "no-quorum",
            "the coordination store is silent: nothing can be decided safely",
            "See docs/operating/lost-quorum.md.",
        )
    if (pause := active_pause(view.store.pause, now)) is not None:
        return Refusal("paused", paused_sentence(pause, now), "`meridian resume` ends the pause.")
    seen = view.store.operation
    if seen is not None and seen.operation.operation_id != operation_id:
        running = seen.operation
        return Refusal(
            "operation-open",
            f"{running.kind} {running.operation_id} to {running.target} by {running.by} is under way "
            f"({running.state}): {running.reason}",
            "Wait for it to end (`meridian status`), then ask again.",
        )
    return _refuse_target(view, to)


def _refuse_target(view: View, to: str) -> Refusal | None:
    leader = view.store.leader
    if leader is not None and leader.record.region == to:
        return Refusal("already-active", f"{to} is active already", "Nothing needs to be done.")
    if to not in view.store.candidates:
        return Refusal(
            "blocked",
            f"the controller of {to} is not there",
            f"Start the region with `meridian up --site {to}`, and see `meridian explain`.",
        )
    return None
