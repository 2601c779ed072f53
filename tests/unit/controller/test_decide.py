"""Decisions, one case a test: what is done, and the sentence that says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.controller.answers import CHAMPION, explain
from services.controller.blockers import own_blocker, promotion_blocker, right_to_act
from services.controller.decide import decide
from services.controller.model import (
    Archive,
    Campaign,
    CandidateStatus,
    DataPlane,
    EndPause,
    GateSeen,
    Lag,
    LeaderSeen,
    Limits,
    Now,
    Operation,
    OperationSeen,
    OwnTerm,
    Pause,
    ReopenGate,
    Resign,
    Shut,
    ShutGate,
    StepOperation,
    StoreView,
    Transition,
    View,
)
from services.coordination.election import LeaderRecord

NOW = Now(boottime=100.0, unix_ms=1_000_000)
LIMITS = Limits()
WELL = DataPlane(sick=None, lag=Lag(unknown=""), champion=None)


def status(region: str, **changes: Any) -> CandidateStatus:
    """What a healthy region's controller says."""
    said: dict[str, Any] = {
        "region": region,
        "instance": f"{region}-process",
        "incarnation": f"{region}-1",
        "at_ms": 0,
        "gateway_url": "",
        "control_url": "",
        "blocker": "",
        "serving_epoch": None,
        "epoch_seen": (-1, -1),
        "lag_events": 0,
        "lag_seconds": 0.0,
    }
    return CandidateStatus(**{**said, **changes})


def leader(region: str, instance: str = "") -> LeaderSeen:
    """The leader key of a region."""
    record = LeaderRecord(
        region=region,
        instance=instance or f"{region}-process",
        lease_id=1,
        generation=0,
        gateway_url="",
        acquired_ms=0,
        cause="",
    )
    return LeaderSeen(record, 7)


def view(region: str = "west", **changes: Any) -> View:
    """A healthy region of two; `store_...` changes what the store shows."""
    stored = {name.removeprefix("store_"): changes.pop(name) for name in list(changes) if name.startswith("store_")}
    store = StoreView(
        confirmed_at=99.9,
        leader_gone_at=90.0,
        candidates={name: status(name) for name in ("east", "west")},
    )
    base = View(
        region=region,
        instance=f"{region}-process",
        regions=("east", "west"),
        store=replace(store, **stored),
        data=WELL,
    )
    return replace(base, **changes)


def term(**changes: Any) -> OwnTerm:
    """A term that began long ago and has a second left."""
    return replace(OwnTerm(epoch=(0, 7), deadline=101.0, since=50.0, promised_until=100.8), **changes)


def operation(state: str, kind: str = "switchover", **changes: Any) -> OperationSeen:
    """From east to west."""
    said: dict[str, Any] = {
        "operation_id": "op",
        "kind": kind,
        "source": "east",
        "target": "west",
        "by": "anna",
        "reason": "a test",
        "created_ms": 0,
        "state": state,
    }
    return OperationSeen(Operation(**{**said, **changes}), revision=9, seen_at=99.5)


def kinds(found: View) -> list[type[Transition]]:
    """What is decided."""
    decision = decide(found, LIMITS, NOW)
    assert all(each.cause for each in decision.transitions)
    return [type(each) for each in decision.transitions]


def test_a_free_lease_is_campaigned_for() -> None:
    """By whoever has no blocker."""
    assert kinds(view()) == [Campaign]
    assert kinds(view(store_leader=leader("east"))) == []


def test_the_better_candidate_goes_first() -> None:
    """The other one leaves it the first try, and goes when it does not take it."""
    behind = {"east": status("east"), "west": status("west", lag_events=40)}
    assert kinds(view(store_candidates=behind, store_leader_gone_at=99.9)) == []
    assert kinds(view(store_candidates=behind, store_leader_gone_at=99.5)) == [Campaign]


def test_who_has_just_lost_the_lease_is_not_waited_for() -> None:
    """Its entry may be there for seconds after it died."""
    found = view(store_leader_gone_at=100.0, store_former="east")
    assert kinds(found) == [Campaign]


def test_a_silent_store_decides_nothing() -> None:
    """An old view of a free lease is no free lease."""
    assert kinds(view(store_confirmed_at=90.0)) == []


