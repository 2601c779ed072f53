"""Drill files: all that come with the project are right, and what is wrong in one is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from region_sim.errors import BadDrill
from region_sim.spec import DRILL_DIR, Kill, Partition, known_drills, load_drill


def test_every_drill_that_is_shipped_can_be_read_and_bears_its_files_name() -> None:
    """Among them those that users are promised."""
    names = {drill.name for drill in known_drills()}
    assert names == {path.stem for path in DRILL_DIR.glob("*.toml")}
    assert names >= {"kill-active", "wipe-active", "partition-active", "switchover-under-load"}
    assert all(drill.load.searches_per_second == 50 for drill in known_drills())
    assert all(drill.load.events_per_second == 200 for drill in known_drills())


def test_a_value_can_be_replaced_and_keeps_its_type() -> None:
    """TOML values, and bare words as strings."""
    drill = load_drill(
        "kill-active", ["load.users=5", "fault.target=west", "fault.processes=['kafka']", "marks.rto_seconds_max=60.5"]
    )
    assert drill.load.users == 5
    assert drill.fault == Kill(target="west", processes=["kafka"])
    assert drill.marks.rto_seconds_max == 60.5


def test_a_whole_fault_can_be_replaced() -> None:
    """The kind decides which keys are known."""
    changes = ["fault.kind=partition", "fault.shape=peer", "topology.network=namespaces"]
    assert load_drill("partition-active", changes).fault == Partition(target="active", shape="peer")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("load.user=5", "unknown field `user`"),
        ("load.users=many", "Expected `int`"),
        ("load.users=0", "`int` >= 1"),
        ("load.users", "key=value"),
        ("name.inner=1", "is a value, not a table"),
        ("fault.target=mars", "'mars' is none of active, passive, etcd-leader, east, west, north"),
        ("topology.witness=", "two regions need a witness"),
        ("topology.witness=east", "two sites have one name"),
        ("topology.regions=['east']", "length >= 2"),
        ("fault.kind=partition", "needs topology.network"),
        ("fault.kind=flood", "Invalid value 'flood'"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(change: str, words: str) -> None:
    """A drill that silently tested something else would be worse than none."""
    with pytest.raises(BadDrill, match=words.replace("(", r"\(")):
        load_drill("wipe-active", [change])


def test_three_regions_need_no_witness() -> None:
    """They have a majority without one."""
    drill = load_drill("kill-active", ["topology.regions=['a', 'b', 'c']", "topology.witness="])
    assert drill.topology.regions == ["a", "b", "c"]


def test_an_unknown_drill_is_refused_with_the_names_of_those_that_exist(tmp_path: Path) -> None:
    """A file of one's own is named by its path."""
    with pytest.raises(BadDrill, match="there are: kill-active"):
        load_drill("nope")
    own = tmp_path / "own.toml"
    own.write_text('name = "own"\nsummary = "mine"\n[fault]\nkind = "wipe"\n')
    assert load_drill(str(own)).name == "own"
    own.write_text("name = ")
    with pytest.raises(BadDrill, match="cannot be read"):
        load_drill(str(own))
