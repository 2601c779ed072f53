"""One pass over a history keeps what the report draws, and a lane says who was active when."""

from __future__ import annotations

from region_sim.evidence import FaultSeen, TermSeen
from region_sim.report.gather import distinct, gather
from region_sim.report.quality import parts
from region_sim.report.timeline import Span, timeline
from tests.support.drilled_run import FIRST, SECOND, THIRD, Drilled, drilled, plan


def states(spans: list[Span]) -> list[tuple[str, float, float]]:
    """Spans in short."""
    return [(span.state, round(span.began, 2), round(span.ended, 2)) for span in spans]


def test_searches_are_counted_by_second_region_and_part() -> None:
    """Every search once, where it was answered, or among those that nobody answered."""
    observed = gather(drilled())
    searches = [entry for entry in drilled() if entry.op == "search"]
    answered = [entry for entry in searches if entry.type == "ok"]
    assert sum(observed.asked.values()) == sum(entry.type == "invoke" for entry in searches)
    assert sum(len(found) for found in observed.latencies_ms.values()) == len(answered)
    assert sum(observed.unanswered.values()) == sum(entry.type == "info" for entry in searches) > 0
    assert {region for _, region in observed.latencies_ms} == {"east", "west"}
    assert {name: part.asked for name, part in parts(observed).items()} == {"before": 200, "during": 552, "after": 100}


def test_events_are_counted_once_however_often_they_are_said() -> None:
    """A repetition under the same id is the same event."""
    run = Drilled()
    run.add("info", "plan", "conductor", 0.0, evidence=plan())
    for at in (1.0, 2.0, 3.0):
        run.publish("same", at, "east-1.events")
    run.publish("other", 4.0, "east-1.events")
    ledger = gather(run.entries).ledger
    assert len(ledger.said) == len(ledger.acknowledged) == 4
    assert distinct(ledger.said) == distinct(ledger.acknowledged) == 2


def test_each_heal_ends_its_own_fault() -> None:
    """Heals name the fault that they heal; two at once do not end each other."""
    faults = gather(drilled()).faults
    assert [(fault.kind, fault.began, fault.healed) for fault in faults] == [
        ("wipe", 20.0, 41.0),
        ("partition", 45.0, 60.2),
        ("poison", 46.0, 58.1),
    ]


def test_a_heal_that_names_nothing_ends_what_is_open() -> None:
    """Histories of drills with one fault did not need to say what they heal; `recover` ends whatever is left."""
    for op in ("heal", "recover"):
        run = Drilled()
        run.add("info", "plan", "conductor", 0.0, evidence=plan())
        run.fault("kill", "east", 1.0)
        began = run.add("invoke", op, "nemesis", 5.0)
        run.add("ok", op, "nemesis", 7.0, call=began.index)
        assert [fault.healed for fault in gather(run.entries).faults] == [7.0]


def test_a_fault_that_did_not_take_shades_nothing() -> None:
    """Refused, failed and unfinished faults are listed with the reason, and leave their site as it was."""
    run = Drilled()
    run.add("info", "plan", "conductor", 0.0, evidence=plan())
    refused = run.add("invoke", "fault", "nemesis", 1.0, note="clock", region="")
    run.add("fail", "fault", "nemesis", 1.0, call=refused.index, note="clock", error="refused: no clocks here")
    seen = FaultSeen(
        kind="wipe", target="east", was_active=True, region_lost=True, incarnation="east-1", verified=False, details=""
    )
    failed = run.add("invoke", "fault", "nemesis", 2.0, note="wipe", region="east")
    run.add(
        "fail", "fault", "nemesis", 3.0, call=failed.index, note="wipe", region="east", error="it lives", evidence=seen
    )
    run.add("invoke", "fault", "nemesis", 4.0, note="kill", region="west")
    run.phase("load stops", 9.0)
    observed = gather(run.entries)
    assert [(fault.took, fault.error) for fault in observed.faults] == [
        (False, "refused: no clocks here"),
        (False, "it lives"),
        (False, ""),
    ]
    assert {span.state for lane in timeline(observed).lanes if not lane.is_witness for span in lane.spans} == {
        "not known"
    }


def test_terms_are_those_that_a_watcher_saw() -> None:
    """A region that is down is down even while its term goes on; the term is kept beside it."""
    found = timeline(gather(drilled()))
    assert found.terms_are_seen
    lanes = {lane.site: lane for lane in found.lanes}
    assert list(lanes) == ["east", "west", "north"]
    assert states(lanes["east"].spans) == [
        ("active", 0.0, 20.0),
        ("down", 20.0, 41.0),
        ("passive", 41.0, 48.8),
        ("active", 48.8, 71.0),
    ]
    assert [(span.epoch, round(span.ended, 2)) for span in lanes["east"].terms] == [(FIRST, 23.0), (THIRD, 71.0)]
    assert states(lanes["west"].spans) == [("passive", 0.0, 23.2), ("active", 23.2, 48.5), ("passive", 48.5, 71.0)]
    assert lanes["north"].is_witness


def test_without_a_watcher_terms_are_those_of_answers() -> None:
    """From the first accepted answer under an epoch to the last."""
    entries = [entry for entry in drilled() if not isinstance(entry.evidence, TermSeen)]
    found = timeline(gather(entries))
    assert not found.terms_are_seen
    (west,) = [lane for lane in found.lanes if lane.site == "west"]
    (term,) = west.terms
    assert term.epoch == SECOND
    assert 24.0 < term.began < 24.5
    assert 44.9 < term.ended < 45.2


def test_every_controllers_word_of_one_transition_is_one_line() -> None:
    """The story is in order of time and says nothing twice."""
    story = timeline(gather(drilled())).story
    assert [moment.at for moment in story] == sorted(moment.at for moment in story)
    assert sum(moment.kind == "acquired" for moment in story) == 3


def test_nothing_at_all_is_no_error() -> None:
    """An empty history has no lanes and no plan."""
    observed = gather([])
    assert observed.entries == 0
    assert timeline(observed).lanes == []