def test_nothing_moves_while_paused() -> None:
    """Not even a sick holder; the pause ends by itself when its time is over."""
    pause = Pause(by="anna", reason="a test", created_ms=0, until_ms=2_000_000)
    assert kinds(view(store_pause=pause)) == []
    sick = replace(WELL, sick="processor: away", sick_since=10.0)
    assert kinds(view("west", store_pause=pause, term=term(), data=sick)) == []
    assert kinds(view(store_pause=replace_pause(pause, until_ms=500_000), store_pause_revision=3)) == [EndPause]


def test_a_pause_finds_a_gate_shut_and_reopens_it() -> None:
    """Or a region that was about to resign would hold the lease and show nothing until the pause ends."""
    pause = Pause(by="anna", reason="a test", created_ms=0, until_ms=2_000_000)
    shut = term(shut=Shut("sick", since=99.9))
    assert kinds(view(store_pause=pause, term=shut)) == [ReopenGate]
    assert kinds(view(store_pause=pause, term=replace(shut, deadline=100.0))) == []


def replace_pause(pause: Pause, *, until_ms: int) -> Pause:
    """The same pause with another end."""
    return Pause(by=pause.by, reason=pause.reason, created_ms=0, until_ms=until_ms)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (replace(WELL, sick="inference: model refused"), "model refused"),
        (replace(WELL, unproven="its state differs"), "differs"),
        (replace(WELL, lag=Lag(events=6_000, log="east-1.events", unknown="")), "6000 events"),
        (replace(WELL, lag=Lag(seconds=11.0, log="east-1.events", unknown="")), "11.0 s behind"),
        (replace(WELL, lag=Lag(unknown="replicator: does not answer")), "does not answer"),
        (replace(WELL, champion="version 2 is champion, version 1 serves"), "version 2 is champion"),
        (replace(WELL, champion=DataPlane().champion), "was not asked yet"),
    ],
)
def test_a_blocked_region_does_not_campaign(data: DataPlane, words: str) -> None:
    """And the sentence says what blocks it."""
    found = view(data=data)
    assert kinds(found) == []
    assert words in (own_blocker(found, LIMITS) or "")
    assert words in decide(found, LIMITS, NOW).sentence


UNPROVEN = replace(WELL, champion="version 2 is champion, version 1 serves: the golden set differs")


def test_without_a_proven_champion_a_region_leaves_the_lease_to_one_that_has_it() -> None:
    """And says which; also when that one held the lease last: while its entry is there, it may come back."""
    found = view(data=UNPROVEN)
    said = decide(found, LIMITS, NOW).sentence
    assert "version 2 is champion" in said and "east could take over with it" in said
    assert kinds(replace(found, store=replace(found.store, former="east"))) == []


def test_the_last_resort_is_a_region_that_ranks_by_another_proven_version() -> None:
    """Nobody is locked out by a version that no region can serve; the cause in the history says what it was."""
    without = status("east", blocker="its champion is not proven: ...", is_last_resort=True)
    nobody = {"east": without, "west": status("west", blocker="its champion is not proven: ...", is_last_resort=True)}
    found = view(data=UNPROVEN, store_candidates=nobody)
    (campaign,) = decide(found, LIMITS, NOW).transitions
    assert isinstance(campaign, Campaign) and "last resort" in campaign.cause and "version 2" in campaign.cause
    soon = replace(found, store=replace(found.store, leader_gone_at=99.9))
    assert kinds(soon) == [] and kinds(replace(soon, region="east")) == [Campaign], "one after the other"
    alone = replace(found, store=replace(found.store, candidates={"west": nobody["west"]}))
    assert kinds(alone) == [Campaign]
    for worse in (replace(UNPROVEN, sick="inference: away"), replace(UNPROVEN, unproven="its state differs")):
        assert kinds(replace(alone, data=worse)) == [], "more than the champion stands against it"


def test_a_holder_without_its_champion_keeps_the_lease() -> None:
    """The ladder answers. Sick besides, it gives way also to a region that is only a last resort."""
    assert kinds(view(term=term(), data=UNPROVEN)) == []
    sick = replace(UNPROVEN, sick="broker: away", sick_since=90.0)
    resort = {"east": status("east", blocker="its champion", is_last_resort=True), "west": status("west")}
    assert kinds(view(term=term(), data=sick, store_candidates=resort)) == [ShutGate]


