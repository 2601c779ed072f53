"""Files of a partition that are gone, and what a broker remembers of them beside."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from region_sim.errors import DrillBroken
from region_sim.faults.checkpoints import forget, without
from region_sim.faults.plays import play_of
from region_sim.spec import TopicLoss
from tests.unit.region_sim.test_cut_fault import partition
from tests.unit.region_sim.test_faults import scene, site, taken

CHECKPOINT = "0\n3\neast-1.events 0 12\neast-1.events 10 7\neast-1.rankings 0 5\n"


def test_a_checkpoint_without_some_partitions_counts_what_is_left() -> None:
    """A count that does not fit ends a broker; `-1` and `-10` are two partitions."""
    assert without(CHECKPOINT, ["east-1.events-0"]) == "0\n2\neast-1.events 10 7\neast-1.rankings 0 5\n"
    assert without(CHECKPOINT, ["east-1.events-1"]) == CHECKPOINT
    assert without("0\n0\n", ["east-1.events-1"]) == "0\n0\n"
    assert without("", ["east-1.events-1"]) == "", "made, and not written yet"
    with pytest.raises(ValueError, match="counts 4 partitions and lists 3"):
        without(CHECKPOINT.replace("\n3\n", "\n4\n"), [])


def test_what_is_forgotten_is_gone_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    """Segments, indexes and leader epochs go; which topic the directory belongs to stays."""
    lost = partition(tmp_path, "east-1.events-0", [4, 4])
    kept = partition(tmp_path, "east-1.events-10", [3])
    size = lost.stat().st_size
    for name in ("00000000000000000000.index", "leader-epoch-checkpoint", "partition.metadata"):
        (lost.parent / name).write_text("something")
    (tmp_path / "recovery-point-offset-checkpoint").write_text(CHECKPOINT)
    (tmp_path / ".kafka_cleanshutdown").write_text("")
    before = kept.read_bytes()
    assert forget(tmp_path, ["east-1.events-0"]) == size
    assert [path.name for path in lost.parent.iterdir()] == ["partition.metadata"]
    assert kept.read_bytes() == before
    assert "east-1.events 0 " not in (tmp_path / "recovery-point-offset-checkpoint").read_text()
    assert not (tmp_path / ".kafka_cleanshutdown").exists()


def test_a_checkpoint_that_cannot_be_read_loses_nothing(tmp_path: Path) -> None:
    """It is read before anything is deleted: half a fault would be another one."""
    segment = partition(tmp_path, "east-1.events-0", [4])
    (tmp_path / "replication-offset-checkpoint").write_text("0\n7\n")
    with pytest.raises(ValueError, match="counts 7 partitions and lists 0"):
        forget(tmp_path, ["east-1.events-0"])
    assert segment.stat().st_size > 0


async def test_the_broker_dies_and_the_longest_partition_is_empty_when_it_comes_back(tmp_path: Path) -> None:
    """The supervisor lives and goes on; the other region is as it was."""
    with site(tmp_path, "east") as east, site(tmp_path, "west"):
        logs = tmp_path / "east" / "kafka" / "logs"
        short, long = partition(logs, "east-1.events-0", [5]), partition(logs, "east-1.events-1", [5, 2, 2])
        rankings = partition(logs, "east-1.rankings-0", [9, 9, 9, 9])
        play = play_of(scene(tmp_path), TopicLoss(), "", "east-1")
        assert play.region_lost
        assert "east-1.events-1" in await play.inject()
        east[1].wait()
        await taken(play)
        assert (short.exists(), long.exists(), rankings.exists()) == (True, False, True)
        assert psutil.Process(east[0].pid).status() != psutil.STATUS_STOPPED
        backend = scene(tmp_path).backend
        assert (len(backend.processes("east", [])), len(backend.processes("west", []))) == (4, 6)
        for life, problem in (("east-1\n", "still in east-1"), ("east-2\n", None)):
            (tmp_path / "east" / "incarnation").write_text(life)
            found = await play.not_healed()
            assert problem in (found or "") if problem else found is None


async def test_where_nothing_can_be_lost_the_drill_says_so(tmp_path: Path) -> None:
    """And nothing stays stopped."""
    with site(tmp_path, "east") as east:
        with pytest.raises(DrillBroken, match="nobody knows its life"):
            await play_of(scene(tmp_path), TopicLoss(), "", "").inject()
        with pytest.raises(DrillBroken, match="holds nothing to be lost"):
            await play_of(scene(tmp_path), TopicLoss(), "", "east-1").inject()
        assert psutil.Process(east[0].pid).status() != psutil.STATUS_STOPPED
