"""The course of a drill, over a world that holds nothing: when what is broken and healed, and what is written down."""

from __future__ import annotations

import asyncio

import pytest

from region_sim.backends.base import Backend
from region_sim.conduct import Conductor
from region_sim.evidence import DrillPlan, FaultSeen
from region_sim.history import Entry, HistoryWriter
from region_sim.memory.kernel import Kernel
from region_sim.spec import Drill, Fault, Kill, OperatorPause, Pause, Phases, Switchover
from tests.support.fake_backend import READY_SECONDS, TAKEOVER_SECONDS, FakeBackend

PHASES = Phases(warm_up_seconds=5.0, steady_seconds=5.0, fault_seconds=6.0, after_seconds=2.0, heal_seconds_max=30.0)


def drill_of(*faults: Fault, phases: Phases = PHASES) -> Drill:
    """A drill with these faults."""
    return Drill(name="made-up", summary="for a test", faults=list(faults), phases=phases)


class Course:
    """A drill that was carried out in virtual time."""

    def __init__(self, drill: Drill, **world: object) -> None:
        self.kernel = Kernel()
        self.world = FakeBackend(self.kernel)
        for name, value in world.items():
            setattr(self.world, name, value)
        backend: Backend = self.world
        history = HistoryWriter(None, self.world.clock)
        self.kernel.run(Conductor(drill, 7, backend, history).run())
        self.entries: list[Entry] = history.entries
        fault = next((entry for entry in self.entries if entry.op == "phase" and entry.note == "fault"), None)
        self.began = fault.monotonic_seconds if fault else 0.0

    def of(self, op: str) -> list[tuple[str, str, float]]:
        """Type, region and seconds since the phase of faults began, of all entries of an operation."""
        return [(e.type, e.region, round(e.monotonic_seconds - self.began, 1)) for e in self.entries if e.op == op]


def test_a_fault_is_injected_and_healed_at_its_time() -> None:
    """The heal names its fault; the phase lasts until its time is over."""
    course = Course(
        drill_of(
            Pause(target="west", at_seconds=4.0, for_seconds=3.0, processes=["kafka"]),
            Pause(target="north", at_seconds=1.0, processes=["etcd"]),
        )
    )
    assert course.of("fault") == [
        ("invoke", "north", 1.0),
        ("ok", "north", 1.0),
        ("invoke", "west", 4.0),
        ("ok", "west", 4.0),
    ]
    assert course.of("heal") == [
        ("invoke", "west", 7.0),
        ("ok", "west", 7.0),
        ("invoke", "north", 10.0),
        ("ok", "north", 10.0),
    ]
    invoked = [entry.index for entry in course.entries if entry.op == "fault" and entry.type == "invoke"]
    assert [entry.call for entry in course.entries if entry.op == "heal"] == [
        invoked[1],
        invoked[1],
        invoked[0],
        invoked[0],
    ]
    assert {entry.note for entry in course.entries if entry.op in ("fault", "heal")} == {"pause"}


def test_the_plan_comes_first_and_the_phases_follow() -> None:
    """As every checker expects them."""
    course = Course(drill_of(Kill()))
    plan = course.entries[0].evidence
    assert isinstance(plan, DrillPlan)
    assert (plan.kind, plan.seed, plan.regions) == ("kill", 7, ["east", "west"])
    assert [e.note for e in course.entries if e.op == "phase"] == [
        "warm-up",
        "steady",
        "fault",
        "heal",
        "after",
        "load stops",
    ]
    assert not course.world.is_open


def test_a_takeover_is_waited_for_and_evidence_is_taken_before_the_heal() -> None:
    """A lost region that was active: another answers first, and what is held of it is written down."""
    course = Course(drill_of(Kill()))
    (takeover,) = course.of("takeover")
    assert takeover[0] == "ok"
    assert takeover[2] == pytest.approx(TAKEOVER_SECONDS, abs=0.3)
    assert course.world.did == [
        "predictions before",
        "forecast without east",
        "inject kill east",
        "held ends of east",
        "heal kill east",
        "states",
        "predictions after",
        "all",
    ]
    (began, done) = course.of("recover")
    assert (began[0], done[0]) == ("invoke", "ok")
    assert done[2] - began[2] == pytest.approx(READY_SECONDS, abs=0.6)


def test_a_takeover_that_does_not_come_is_a_failure_only_for_a_lone_fault() -> None:
    """Beside another fault, nobody may be able to take over."""
    assert [entry[0] for entry in Course(drill_of(Kill()), takes_over=False).of("takeover")] == ["fail"]
    both = Course(drill_of(Kill(), Pause(target="north")), takes_over=False)
    assert [entry[0] for entry in both.of("takeover")] == ["info"]


def test_no_takeover_is_due_while_an_operator_holds_everything() -> None:
    """Nor when the fault heals before one could be."""
    assert Course(drill_of(OperatorPause(), Kill(at_seconds=1.0))).of("takeover") == []
    assert Course(drill_of(Kill(for_seconds=2.0))).of("takeover") == []


