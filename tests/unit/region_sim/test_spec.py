"""Drill files: all that come with the project are right, and what is wrong in one is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from region_sim.errors import BadDrill
from region_sim.spec import DRILL_DIR, Kill, Partition, known_drills, load_drill

PROMISED = (
    "wipe-active wipe-passive kill-active partition-active partition-one-way partition-etcd-only partition-data-only "
    "split-then-heal pause-active etcd-leader-and-active etcd-quorum-lost broker-kill unflushed-loss "
    "processor-crash-loop replicator-kill slow-link lossy-link inference-hang inference-kill corrupt-model wrong-model "
    "poison-events topic-data-loss disk-full clock-step switchover-under-load failback-herd double-failure "
    "second-loss-after-failover rolling-restart"
)


def test_every_drill_that_is_shipped_can_be_read_and_bears_its_files_name() -> None:
    """Among them those that users are promised."""
    names = {drill.name for drill in known_drills()}
    assert names == {path.stem for path in DRILL_DIR.glob("*.toml")}
    assert names >= set(PROMISED.split())
    assert all(drill.load.searches_per_second == 50 for drill in known_drills())
    assert all(drill.load.events_per_second == 200 for drill in known_drills())
    assert len({drill.summary for drill in known_drills()}) == len(names)


def test_a_value_can_be_replaced_and_keeps_its_type() -> None:
    """TOML values, and bare words as strings."""
    changes = ["load.users=5", "faults.0.target=west", "faults.0.processes=['kafka']", "marks.rto_seconds_max=60.5"]
    drill = load_drill("kill-active", changes)
    assert drill.load.users == 5
    assert drill.faults == [Kill(target="west", processes=["kafka"])]
    assert drill.marks.rto_seconds_max == 60.5


def test_a_whole_fault_can_be_replaced_and_another_one_added() -> None:
    """The kind decides which keys are known; the place after the last one is a new fault."""
    changes = ["faults.0.shape=peer", "faults.1.kind=kill", "faults.1.target=first", "faults.1.at_seconds=3"]
    assert load_drill("partition-active", changes).faults == [
        Partition(target="active", shape="peer"),
        Kill(target="first", at_seconds=3.0),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("load.user=5", "unknown field `user`"),
        ("load.users=many", "Expected `int`"),
        ("load.users=0", "`int` >= 1"),
        ("load.users", "key=value"),
        ("name.inner=1", "is a value, not a table"),
        ("faults.0.target=mars", "'mars' is none of active, passive, etcd-leader, first, east, west, north"),
        ("faults.0.target=first", "whom the first fault of the file hit"),
        ("faults.2.kind=kill", "2 is no place in a list of 1"),
        ("faults.x.kind=kill", "x is no place in a list"),
        ("faults.first=1", "first is no place in a list"),
        ("faults.0.for_seconds=0", "`float` > 0"),
        ("faults=[]", "length >= 1"),
        ("topology.witness=", "two regions need a witness"),
        ("topology.witness=east", "two sites have one name"),
        ("topology.regions=['east']", "length >= 2"),
        ("faults.0.kind=partition", "needs topology.network"),
        ("faults.0.kind=flood", "Invalid value 'flood'"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(change: str, words: str) -> None:
    """A drill that silently tested something else would be worse than none."""
    with pytest.raises(BadDrill, match=words.replace("(", r"\(")):
        load_drill("wipe-active", [change])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["faults.0.processes=['kafkaa']"], "'kafkaa' is none of etcd, kafka"),
        (["faults.0.times=3"], "needs the processes that crash"),
        (["faults.0.kind=switchover", "faults.0.to=mars"], "'mars' is no region"),
        (["faults.0.kind=poison", "faults.0.target=north"], "has neither a log nor a model"),
        (["faults.1.kind=pause", "faults.1.after_recovery=true"], "needs a for_seconds of the kill before it"),
        (["faults.0.at_seconds=5", "faults.1.kind=pause", "faults.1.target=first"], "must come before it"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(changes: list[str], words: str) -> None:
    """Before anything is started."""
    with pytest.raises(BadDrill, match=words):
        load_drill("kill-active", changes)


def test_three_regions_need_no_witness() -> None:
    """They have a majority without one."""
    drill = load_drill("kill-active", ["topology.regions=['a', 'b', 'c']", "topology.witness="])
    assert drill.topology.regions == ["a", "b", "c"]


def test_an_unknown_drill_is_refused_with_the_names_of_those_that_exist(tmp_path: Path) -> None:
    """A file of one's own is named by its path."""
    with pytest.raises(BadDrill, match="there are: broker-kill"):
        load_drill("nope")
    own = tmp_path / "own.toml"
    own.write_text('name = "own"\nsummary = "mine"\n[[faults]]\nkind = "wipe"\n')
    assert load_drill(str(own)).name == "own"
    own.write_text("name = ")
    with pytest.raises(BadDrill, match="cannot be read"):
        load_drill(str(own))