def test_explain_names_the_champion_and_the_last_resort() -> None:
    """With the reason, and with who could do better."""
    found = {each.name: each for each in explain(view(data=UNPROVEN), LIMITS, NOW, "").predicates}
    assert not found[CHAMPION].holds
    assert "golden set differs" in found[CHAMPION].value
    assert found["as a last resort"].value == "east could with its champion"
    assert "as a last resort" not in {each.name for each in explain(view(), LIMITS, NOW, "").predicates}


def test_hold_down_holds_only_while_another_could() -> None:
    """Standing back when nobody else can would be an outage of one's own making."""
    found = view(hold_down_until=120.0, hold_down_because="it was sick")
    assert "stands back" in (promotion_blocker(found, LIMITS, NOW) or "")
    alone = replace(found, store=replace(found.store, candidates={"west": status("west")}))
    assert promotion_blocker(alone, LIMITS, NOW) is None


def test_a_sick_holder_shuts_and_then_resigns() -> None:
    """Only when another can take over, and not in the first seconds of a term."""
    sick = replace(WELL, sick="broker: away", sick_since=90.0)
    assert kinds(view(term=term(), data=sick)) == [ShutGate]
    assert kinds(view(term=term(since=95.0), data=sick)) == []
    assert kinds(view(term=term(), data=replace(sick, sick_since=99.0))) == []
    nobody = {"east": status("east", blocker="x"), "west": status("west")}
    assert kinds(view(term=term(), data=sick, store_candidates=nobody)) == []


def test_the_lease_is_let_go_only_when_nothing_acts_any_more() -> None:
    """The gate said so after it was told, or the last promise has ended."""
    shut = Shut("sick", since=99.0)
    asked_before = GateSeen(open=False, epoch=(0, 7), reason="", asked_at=98.9, shut_asks=(98.9,))
    assert kinds(view(term=term(shut=shut), data=replace(WELL, gate=asked_before))) == []
    just_now = replace(asked_before, asked_at=99.95, shut_asks=(98.9, 99.95))
    assert kinds(view(term=term(shut=shut), data=replace(WELL, gate=just_now))) == []
    quiet = replace(just_now, shut_asks=(98.9, 99.5, 99.95))
    assert kinds(view(term=term(shut=shut), data=replace(WELL, gate=quiet))) == [Resign]
    assert kinds(view(term=term(shut=shut, promised_until=99.9))) == [Resign]


def test_a_term_is_over_at_its_deadline() -> None:
    """Whatever else is known."""
    assert right_to_act(view(term=term()), NOW) is None
    assert right_to_act(view(term=term(deadline=100.0)), NOW) == "the lease of this region ran out"
    over = view("east", term=term(deadline=100.0), store_operation=operation("asked"), store_leader=leader("east"))
    assert kinds(over) == []


def test_an_unknown_campaign_is_asked_about() -> None:
    """The key names this process: campaigning again finds out whether it was won."""
    assert kinds(view(store_leader=leader("west", "west-process"))) == [Campaign]
    assert kinds(view(store_leader=leader("west", "west-process-before"))) == []


def test_a_lease_that_was_just_let_go_is_not_taken_back() -> None:
    """The watch lags behind what this process did: the key that it sees is that of a term that it ended.

    Found by a campaign in memory, seed 23: a switchover was handed over seven times, and taken back each time.
    """
    seen = view(store_leader=leader("west", "west-process"), ended_epoch=(0, 7))
    assert kinds(seen) == []
    assert "its key is still seen" in decide(seen, LIMITS, NOW).sentence
    assert kinds(replace(seen, ended_epoch=(0, 6))) == [Campaign], "that one was campaigned for since"