def test_targets_are_looked_up_when_their_time_comes() -> None:
    """After a failover another region is active; `first` is whom the first fault hit."""
    course = Course(
        drill_of(
            Kill(for_seconds=5.0),
            Switchover(target="active", at_seconds=12.0),
            Pause(target="first", at_seconds=14.0, processes=["kafka"]),
            Pause(target="passive", at_seconds=15.0, processes=["kafka"]),
            Pause(target="etcd-leader", at_seconds=16.0, processes=["etcd"]),
        )
    )
    assert [region for type_, region, _ in course.of("fault") if type_ == "ok"] == [
        "east",
        "west",
        "east",
        "west",
        "north",
    ]
    seen = [e.evidence for e in course.entries if e.op == "fault" and isinstance(e.evidence, FaultSeen)]
    assert [piece.was_active for piece in seen] == [True, True, True, False, False]


def test_a_fault_can_wait_until_what_came_before_it_is_mended() -> None:
    """However long the regions take to come back; its time counts from then."""
    course = Course(
        drill_of(Kill(for_seconds=5.0), Pause(target="first", at_seconds=2.0, after_recovery=True, processes=["etcd"]))
    )
    struck = [at for type_, _, at in course.of("fault") if type_ == "ok"]
    assert struck[1] == pytest.approx(5.0 + READY_SECONDS + 2.0, abs=0.6)
    (recover, *_) = course.of("recover")
    assert recover[2] == pytest.approx(struck[1] + PHASES.fault_seconds, abs=0.3)


def test_what_a_world_refuses_is_written_down_and_nothing_is_broken() -> None:
    """No load, no fault: the verdict is unknown whatever comes."""
    course = Course(drill_of(Kill()), refuses="this world has no kill")
    assert [(e.type, e.op) for e in course.entries] == [("info", "plan"), ("invoke", "fault"), ("fail", "fault")]
    assert course.entries[-1].error == "refused: this world has no kill"
    assert course.world.did == []


def test_a_fault_that_cannot_be_injected_is_a_failure_and_is_healed_all_the_same() -> None:
    """It may have been done in part."""
    course = Course(drill_of(Kill()), inject_fails=True)
    assert [type_ for type_, _, _ in course.of("fault")] == ["invoke", "fail"]
    assert next(e.error for e in course.entries if e.op == "fault" and e.type == "fail").startswith("nothing runs")
    assert "heal kill east" in course.world.did
    assert course.of("takeover") == []


def test_a_fault_that_does_not_take_is_a_failure() -> None:
    """With the evidence that says so."""
    course = Course(drill_of(Pause(processes=["kafka"])), is_immune=True)
    failed = next(e for e in course.entries if e.op == "fault" and e.type == "fail")
    assert failed.error == "it lives on"
    assert isinstance(failed.evidence, FaultSeen)
    assert not failed.evidence.verified


def test_regions_that_do_not_come_back_in_time_are_a_failure() -> None:
    """The limit is the drill's."""
    course = Course(drill_of(Pause(processes=["kafka"])), ready_at=1e9)
    (began, done) = course.of("recover")
    assert done[0] == "fail"
    assert done[2] - began[2] == pytest.approx(PHASES.heal_seconds_max, abs=0.6)
    assert next(e.error for e in course.entries if e.op == "recover" and e.type == "fail") == "a region starts"


def test_a_fault_waits_for_its_target_and_what_comes_later_keeps_its_distance() -> None:
    """Found by campaigns, seeds 3416 and 3553: nobody was active for 13 s, which was no fault of the drill's."""
    began = PHASES.warm_up_seconds + PHASES.steady_seconds
    course = Course(
        drill_of(
            Pause(target="north", at_seconds=1.0, processes=["etcd"]),
            Pause(target="passive", at_seconds=3.0, for_seconds=2.0, processes=["kafka"]),
            Pause(target="active", at_seconds=4.0, for_seconds=2.0, processes=["kafka"]),
            Pause(target="north", at_seconds=21.0, for_seconds=2.0, processes=["controller"]),
        ),
        absent=(began + 2.0, began + 20.0),
    )
    struck = [(region, at) for kind, region, at in course.of("fault") if kind == "ok"]
    assert [region for region, _ in struck] == ["north", "west", "east", "north"]
    assert [at for _, at in struck] == pytest.approx([1.0, 20.0, 20.0, 38.0], abs=0.2)
    ended = next(e for e in course.entries if e.op == "phase" and e.note == "heal")
    assert ended.monotonic_seconds - course.began >= 37.9 + PHASES.fault_seconds


def test_a_target_that_nobody_names_breaks_nothing() -> None:
    """A fault on `active` while nobody is active."""
    course = Course(drill_of(Pause(processes=["kafka"])), active_now="")
    assert next(e.error for e in course.entries if e.op == "fault" and e.type == "fail").startswith("nobody says")
    assert not any(did.startswith("inject") for did in course.world.did)


def test_an_interrupted_drill_lets_go_what_only_has_to_be_let_go() -> None:
    """What was killed stays dead: starting it again is for whoever runs the deployment."""
    kernel = Kernel()
    world = FakeBackend(kernel)
    history = HistoryWriter(None, world.clock)
    drill = drill_of(Pause(target="west", processes=["kafka"]), Kill(at_seconds=1.0))

    async def interrupted() -> None:
        task = asyncio.create_task(Conductor(drill, 1, world, history).run())
        await world.clock.sleep(13.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    kernel.run(interrupted())
    assert world.did[-1] == "heal pause west"
    assert "heal kill east" not in world.did
    assert not world.is_open
