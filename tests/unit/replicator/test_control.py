"""What happens to a partition next: waiting, walking, attaching, stopping with an alarm, and going on again."""

from __future__ import annotations

import pytest

from services.replicator.control import Act
from services.replicator.flow import Why
from services.replicator.sources import Holder, OriginShown
from streams.truncation import LogEnd
from tests.support.copied_world import SETTINGS, Copier, CopyLog, OriginLog

EAST = Holder("east", is_origin=True, end=20)
SOUTH = Holder("south", is_origin=False, end=20)


def copier(records: int = 20) -> Copier:
    """One that has copied everything."""
    origin = OriginLog()
    origin.append(records)
    found = Copier(origin, CopyLog())
    found.settle(5)
    assert found.control.held == records
    return found


def look_until_alarm(found: Copier, *holders: Holder) -> list[Act]:
    """Step until an alarm stops it; returns what it did."""
    acts = []
    for _ in range(3 * SETTINGS.looks_before_alarm):
        found.now += 0.3
        acts.append(found.control.step(found.now, holders, None))
        if acts[-1] is Act.ATTACH:
            flow = found.control.new_flow(1, None)
            flow.end(Why.NOT_THERE, "not there")
        elif acts[-1] is Act.INSPECT:
            found.control.inspected(OriginShown(30, 60), found.now)
        if found.control.is_stopped:
            return acts
    raise AssertionError("no alarm")


def test_nothing_is_read_before_the_end_of_the_origin_was_seen() -> None:
    """A topic that is not there yet is no alarm."""
    found = Copier(OriginLog(), CopyLog())
    assert found.step() is Act.WALK
    found.control.saw_no_topic(found.now)
    assert found.step() is Act.NOTHING
    found.poll()
    assert found.step() is Act.ATTACH
    assert not found.control.alarm(found.now)


def test_what_is_not_there_is_looked_for_for_a_while_and_then_an_alarm() -> None:
    """A broker that has just come back may not know its log's end at once."""
    found = copier()
    assert found.control.flow is not None
    found.control.flow.end(Why.NOT_THERE, "not there")
    acts = look_until_alarm(found, EAST)
    assert acts.count(Act.ATTACH) == SETTINGS.looks_before_alarm - 1
    assert "were removed before they were copied" in found.control.alarm(found.now)
    assert found.control.step(found.now, [EAST], None) is Act.NOTHING
    found.now += SETTINGS.alarm_retry_seconds
    assert found.control.step(found.now, [EAST], None) is Act.ATTACH


def test_while_the_origin_is_avoided_another_region_is_read() -> None:
    """And the alarm stays, because it is about the origin."""
    found = copier()
    assert found.control.flow is not None
    found.control.flow.end(Why.NOT_THERE, "not there")
    look_until_alarm(found, EAST)
    more = Holder("south", is_origin=False, end=30)
    assert found.control.step(found.now, [EAST, more], None) is Act.ATTACH
    assert found.control.chosen == more
    assert found.control.alarm(found.now)


def test_the_alarm_ends_when_the_source_proves_itself() -> None:
    """The origin shows the last record again."""
    found = copier()
    assert found.control.flow is not None
    found.control.flow.end(Why.NOT_SHOWN, "another record")
    look_until_alarm(found, EAST)
    assert found.control.alarm(found.now)
    found.now += SETTINGS.alarm_retry_seconds
    found.settle(5)
    assert not found.control.alarm(found.now)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_an_origin_that_ends_earlier_is_not_read_until_its_life_is_sealed(*, is_sealed: bool) -> None:
    """What lies below the cut of a sealed life is genuine; without a seal nobody knows what it is."""
    found = copier(10)
    found.control.saw_end(LogEnd(40, 0), found.now)
    found.control.saw_end(LogEnd(30, 1), found.now)
    limit = 30 if is_sealed else None
    found.now += 0.3
    act = found.control.step(found.now, [EAST], limit)
    assert act is (Act.ATTACH if is_sealed else Act.NOTHING)
    found.now += SETTINGS.looks_before_alarm * SETTINGS.look_again_seconds
    if not is_sealed:
        found.control.step(found.now, [EAST], limit)
        assert "10 records are gone" in found.control.alarm(found.now)


def test_a_topic_made_anew_is_an_alarm_though_it_shows_what_it_must() -> None:
    """The id of the topic is another one."""
    found = copier()
    found.control.topic_id = found.control.topic_id_now = "one"
    found.step()
    found.control.topic_id_now = "two"
    for _ in range(3):
        found.step()
    assert "made again under the same name" in found.control.alarm(found.now)


def test_a_better_source_is_moved_to_after_everything_sent_was_reported() -> None:
    """The origin comes back while a copy is being read."""
    found = copier()
    control = found.control
    away = Holder("east", is_origin=True, end=40, blocker="away")
    more = Holder("south", is_origin=False, end=40)
    control.step(found.now, [away, more], None)
    assert control.step(found.now, [away, more], None) is Act.ATTACH
    flow = control.new_flow(1, None)
    flow.pending.append(flow.pending)  # type: ignore[arg-type]
    assert control.step(found.now, [EAST, more], None) is Act.NOTHING
    assert flow.ended is not None
    assert flow.ended.why is Why.MOVED
    flow.pending.clear()
    assert control.step(found.now, [EAST, more], None) is Act.ATTACH
    assert control.chosen == EAST


def test_a_copy_read_from_too_far_is_begun_earlier_each_time() -> None:
    """Until its first record; only then it does not hold what is wanted."""
    found = copier()
    control = found.control
    away, more = Holder("east", is_origin=True, end=40, blocker="away"), Holder("south", is_origin=False, end=40)
    starts = []
    for _ in range(4):
        for _ in range(2):
            if control.step(found.now, [away, more], None) is Act.ATTACH:
                flow = control.new_flow(1, None)
                starts.append(flow.start_offset)
                flow.end(Why.TOO_FAR)
        found.now += 0.3
    assert starts[:2] == [19, 0]


def test_a_copy_that_cannot_be_placed_stops_with_an_alarm() -> None:
    """And says that nothing is held, because nobody knows."""
    found = copier()
    found.control.walked(found.control.state, "", "somebody wrote", found.now)  # type: ignore[arg-type]
    assert not found.control.is_known
    assert found.control.held == 0
    assert "somebody wrote" in found.control.alarm(found.now)


def test_a_log_whose_broker_was_restarted_is_copied_beyond_that_place() -> None:
    """Each restart is another leader epoch; a region that begins with nothing copies over all of them."""
    origin = OriginLog()
    for _ in range(3):
        origin.append(5)
        origin.leader_epoch += 1
    found = Copier(origin, CopyLog())
    found.settle(20)
    assert found.control.held == 15
    assert not found.control.alarm(found.now)