def test_a_switchover_step_by_step() -> None:
    """Who does what in which state."""
    east: dict[str, Any] = {"store_leader": leader("east")}
    asked = view("east", term=term(), store_operation=operation("asked"), **east)
    assert kinds(asked) == [ShutGate, StepOperation]
    shut = term(shut=Shut("op", since=99.0, operation_id="op"), promised_until=99.5)
    draining = view("east", term=shut, store_operation=operation("draining"), **east)
    assert kinds(draining) == [], "it is not known yet what was acknowledged"
    rows = [("east-1.events", 0, 50)]
    known = replace(WELL, acknowledged=rows, acknowledged_at=99.6)
    before = replace(known, acknowledged_at=98.9)
    assert kinds(replace(draining, data=before)) == [], "more may have been acknowledged since"
    (drained,) = decide(replace(draining, data=known), LIMITS, NOW).transitions
    assert isinstance(drained, StepOperation) and drained.after.state == "drained"
    assert drained.after.frontier == rows
    there = operation("drained", frontier=rows)
    assert kinds(view(store_operation=there, **east)) == []
    folded = replace(WELL, frontier={("east-1.events", 0): 50})
    (covered,) = decide(view(data=folded, store_operation=there, **east), LIMITS, NOW).transitions
    assert isinstance(covered, StepOperation) and covered.after.state == "covered"
    assert kinds(view("east", term=shut, store_operation=operation("covered"), **east)) == [StepOperation]
    assert kinds(view("east", term=shut, store_operation=operation("handed"), **east)) == [Resign]
    assert kinds(view(store_operation=operation("handed"))) == [Campaign]
    gate = GateSeen(open=True, epoch=(0, 7), reason="", asked_at=99.9)
    serving = view(data=replace(WELL, gate=gate), term=term(), store_operation=operation("handed"))
    serving = replace(serving, store=replace(serving.store, leader=leader("west", "west-process")))
    (done,) = decide(serving, LIMITS, NOW).transitions
    assert isinstance(done, StepOperation) and done.after.state == "done"
    assert kinds(view(store_operation=operation("done"))) == [Archive]


def test_a_free_lease_is_left_to_the_successor() -> None:
    """Also by the region that has just let it go."""
    assert kinds(view("east", store_operation=operation("handed"))) == []


@pytest.mark.parametrize("state", ["asked", "draining", "drained", "covered", "handed"])
def test_an_operation_that_stands_still_is_aborted(state: str) -> None:
    """In every state; afterwards the source opens its gate again, or campaigns."""
    old = replace(operation(state), seen_at=90.0)
    found = view("west", store_operation=old, store_leader=leader("east"))
    (aborted,) = decide(found, LIMITS, NOW).transitions
    assert isinstance(aborted, StepOperation) and aborted.after.state == "aborted" and aborted.after.detail


def test_a_target_that_has_the_lease_is_waited_for() -> None:
    """Its markers may take a while, and nobody could take the lease back."""
    old = replace(operation("handed"), seen_at=90.0)
    assert kinds(view("east", store_operation=old, store_leader=leader("west"))) == []
    assert kinds(view("east", store_operation=replace(old, seen_at=60.0), store_leader=leader("west"))) != []


def test_after_an_abort_the_gate_opens_again() -> None:
    """Under the same term: nobody else can have led meanwhile."""
    shut = term(shut=Shut("switchover", since=99.0, operation_id="op"))
    assert kinds(view("east", term=shut, store_leader=leader("east"))) == [ReopenGate]


@pytest.mark.parametrize("state", ["drained", "handed"])
def test_a_successor_that_became_sick_gives_up_at_once(state: str) -> None:
    """Meanwhile nobody shows anything."""
    sick = replace(WELL, sick="processor: away")
    known: dict[str, Any] = {"store_leader": leader("east")} if state == "drained" else {}
    (aborted,) = decide(view(data=sick, store_operation=operation(state), **known), LIMITS, NOW).transitions
    assert isinstance(aborted, StepOperation) and aborted.after.state == "aborted"


def test_a_failover_without_a_leader_skips_what_nobody_can_do() -> None:
    """The target hands itself the lease, in spite of its lag and of hold-down."""
    lag = replace(WELL, lag=Lag(events=9_000, unknown=""))
    asked = operation("asked", kind="failover", source="")
    found = view(data=lag, store_operation=asked, hold_down_until=120.0)
    (handed,) = decide(found, LIMITS, NOW).transitions
    assert isinstance(handed, StepOperation) and handed.after.state == "handed"
    assert kinds(view(data=lag, store_operation=operation("handed", kind="failover", source=""))) == [Campaign]
