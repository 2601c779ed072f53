"""The processor as a process on a real broker: killed, cut, fed with rubbish; its state stays a function of the log."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infra.runtime.kafka import KafkaBroker
from services.common.exit_codes import ExitCode
from streams.dead_letter import read_dead_letters
from streams.frame import HEADER_ASKS, EventRow, encode_frame, frame_headers
from streams.kinds import Kind
from streams.logs import events_log
from tests.support.frames import KEY_FINGERPRINT, FrameWriter, event_rows, item_rows, make_topics
from tests.support.poll import wait_until
from tests.support.processor_process import ROOT, ProcessorProcess

pytestmark = pytest.mark.integration


def digest_from_zero(process: ProcessorProcess, until: dict[str, Any], directory: Path) -> dict[str, Any]:
    """`meridian digest --from-zero --until FILE --json`, in a process of its own."""
    frontier = directory / "frontier.json"
    frontier.write_text(json.dumps({"frontier": until["frontier"]}))
    command = [sys.executable, "-m", "services.cli", "digest", "--from-zero", "--until", str(frontier), "--json"]
    made = subprocess.run(command, cwd=ROOT, env=process.environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    found: dict[str, Any] = json.loads(made.stdout)
    return found


def test_live_and_replayed_digest_agree_after_kill_9_in_mid_stream(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Killed twice while frames pour in, with and without a snapshot; every event is there once."""
    incarnation = "proc-1"
    make_topics(kafka.bootstrap, incarnation)
    writer = FrameWriter(kafka.bootstrap, events_log(incarnation))
    process = ProcessorProcess(tmp_path, kafka.bootstrap, incarnation, snapshot_interval_seconds=1)
    with process:
        writer.spread(item_rows(40), frame_events=10)
        total = 0
        for life in range(3):
            rows = event_rows(2_000, seed=life)
            writer.spread(rows[:1_000])
            process.wait_events(total + 500)
            process.kill()
            writer.spread(rows[1_000:])
            total += 2_000
            process.start(wait=False)
            seconds = process.wait_ready()
            print(f"ready again {seconds:.2f} s after the start that followed kill -9")
        writer.spread(event_rows(2_000, seed=99))
        total += 2_000
        writer.flush()
        live = process.wait_events(total)
        assert (live["events"], live["duplicates"], live["late"], live["dead"]) == (total, 0, 0, 0)
        assert digest_from_zero(process, live, tmp_path)["digest"] == live["digest"]


def test_a_killed_broker_costs_nothing(fresh_broker: KafkaBroker, tmp_path: Path) -> None:
    """The processor stays up, proves the log, and goes on by itself."""
    incarnation = "proc-2"
    make_topics(fresh_broker.bootstrap, incarnation)
    writer = FrameWriter(fresh_broker.bootstrap, events_log(incarnation))
    with ProcessorProcess(tmp_path, fresh_broker.bootstrap, incarnation) as process:
        pid = process.pid
        writer.spread(event_rows(1_000, seed=1))
        process.wait_events(300)
        fresh_broker.kill()
        wait_until(lambda: process.get("/readyz?verbose")[0] == 503, 10, "the silence of the broker to be seen")
        assert "[-] broker" in process.get("/readyz?verbose")[1]
        fresh_broker.start()
        writer.spread(event_rows(1_000, seed=2))
        writer.flush()
        live = process.wait_events(2_000)
        assert (process.pid, process.returncode) == (pid, None)
        assert live["duplicates"] == 0
        assert process.metric("meridian_log_proofs_total") > 0
        assert digest_from_zero(process, live, tmp_path)["digest"] == live["digest"]


