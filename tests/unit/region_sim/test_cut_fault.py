"""An unflushed loss takes what it says from a log that nobody writes meanwhile, and lets everybody go on."""

from __future__ import annotations

import struct
from pathlib import Path

import psutil
import pytest

from region_sim.errors import BadDrill, DrillBroken
from region_sim.faults.plays import play_of
from region_sim.faults.segments import carry_out, newest_segment, plan_cut
from region_sim.spec import Cut, load_drill
from tests.unit.region_sim.test_faults import scene, site, taken

HEADER = struct.Struct(">qiibIhi")
NOW = Cut(records=3, partitions=1, peers_behind_seconds=0.0)


def batch(base: int, records: int, body: int = 40) -> bytes:
    """A batch of records as a segment holds it, as far as anybody looks."""
    return HEADER.pack(base, HEADER.size - 12 + body, 0, 2, 0, 0, records - 1) + bytes(body)


def partition(directory: Path, name: str, sizes: list[int], base: int = 0, torn: bytes = b"") -> Path:
    """A partition's directory with one segment of batches of so many records."""
    (directory / name).mkdir(parents=True)
    data, offset = b"", base
    for records in sizes:
        data += batch(offset, records)
        offset += records
    segment = directory / name / f"{base:020}.log"
    segment.write_bytes(data + torn)
    return segment


@pytest.mark.parametrize(("records", "found"), [(1, 18), (2, 18), (3, 14), (6, 14), (7, 10), (500, 10)])
def test_whole_batches_are_taken_and_at_least_as_much_as_was_asked_for(
    tmp_path: Path, records: int, found: int
) -> None:
    """Never a part of one, which the broker would drop by itself; at most the whole segment."""
    segment = partition(tmp_path, "log-0", [4, 4, 2], base=10)
    cut = plan_cut(segment, records)
    assert cut is not None
    assert (cut.found, cut.was, cut.records, cut.partition) == (found, 20, 20 - found, "log-0")
    carry_out(cut)
    assert [path.name for path in segment.parent.iterdir()] == [segment.name]
    left = plan_cut(segment, 1)
    assert (left.was if left else 10) == found


def test_what_was_sent_from_the_file_is_not_changed(tmp_path: Path) -> None:
    """A broker sends a file's own pages; a copier that has not received them yet must not find zeros there."""
    segment = partition(tmp_path, "log-0", [4, 4])
    with segment.open("rb") as sent:
        cut = plan_cut(segment, 1)
        assert cut is not None
        carry_out(cut)
        assert sent.read() == batch(0, 4) + batch(4, 4)
    assert segment.read_bytes() == batch(0, 4)


def test_what_was_not_written_whole_does_not_count(tmp_path: Path) -> None:
    """A kill in the middle of a write leaves it."""
    segment = partition(tmp_path, "log-0", [2, 2], torn=batch(4, 9)[:-1])
    cut = plan_cut(segment, 1)
    assert cut is not None
    assert (cut.found, cut.was) == (2, 4)
    assert plan_cut(partition(tmp_path, "log-1", []), 1) is None


def test_the_newest_segment_is_the_one_that_begins_last(tmp_path: Path) -> None:
    """Names are offsets."""
    partition(tmp_path, "log-0", [1])
    newest = tmp_path / "log-0" / f"{900:020}.log"
    newest.write_bytes(b"")
    assert newest_segment(tmp_path / "log-0") == newest
    assert newest_segment(tmp_path / "nowhere") is None


async def test_the_broker_dies_the_longest_partition_is_cut_and_the_others_go_on(tmp_path: Path) -> None:
    """The supervisor lives and is not stopped any more; other logs and the other region are as they were."""
    with site(tmp_path, "east") as east, site(tmp_path, "west"):
        logs = tmp_path / "east" / "kafka" / "logs"
        short, long = partition(logs, "east-1.events-0", [5]), partition(logs, "east-1.events-1", [5, 2, 2])
        rankings = partition(logs, "east-1.rankings-0", [9, 9, 9, 9])
        before = {path: path.stat().st_size for path in (short, long, rankings)}
        play = play_of(scene(tmp_path), NOW, "", "east-1")
        assert play.region_lost
        said = await play.inject()
        east[1].wait()
        await taken(play)
        assert "east-1.events-1 [5, 9)" in said
        assert {path: path.stat().st_size - size for path, size in before.items()} == {
            short: 0, long: -2 * len(batch(0, 1)), rankings: 0,
        }  # fmt: skip
        assert psutil.Process(east[0].pid).status() != psutil.STATUS_STOPPED
        assert (len(scene(tmp_path).backend.processes("east", [])), east[0].poll()) == (4, None)


async def test_with_the_whole_site_its_supervisor_is_lost_too(tmp_path: Path) -> None:
    """As when a machine loses power; the other region's processes go on, its replicator among them."""
    with site(tmp_path, "east") as east, site(tmp_path, "west"):
        segment = partition(tmp_path / "east" / "kafka" / "logs", "east-1.events-0", [5, 2, 2])
        play = play_of(
            scene(tmp_path), Cut(records=3, partitions=1, peers_behind_seconds=0.0, whole_site=True), "", "east-1"
        )
        assert "SIGKILL to all of east" in await play.inject()
        for process in east:
            process.wait()
        await taken(play)
        assert segment.stat().st_size == len(batch(0, 1))
        backend = scene(tmp_path).backend
        assert (len(backend.processes("east", [])), len(backend.processes("west", []))) == (0, 6)


async def test_it_has_healed_when_the_region_is_in_another_life(tmp_path: Path) -> None:
    """A cut that nobody noticed does not end a life: that is what the drill must find."""
    with site(tmp_path, "east") as east:
        partition(tmp_path / "east" / "kafka" / "logs", "east-1.events-0", [5])
        play = play_of(scene(tmp_path), NOW, "", "east-1")
        await play.inject()
        east[1].wait()
        for life, problem in (("east-1\n", "still in east-1"), ("east-2\n", None)):
            (tmp_path / "east" / "incarnation").write_text(life)
            found = await play.not_healed()
            assert problem in (found or "") if problem else found is None


async def test_where_nothing_can_be_cut_the_drill_says_so(tmp_path: Path) -> None:
    """And nothing stays stopped."""
    with site(tmp_path, "east") as east:
        with pytest.raises(DrillBroken, match="nobody knows its life"):
            await play_of(scene(tmp_path), NOW, "", "").inject()
        with pytest.raises(DrillBroken, match="nothing that could be cut"):
            await play_of(scene(tmp_path), NOW, "", "east-1").inject()
        assert psutil.Process(east[0].pid).status() != psutil.STATUS_STOPPED


def test_a_site_without_a_log_is_refused(tmp_path: Path) -> None:
    """Before anything is started."""
    assert Cut(records=10, partitions=2, peers_behind_seconds=0.5) in load_drill("unflushed-loss").faults
    drill = tmp_path / "cut.toml"
    drill.write_text('name = "cut"\nsummary = "."\n[[faults]]\nkind = "cut"\ntarget = "north"\n')
    with pytest.raises(BadDrill, match="has neither a log nor a model"):
        load_drill(str(drill))
