"""Every event in any log was said by a client, in the same words."""

from __future__ import annotations

import msgspec
import pytest

from region_sim.evidence import LogRead, LogRows, Row
from region_sim.history import Said
from tests.support.judged import found_by, without
from tests.support.planted_history import UNIX_MS, Planted, history

NAME = "applied-was-sent"


def change_row(planted: Planted, **changes: object) -> None:
    """Change one row of west's copy."""
    planted.rows["west"][0] = msgspec.structs.replace(planted.rows["west"][0], **changes)


def made_up(**changes: object) -> Row:
    """A row that nobody said."""
    row = Row(900, 0, "ab" * 16, "click", UNIX_MS + 5_000, 77, 5, 0, "q", "never", "00" * 16, "")
    return msgspec.structs.replace(row, **changes)


def test_everything_in_the_logs_was_said() -> None:
    """The right one passes, and says how many events it looked at."""
    found = found_by(NAME, history())
    assert found.verdict == "valid"
    assert "all 17 events" in found.sentence


@pytest.mark.parametrize(
    "changes",
    [{"item": "other"}, {"query": "other"}, {"time_ms": UNIX_MS + 1}, {"user": 78}, {"session": 6}, {"position": 3}],
)
def test_an_event_whose_content_was_changed_was_not_said(changes: dict[str, object]) -> None:
    """Whatever column it is: the identity tells."""
    found = found_by(NAME, history(end=lambda p: change_row(p, **changes)))
    assert found.verdict == "invalid"
    assert found.first_index is not None


def test_an_event_under_another_identity_was_not_said() -> None:
    """Its words were said, but that is not the event that says them."""
    found = found_by(NAME, history(end=lambda p: change_row(p, identity="00" * 16)))
    assert found.verdict == "invalid"
    assert "under another identity" in found.sentence


def test_an_event_that_nobody_said_is_found_and_one_of_before_the_drill_is_not_judged() -> None:
    """A deployment may hold the events of earlier drills; what is younger must have a client."""
    for row, verdict in ((made_up(), "invalid"), (made_up(time_ms=UNIX_MS - 5_000), "valid")):

        def end(planted: Planted, row: Row = row) -> None:
            for region in planted.rows:
                planted.rows[region].append(row)
                planted.states[region] = msgspec.structs.replace(planted.states[region], events=18)

        assert found_by(NAME, history(end=end)).verdict == verdict


def test_what_the_gateways_say_themselves_needs_no_client() -> None:
    """What was shown is no app's event."""
    served = history(end=lambda p: p.rows["west"].append(made_up(kind="served")))
    assert found_by(NAME, served).verdict == "valid"


def test_what_a_herd_said_was_said() -> None:
    """It is no app of the drill, but it is a client; its words stand in the fault's entry."""
    ack = next(entry.acks[0] for entry in history() if entry.acks)
    entries = [
        msgspec.structs.replace(entry, op="fault", type="ok", call=-1)
        if entry.said and entry.said[0].id == ack.id
        else entry
        for entry in history()
    ]
    assert found_by(NAME, entries).verdict == "valid"
    silent = [msgspec.structs.replace(e, said=[]) if e.said and e.said[0].id == ack.id else e for e in history()]
    assert found_by(NAME, silent).verdict == "invalid"


def test_an_event_that_lies_in_two_logs_was_said_all_the_same() -> None:
    """An app tried another gateway: one identity, two places."""

    def end(planted: Planted) -> None:
        for rows in planted.rows.values():
            rows.append(msgspec.structs.replace(rows[0], offset=900))

    assert found_by(NAME, history(end=end)).verdict == "valid"


def test_a_user_has_one_pseudonym_everywhere() -> None:
    """The same pseudonym for two users would mix what they did; identities alone cannot tell that."""
    entries = [
        msgspec.structs.replace(entry, said=[msgspec.structs.replace(entry.said[0], user="another")])
        if entry.said and entry.monotonic_seconds > 9
        else entry
        for entry in history()
    ]
    found = found_by(NAME, entries)
    assert found.verdict == "invalid"
    assert "pseudonym" in found.sentence


def test_logs_that_nobody_read_and_apps_that_said_nothing_prove_nothing() -> None:
    """Unknown, never valid."""
    assert found_by(NAME, history(evidence=lambda f: without(f, LogRead))).verdict == "unknown"
    assert found_by(NAME, history(evidence=lambda f: without(f, LogRows))).verdict == "unknown"
    silent: list[Said] = []
    entries = [msgspec.structs.replace(entry, said=silent) for entry in history()]
    assert found_by(NAME, entries).verdict == "unknown"