def test_a_corrupt_frame_is_buried_and_all_else_is_folded(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Live and in a replay from zero alike: once in the dead log, with reason and position."""
    incarnation = "proc-3"
    make_topics(kafka.bootstrap, incarnation)
    writer = FrameWriter(kafka.bootstrap, events_log(incarnation))
    rows = event_rows(300, seed=1)
    bad_item = EventRow(
        identity=bytes(16), time_ms=1, user=0, session=0, kind=Kind.ITEM, item="x", body=b'{"title":"\xff"}'
    )
    bad_asks = [*frame_headers(0, KEY_FINGERPRINT), (HEADER_ASKS, b"\x91\x81\xa6ask_id\xa1\xff")]
    with ProcessorProcess(tmp_path, kafka.bootstrap, incarnation, snapshot_interval_seconds=600) as process:
        writer.frame(rows[:100], partition=1)
        # Well-formed frames: what an app put into them is no reason to bury them, or to stop.
        writer.raw(encode_frame([bad_item]), frame_headers(1, KEY_FINGERPRINT), partition=0)
        writer.raw(encode_frame([]), bad_asks, partition=0)
        writer.raw(encode_frame(rows[100:200])[:500], frame_headers(100, KEY_FINGERPRINT), partition=1)
        writer.frame(rows[200:], partition=1)
        writer.flush()
        live = process.wait_events(200)
        assert live["dead"] == 1
        process.kill()
        process.start()
        again = process.wait_events(200)
        assert (again["dead"], again["digest"]) == (1, live["digest"])
    letters = list(read_dead_letters(kafka.bootstrap, incarnation))
    assert [(letter.origin.partition, letter.origin.offset) for letter in letters] == [(1, 1)]
    assert letters[0].reason


def test_an_unknown_frame_version_ends_it_with_65_and_says_why(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Met while running, and met again by the replay of the next start."""
    incarnation = "proc-4"
    make_topics(kafka.bootstrap, incarnation)
    writer = FrameWriter(kafka.bootstrap, events_log(incarnation))
    with ProcessorProcess(tmp_path, kafka.bootstrap, incarnation) as process:
        writer.frame(event_rows(10, seed=1), partition=0)
        writer.raw(b"whatever", [("meridian-frame", b"2")], partition=0)
        writer.flush()
        assert process.wait_exit() == ExitCode.UNKNOWN_FRAME_VERSION
        assert "frame version 2 is not known" in process.log_text()
        process.start(wait=False)
        assert process.wait_exit() == ExitCode.UNKNOWN_FRAME_VERSION


def test_a_gap_ends_it_with_66(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Records are missing between a snapshot's frontier and the log's start."""
    from tests.integration.test_stream_delivery import kafka_delete_before

    incarnation = "proc-5"
    make_topics(kafka.bootstrap, incarnation)
    writer = FrameWriter(kafka.bootstrap, events_log(incarnation))
    with ProcessorProcess(tmp_path, kafka.bootstrap, incarnation) as process:
        writer.frame(event_rows(10, seed=1), partition=0)
        writer.flush()
        process.wait_events(10)
        assert process.terminate() == ExitCode.OK
        for seed in range(2, 6):
            writer.frame(event_rows(10, seed=seed), partition=0)
        writer.flush()
        kafka_delete_before(kafka.bootstrap, events_log(incarnation), 0, 3)
        process.start(wait=False)
        assert process.wait_exit() == ExitCode.LOG_TRUNCATED_OR_GAP
        assert events_log(incarnation) in process.log_text()


def cut(broker: KafkaBroker, log: str, keep: float) -> None:
    """Kill the broker, cut partition 0's segment as a power loss does, start it again."""
    broker.kill()
    segment = next(broker.data_dir.glob(f"**/{log}-0/*.log"))
    with segment.open("r+b") as file:
        file.truncate(int(segment.stat().st_size * keep))
    broker.start()


@pytest.mark.parametrize("written_after", [0, 40], ids=["nothing-follows", "more-than-was-cut-follows"])
def test_a_cut_log_ends_it_with_66_and_is_not_forgotten(
    fresh_broker: KafkaBroker, tmp_path: Path, written_after: int
) -> None:
    """Alarm, no snapshot afterwards, and no restart over it."""
    incarnation = "proc-6"
    log = events_log(incarnation)
    make_topics(fresh_broker.bootstrap, incarnation, partitions=1)
    writer = FrameWriter(fresh_broker.bootstrap, log, partitions=1)
    with ProcessorProcess(tmp_path, fresh_broker.bootstrap, incarnation, partitions=1) as process:
        for seed in range(20):
            writer.frame(event_rows(10, seed=seed), partition=0)
            writer.flush()
        process.wait_events(200)
        cut(fresh_broker, log, keep=0.75)
        writer = FrameWriter(fresh_broker.bootstrap, log, partitions=1)
        for seed in range(100, 100 + written_after):
            writer.frame(event_rows(10, seed=seed), partition=0)
        writer.flush()
        assert process.wait_exit() == ExitCode.LOG_TRUNCATED_OR_GAP
        assert list((tmp_path / "snapshots").glob("LOG_WAS_CUT*"))
        assert len(list((tmp_path / "snapshots").iterdir())) == 1, "a snapshot was written after the alarm"
        process.start(wait=False)
        assert process.wait_exit() == ExitCode.LOG_TRUNCATED_OR_GAP


def test_a_log_cut_while_the_processor_was_down_is_noticed_by_the_next_start(
    fresh_broker: KafkaBroker, tmp_path: Path
) -> None:
    """The snapshot knows the checksum of the last record; the log has another one there."""
    incarnation = "proc-7"
    log = events_log(incarnation)
    make_topics(fresh_broker.bootstrap, incarnation, partitions=1)
    writer = FrameWriter(fresh_broker.bootstrap, log, partitions=1)
    with ProcessorProcess(tmp_path, fresh_broker.bootstrap, incarnation, partitions=1) as process:
        for seed in range(20):
            writer.frame(event_rows(10, seed=seed), partition=0)
            writer.flush()
        process.wait_events(200)
        assert process.terminate() == ExitCode.OK
        cut(fresh_broker, log, keep=0.75)
        writer = FrameWriter(fresh_broker.bootstrap, log, partitions=1)
        for seed in range(100, 140):
            writer.frame(event_rows(10, seed=seed), partition=0)
        writer.flush()
        process.start(wait=False)
        assert process.wait_exit() == ExitCode.LOG_TRUNCATED_OR_GAP


def test_sigterm_writes_a_snapshot_and_ends_in_seconds(kafka: KafkaBroker, tmp_path: Path) -> None:
    """The next start replays nothing."""
    incarnation = "proc-8"
    make_topics(kafka.bootstrap, incarnation)
    writer = FrameWriter(kafka.bootstrap, events_log(incarnation))
    with ProcessorProcess(tmp_path, kafka.bootstrap, incarnation) as process:
        writer.spread(event_rows(500, seed=1))
        writer.flush()
        before = process.wait_events(500)
        started = time.monotonic()
        assert process.terminate() == ExitCode.OK
        seconds = time.monotonic() - started
        print(f"ended {seconds:.2f} s after SIGTERM")
        assert seconds < 5
        assert list((tmp_path / "snapshots").iterdir())
        process.start()
        after = process.wait_events(500)
        assert (after["digest"], after["frontier"]) == (before["digest"], before["frontier"])


def test_a_processor_that_was_paused_catches_up(kafka: KafkaBroker, tmp_path: Path) -> None:
    """SIGSTOP for longer than the group's session, then SIGCONT: nothing is lost, nothing counted twice."""
    incarnation = "proc-9"
    make_topics(kafka.bootstrap, incarnation)
    writer = FrameWriter(kafka.bootstrap, events_log(incarnation))
    with ProcessorProcess(tmp_path, kafka.bootstrap, incarnation) as process:
        writer.spread(event_rows(200, seed=1))
        process.wait_events(200)
        process_signal(process, signal.SIGSTOP)
        writer.spread(event_rows(200, seed=2))
        writer.flush()
        deadline = time.monotonic() + 12
        wait_until(lambda: time.monotonic() > deadline, 15, "the session to run out")
        process_signal(process, signal.SIGCONT)

        def caught_up() -> bool:
            if process.returncode is not None:
                # A client that never fetches again after its pause ends the process; its supervisor starts it again.
                assert "starts again from its snapshot" in process.log_text()
                process.start()
            return int(process.state().get("events", 0)) >= 400

        wait_until(caught_up, 100, f"400 events; log: {process.log_path}")
        live = process.state()
        assert (live["events"], live["duplicates"]) == (400, 0)


def process_signal(process: ProcessorProcess, number: signal.Signals) -> None:
    """Send a signal to the process that this test started."""
    import os

    os.kill(process.pid, number)


def test_without_a_broker_it_waits_says_so_and_can_be_stopped(tmp_path: Path) -> None:
    """Started before Kafka: not ready, with the reason; SIGTERM ends it at once."""
    process = ProcessorProcess(tmp_path, "127.0.0.1:9", "proc-10", broker_timeout_seconds=1)
    process.start(wait=False)
    try:
        wait_until(lambda: "waiting for the broker" in answer(process, "/readyz?verbose"), 30, "the reason")
        assert answer(process, "/livez") == "ok\n"
        assert "Retry-After" in answer(process, "/v1/state") or "not there yet" in answer(process, "/v1/state")
        assert process.terminate() == ExitCode.OK
    finally:
        process.kill()


def answer(process: ProcessorProcess, path: str) -> str:
    """The body of a GET; empty while nobody listens."""
    try:
        return process.get(path)[1]
    except OSError:
        return ""


def test_groups_of_earlier_lives_are_deleted(kafka: KafkaBroker, tmp_path: Path) -> None:
    """A fresh group for each start would pile up on the broker."""
    from confluent_kafka.admin import AdminClient

    incarnation = "proc-11"
    make_topics(kafka.bootstrap, incarnation)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def groups() -> list[str]:
        listed = admin.list_consumer_groups(request_timeout=10).result()
        return [group.group_id for group in listed.valid if f".{incarnation}." in group.group_id]

    with ProcessorProcess(tmp_path, kafka.bootstrap, incarnation) as process:
        (first,) = groups()
        process.kill()
        process.start()
        assert len(groups()) == 2
        wait_until(lambda: len(groups()) == 1, 40, "the first life's group to go")
        assert first not in groups()
