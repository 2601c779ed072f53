"""A history comes back as it was written, and one with damage is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from region_sim.errors import HistoryDamaged
from region_sim.history import HistoryWriter, read_history
from region_sim.verdict import judge, judge_directory
from services.common.clock import SystemClock
from services.ledger.acks import Ack
from tests.support.planted_history import history


def test_entries_come_back_in_order_with_index_and_both_times(tmp_path: Path) -> None:
    """Index, monotonic and unix time are the writer's business, not the clients'."""
    ack = Ack(source="/a", id="1", time_ms=1, kind="click", log="east-1.events", partition=0, offset=3)
    path = tmp_path / "deep" / "history.jsonl"
    with HistoryWriter(path, SystemClock()) as writer:
        call = writer.add("invoke", "search", "library-east")
        writer.add("ok", "search", "library-east", call=call.index, region="east", epoch=(0, 5), acks=[ack])
        assert writer.answers == {"east": 1}
    first, second = read_history(path)
    assert (first.index, second.index, second.call) == (0, 1, 0)
    assert second.epoch == (0, 5)
    assert second.acks == [ack]
    assert second.monotonic_seconds >= first.monotonic_seconds


def test_a_missing_or_damaged_line_is_refused(tmp_path: Path) -> None:
    """A history with a hole could hide the very answer that matters."""
    path = tmp_path / "history.jsonl"
    with HistoryWriter(path, SystemClock()) as writer:
        for _ in range(3):
            writer.add("info", "phase", "conductor")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(HistoryDamaged, match="lines are missing"):
        list(read_history(path))
    path.write_bytes(lines[0] + lines[1][:10])
    with pytest.raises(HistoryDamaged, match="line 2"):
        list(read_history(path))
    with pytest.raises(HistoryDamaged, match="cannot be read"):
        list(read_history(tmp_path / "none"))


def test_a_history_of_no_drill_is_refused() -> None:
    """Its first entry says what was going to be done."""
    with pytest.raises(HistoryDamaged, match="does not begin"):
        judge(history()[1:])
    with pytest.raises(HistoryDamaged, match="does not begin"):
        judge([])


def test_judging_a_directory_writes_the_verdict_beside_the_history(tmp_path: Path) -> None:
    """So anybody can judge again what was recorded elsewhere."""
    import msgspec

    encoder = msgspec.json.Encoder()
    (tmp_path / "history.jsonl").write_bytes(b"".join(encoder.encode(entry) + b"\n" for entry in history()))
    verdict = judge_directory(tmp_path, "region-sim run planted --seed 7")
    written = msgspec.json.decode((tmp_path / "verdict.json").read_bytes())
    assert written["verdict"] == verdict.verdict == "valid"
    wanted = {
        "verdict", "drill", "backend", "seed", "rto_seconds", "rpo_events", "acknowledged", "lost", "lost_unlisted",
        "last_contact_before_fault_seconds", "counted_twice", "stale_answers", "digests_equal", "checks", "replay",
    }  # fmt: skip
    assert wanted <= written.keys()
    assert written["seed"] == 7
    assert written["replay"].endswith("--seed 7")
