"""What operators are refused, and what they are told instead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.controller.model import (
    CandidateStatus,
    LeaderSeen,
    Limits,
    Now,
    Operation,
    OperationSeen,
    Pause,
    StoreView,
    View,
)
from services.controller.operator import (
    FailoverRequest,
    SwitchoverRequest,
    operation_of,
    refuse_failover,
    refuse_switchover,
)
from services.coordination.election import LeaderRecord

NOW = Now(100.0, 1_000_000)
LIMITS = Limits()


def status(region: str, *, blocker: str = "", lag_events: int = 0) -> CandidateStatus:
    """What a controller says of itself."""
    return CandidateStatus(
        region=region,
        instance=region,
        incarnation=f"{region}-1",
        at_ms=0,
        gateway_url="",
        control_url="",
        blocker=blocker,
        serving_epoch=None,
        epoch_seen=(-1, -1),
        lag_events=lag_events,
        lag_seconds=0.0,
    )


LEADER = LeaderSeen(
    LeaderRecord(region="east", instance="east", lease_id=1, generation=0, gateway_url="", acquired_ms=0, cause=""),
    7,
)
STORE = StoreView(leader=LEADER, confirmed_at=99.9, candidates={name: status(name) for name in ("east", "west")})
VIEW = View("east", "east", ("east", "west"), store=STORE)
TO_WEST = SwitchoverRequest(operation_id="op", to="west", by="anna", reason="a test")
OPEN = OperationSeen(operation_of(VIEW, "switchover", TO_WEST, NOW), 9, 99.0)
PAUSE = Pause(by="bob", reason="a freeze", created_ms=0, until_ms=2_000_000)


def seen(**changes: object) -> View:
    """The view with another store."""
    return replace(VIEW, store=replace(STORE, **changes))  # type: ignore[arg-type]


def test_a_switchover_that_can_be_done_is_not_refused() -> None:
    """And it names where it goes from."""
    assert refuse_switchover(VIEW, TO_WEST, LIMITS, NOW) is None
    found = operation_of(VIEW, "switchover", TO_WEST, NOW)
    assert isinstance(found, Operation) and (found.source, found.target, found.state) == ("east", "west", "asked")


@pytest.mark.parametrize(
    ("view", "kind", "words"),
    [
        (seen(confirmed_at=0.0), "no-quorum", "silent"),
        (seen(pause=PAUSE), "paused", "bob"),
        (seen(leader=None), "no-leader", "nobody"),
        (seen(candidates={"west": status("west", blocker="x is down")}), "blocked", "x is down"),
        (seen(candidates={}), "blocked", "not there"),
    ],
)
def test_a_switchover_is_refused_with_reason_and_next_step(view: View, kind: str, words: str) -> None:
    """Each with the words that an operator needs."""
    found = refuse_switchover(view, TO_WEST, LIMITS, NOW)
    assert found is not None and found.kind == kind and words in found.detail and found.remedy


def test_another_operation_is_waited_for_and_the_same_one_is_not_refused() -> None:
    """Asking again under the same id is how an unknown outcome is cleared up."""
    again = SwitchoverRequest(operation_id="op", to="west", by="anna", reason="a test")
    other = SwitchoverRequest(operation_id="other", to="west", by="bob", reason="a test")
    assert refuse_switchover(seen(operation=OPEN), again, LIMITS, NOW) is None
    found = refuse_switchover(seen(operation=OPEN), other, LIMITS, NOW)
    assert found is not None and found.kind == "operation-open" and "anna" in found.detail


@pytest.mark.parametrize(("accepted", "refused"), [(None, True), (99, True), (100, False), (500, False)])
def test_a_loss_must_be_typed(accepted: int | None, refused: bool) -> None:  # noqa: FBT001 - a table
    """At least as much as is known to be missing."""
    view = seen(leader=None, candidates={"west": status("west", blocker="behind", lag_events=100)})
    wanted = FailoverRequest(operation_id="op", to="west", by="anna", reason="a test", accept_loss_events=accepted)
    found = refuse_failover(view, wanted, LIMITS, NOW)
    assert (found is not None) == refused
    if found is not None:
        assert found.loss_events == 100 and "--accept-loss 100" in found.remedy
