"""A training set out of a real broker's logs: which events, and that a region folded the same ones."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from infra.runtime.kafka import KafkaBroker
from models.data.log_cut import cut, wanted_frontier
from models.data.logged import frontier_of
from models.errors import SourceUnreadable
from services.models.cli import models as command
from streams.frame import EventRow
from streams.logs import events_log
from streams.position import Frontier
from tests.support.frames import PARTITIONS, FrameWriter, event_rows, item_rows, make_topics
from tests.support.processor_process import ProcessorProcess
from tests.support.two_regions import Copier

pytestmark = pytest.mark.integration


def answered(rows: list[EventRow]) -> list[EventRow]:
    """Searches and clicks in turn, each click on the search right before it."""
    return [
        msgspec.structs.replace(row, user=rows[n - 1].user, session=rows[n - 1].session, query=rows[n - 1].query)
        if n % 2
        else row
        for n, row in enumerate(rows)
    ]


def test_the_cut_is_what_a_processor_folded(kafka: KafkaBroker, tmp_path: Path) -> None:
    """One digest at one frontier; events that were written twice are one; an older frontier cuts the same set again."""
    life = "cutone-1"
    log = events_log(life)
    make_topics(kafka.bootstrap, life)
    writer = FrameWriter(kafka.bootstrap, log)
    rows = event_rows(300, seed=5)
    writer.frame(item_rows(40), 0)
    writer.spread(rows)
    writer.flush()
    first = cut(kafka.bootstrap, [log])
    writer.spread(rows[:100])
    writer.spread(event_rows(60, seed=6))
    writer.flush()
    whole = cut(kafka.bootstrap, [log])
    assert first.cut is not None
    assert whole.cut is not None
    assert (first.cut.events, whole.cut.events) == (300, 360)
    assert len(first.rows) == 340
    with ProcessorProcess(tmp_path, kafka.bootstrap, life, clock_events=1000) as processor:
        state = processor.wait_events(360)
    assert whole.cut.digest == state["digest"]
    named = wanted_frontier({"logs": {log: {p: point.next_offset for p, point in first.cut.logs[log].items()}}})
    again = cut(kafka.bootstrap, [log], named)
    assert again == first
    assert frontier_of(again, 10_000) == first.cut


def test_logs_of_another_life_are_read_by_what_their_records_say(kafka: KafkaBroker) -> None:
    """A copy counts with its origin's offsets; one that is not there up to the frontier is refused, not cut short."""
    own, other = "cuttwo-1", "cutthree-1"
    make_topics(kafka.bootstrap, own)
    make_topics(kafka.bootstrap, other)
    writer = FrameWriter(kafka.bootstrap, events_log(own))
    writer.frame(event_rows(30, seed=1), 1)
    writer.flush()
    copier = Copier(kafka.bootstrap, other)
    copier.frame(event_rows(20, seed=2), 2, 0)
    copier.frame(event_rows(20, seed=3), 2, 1)
    copier.flush()
    logs = [events_log(own), events_log(other)]
    found = cut(kafka.bootstrap, logs)
    assert found.cut is not None
    assert found.cut.events == 70
    assert {name: sorted(places) for name, places in found.cut.logs.items()} == {logs[0]: ["1"], logs[1]: ["2"]}
    half = cut(kafka.bootstrap, logs, Frontier({(logs[0], 1): 1, (logs[1], 2): 1}))
    assert half.cut is not None
    assert half.cut.events == 50
    with pytest.raises(SourceUnreadable, match=rf"{logs[1]}/2 was read to 2 of 3"):
        cut(kafka.bootstrap, logs, Frontier({(logs[0], 1): 1, (logs[1], 2): 3}))
    with pytest.raises(SourceUnreadable, match=r"names strange-1.events"):
        cut(kafka.bootstrap, logs, Frontier({("strange-1.events", 0): 1}))


def test_the_verb_trains_on_the_regions_logs(
    kafka: KafkaBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version's manifest names log, partition, offset and digest, and is itself a frontier to train at again."""
    pytest.importorskip("torch", reason="training needs torch: make train-env")
    life = "cutfour-1"
    make_topics(kafka.bootstrap, life)
    writer = FrameWriter(kafka.bootstrap, events_log(life))
    writer.frame(item_rows(40), 0)
    writer.spread(answered(event_rows(700, seed=5)))
    writer.flush()
    known = cut(kafka.bootstrap, [events_log(life)]).cut
    wanted = tmp_path / "manifest.json"
    wanted.write_bytes(msgspec.json.encode({"frontier": known}))
    writer.spread(event_rows(50, seed=7))
    writer.flush()
    monkeypatch.setenv("MERIDIAN_REGION_NAME", "cutfour")
    monkeypatch.setenv("MERIDIAN_REGION_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("MERIDIAN_REGION_DATA_DIR", str(tmp_path / "region"))
    runner = CliRunner()
    verb = ["train", "--from-log", "--frontier", str(wanted), "--epochs", "1", "--out", str(tmp_path / "one")]
    done = runner.invoke(command, verb)
    assert done.exit_code == 0, done.output
    manifest = json.loads(Path(done.stdout.strip().splitlines()[-1], "manifest.json").read_bytes())
    assert manifest["trained_on"] == f"the events logs {events_log(life)}"
    frontier = manifest["frontier"]
    assert {int(p) for p in frontier["logs"][events_log(life)]} == set(range(PARTITIONS))
    assert (frontier["events"], frontier["rows"], len(frontier["digest"])) == (700, 350, 32)
    assert frontier == msgspec.to_builtins(known)
    wrong = runner.invoke(command, ["train", "--from-log", "--data", "x", "--out", str(tmp_path / "three")])
    assert (wrong.exit_code, "either --data, or --from-log" in wrong.stderr) == (64, True)


def test_a_region_without_logs_says_so(kafka: KafkaBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No log of that name, and the way to look for the mistake."""
    monkeypatch.setenv("MERIDIAN_REGION_NAME", "nowhere")
    monkeypatch.setenv("MERIDIAN_REGION_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("MERIDIAN_REGION_DATA_DIR", str(tmp_path / "region"))
    done = CliRunner().invoke(command, ["train", "--from-log", "--out", str(tmp_path)])
    assert (done.exit_code, "holds no events log of nowhere" in done.stderr) == (64, True)
