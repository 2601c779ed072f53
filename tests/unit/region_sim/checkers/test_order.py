"""What an app says after something was acknowledged lies behind it."""

from __future__ import annotations

import msgspec

from region_sim.evidence import LogRows
from services.ledger.acks import Ack
from tests.support.judged import found_by, without
from tests.support.planted_history import Planted, history

NAME = "user-order"


def moved(planted: Planted, ack: Ack, **place: int) -> None:
    """Let an event lie, and be acknowledged, somewhere else."""
    for region, rows in planted.rows.items():
        planted.rows[region] = [
            msgspec.structs.replace(row, offset=place.get("offset", row.offset)) if row.item == ack.item else row
            for row in rows
        ]
    planted.entries[:] = [
        msgspec.structs.replace(entry, acks=[msgspec.structs.replace(entry.acks[0], **place)])
        if entry.acks and entry.acks[0].id == ack.id
        else entry
        for entry in planted.entries
    ]


def test_events_behind_each_other_are_in_order() -> None:
    """The right one passes, and says how many were compared."""
    found = found_by(NAME, history())
    assert found.verdict == "valid"
    assert found.sentence.startswith("15 events")


def test_an_event_before_one_that_was_acknowledged_when_it_was_said_is_found() -> None:
    """The log was not append-only, or a frame overtook another."""

    def plant(planted: Planted) -> None:
        ack = planted.event(9.0)
        moved(planted, ack, offset=0)

    found = found_by(NAME, history(before=plant))
    assert found.verdict == "invalid"
    assert found.first_index is not None
    assert "had been acknowledged" in found.examples[0]


def test_two_that_were_under_way_together_may_lie_in_any_order() -> None:
    """Nothing is promised about what was said before the other was acknowledged."""

    def plant(planted: Planted) -> None:
        one = planted.event(9.0)
        other = planted.event(9.1)
        asked = next(e for e in planted.entries if e.said and e.said[0].id == other.id)
        answered = next(e for e in planted.entries if e.acks and e.acks[0].id == one.id)
        # The second is said before the first is answered.
        first, second = answered.index, asked.index
        planted.entries[first] = msgspec.structs.replace(asked, index=first)
        planted.entries[second] = msgspec.structs.replace(answered, index=second)
        swapped = {one.id: other.offset, other.id: one.offset}
        for ack in (one, other):
            moved(planted, ack, offset=1_000 + swapped[ack.id])
        for ack in (one, other):
            moved(planted, msgspec.structs.replace(ack), offset=swapped[ack.id])

    assert found_by(NAME, history(before=plant)).verdict == "valid"


def test_a_place_that_was_used_again_after_a_cut_is_compared_with_nothing() -> None:
    """What a cut took away does not lie there any more; what came after it has smaller offsets, and may."""

    def plant(planted: Planted) -> None:
        gone = planted.event(9.0, held="")
        moved(planted, gone, offset=800)

    assert found_by(NAME, history("cut", before=plant)).verdict == "valid"


def test_a_user_in_two_partitions_of_one_log_has_no_order() -> None:
    """The partition is the user's."""

    def plant(planted: Planted) -> None:
        ack = planted.event(9.0)
        row = next(row for row in planted.rows["west"] if row.item == ack.item)
        moved(planted, ack, partition=1)
        planted.add(
            "info", "collect", "collector", 9.5, evidence=LogRows(region="west", log=ack.log, partition=1, rows=[row])
        )

    found = found_by(NAME, history(before=plant))
    assert found.verdict == "invalid"
    assert "partitions 0 and 1" in found.sentence


def test_nothing_to_compare_proves_nothing() -> None:
    """No acknowledgement, no logs, or no two events of one app."""
    silent = [msgspec.structs.replace(entry, acks=[]) for entry in history()]
    assert found_by(NAME, silent).verdict == "unknown"
    assert found_by(NAME, history(evidence=lambda f: without(f, LogRows))).verdict == "unknown"
    late = max(entry.index for entry in history() if entry.acks)
    once = [e if e.index == late else msgspec.structs.replace(e, acks=[]) for e in history()]
    assert found_by(NAME, once).verdict == "unknown"
