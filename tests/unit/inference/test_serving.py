"""Roles of one model: who answers, who is let go, and what the index says of it."""

from __future__ import annotations

from typing import cast

import pytest

from services.inference.engine import Session
from services.inference.errors import NotServing, UnknownModel
from services.inference.loading import ProvenVersion
from services.inference.serving import CHALLENGER, CHAMPION, STANDBY, ServedVersion, ServingTable, VersionState
from services.inference.signature import Buckets


def served(table: ServingTable, version: str) -> ServedVersion:
    """A version that was loaded; nobody runs it here."""
    proven = ProvenVersion(f"sum of {version}", cast("Session", None), {})
    return ServedVersion("ranker", version, proven, Buckets((1,), (64,)), table.statistics_of("ranker", version))


def states(table: ServingTable) -> dict[str, tuple[str, str]]:
    """State and reason by version."""
    return {found.version: (found.state, found.reason) for found in table.states()}


def test_a_version_is_let_go_with_its_last_role() -> None:
    """A challenger that becomes champion stays, also when its first role is given to another."""
    table = ServingTable()
    one, two, three = (served(table, version) for version in ("1", "2", "3"))
    assert table.swap(one) is None
    assert table.swap(two, CHALLENGER) is None
    assert table.swap(two, CHAMPION) is one
    assert table.swap(three, CHALLENGER) is None, "two has a role still"
    assert states(table) == {"1": ("UNAVAILABLE", "unloaded"), "2": ("READY", ""), "3": ("READY", "")}
    assert table.remove("ranker") is two
    assert table.find("ranker", "3") is three
    with pytest.raises(NotServing):
        table.find("ranker", None)
    with pytest.raises(NotServing):
        table.find("ranker", "2")
    with pytest.raises(UnknownModel):
        table.find("nobody", None)


def test_another_load_of_a_number_that_serves_stays_ready() -> None:
    """A standby is a load of its own: when it goes, its number may be the champion's."""
    table = ServingTable()
    champion, standby = served(table, "1"), served(table, "1")
    table.swap(standby, STANDBY)
    table.swap(champion)
    assert champion.serial != standby.serial
    assert table.remove("ranker", STANDBY) is standby
    assert states(table) == {"1": ("READY", "")}
    table.note(VersionState("ranker", "1", "UNAVAILABLE", "a later load was refused"))
    assert states(table) == {"1": ("READY", "a later load was refused")}
