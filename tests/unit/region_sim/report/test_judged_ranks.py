"""An app that replays a log writes down how each ranking was judged, for the report."""

from __future__ import annotations

from pathlib import Path

from region_sim.history import HistoryWriter, read_history
from region_sim.load.replayed import RecordedJudge
from services.common.clock import SystemClock
from services.replay.judge import Expected


def test_each_judged_ranking_is_an_entry(tmp_path: Path) -> None:
    """The rank of what was clicked, 0 when it was not shown; a search without a click judges nothing."""
    path = tmp_path / "history.jsonl"
    with HistoryWriter(path, SystemClock()) as history:
        judge = RecordedJudge(history)
        for place, clicked in enumerate(("lamp", "rug", "")):
            judge.take(place, Expected(clicked, (0, 0)), ["mug", "lamp"], "model")
    entries = list(read_history(path))
    assert [(entry.type, entry.op, entry.note, entry.rung) for entry in entries] == [
        ("info", "judged", "2", "model"),
        ("info", "judged", "0", "model"),
    ]
    assert judge.report().judged == 2
