"""The supervisor over real processes: order, restarts, refusals, and an end that leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.runtime.kafka import free_ports
from region_sim.faults.small_disk import empty, fill, small_disks
from services.region import run_file
from services.region.run_file import ProcessIdentity, ProcessRecord, RunRecord, identify, is_alive
from services.region.status import look
from services.region.supervisor import end_leftovers
from tests.support.poll import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Region:
    """A supervisor process over test children."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.ports = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None
        self.output = data_dir.with_suffix(".out")

    def up(self) -> Region:
        """Start it and wait until all is ready."""
        self.start()
        wait_until(lambda: "READY" in self.output.read_text(), 20, "the region to be ready")
        return self

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "tests.support.supervised", str(self.data_dir), *map(str, self.ports)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the supervisor and wait for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def record(self) -> RunRecord:
        """What it last wrote down."""
        found = run_file.read(self.data_dir)
        assert found is not None
        return found

    def child(self, name: str) -> ProcessRecord:
        """One of its processes."""
        return next(process for process in self.record().processes if process.name == name)

    def identity(self, name: str) -> ProcessIdentity:
        """The living process of that name."""
        found = self.child(name).identity
        assert found is not None
        return found

    def wait_for_another(self, name: str, before: ProcessIdentity) -> None:
        """Wait until `name` is ready as another process than before."""
        wait_until(
            lambda: self.child(name).phase == "ready" and self.child(name).identity not in (before, None),
            20,
            f"another {name}",
        )


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    """A region that is killed after the test if it still runs."""
    found = Region(tmp_path / "region")
    yield found
    if found.process is not None and found.process.poll() is None:
        found.process.kill()
        found.process.wait()


def test_everything_starts_in_order_and_ends_without_a_trace(region: Region) -> None:
    """Up, then SIGINT: exit code 0, no child, no run file."""
    region.up()
    order = [line.split()[0] for line in region.output.read_text().splitlines() if line.endswith("starts")]
    assert order == ["log", "step", "reader"]
    children = [region.identity("log"), region.identity("reader")]
    assert all(map(is_alive, children))
    assert region.end(signal.SIGINT) == 0
    assert not any(map(is_alive, children))
    assert run_file.read(region.data_dir) is None
    said = region.output.read_text()
    assert said.index("reader ends") < said.index("log ends"), "what is needed ends last"


@pytest.mark.parametrize("name", ["log", "reader"])
def test_a_killed_child_comes_back_alone(region: Region, name: str) -> None:
    """Kill -9 of one process restarts that one and leaves the other as it is."""
    region.up()
    other = "reader" if name == "log" else "log"
    before, untouched = region.identity(name), region.identity(other)
    run_file.send(before, signal.SIGKILL)
    region.wait_for_another(name, before)
    assert region.child(name).restarts == 1
    assert region.identity(other) == untouched


def test_a_restarted_log_is_checked_again(region: Region) -> None:
    """The step runs once more after what it needs came back."""
    region.up()
    before = region.identity("log")
    run_file.send(before, signal.SIGKILL)
    region.wait_for_another("log", before)
    wait_until(lambda: (region.data_dir / "steps").read_text() == "xx", 10, "the second run of the step")


def test_a_step_that_refuses_later_ends_what_needs_it(region: Region) -> None:
    """A log found cut after a restart stops its readers; the log's own process stays."""
    region.up()
    (region.data_dir / "refuse").write_text("the log was cut")
    before, reader = region.identity("log"), region.identity("reader")
    run_file.send(before, signal.SIGKILL)
    region.wait_for_another("log", before)
    wait_until(lambda: region.child("reader").phase == "stopped", 10, "the reader to be stopped")
    assert not is_alive(reader)
    assert region.child("step").reason == "the log was cut"
    assert "the log was cut" in look("test", region.data_dir, 0).summary


def test_a_step_that_refuses_at_the_start_ends_the_region_with_its_code(region: Region) -> None:
    """Nothing useful can run: the command ends with 66 and has said why."""
    region.data_dir.mkdir()
    (region.data_dir / "refuse").write_text("the log was cut")
    region.start()
    assert region.process is not None
    assert region.process.wait(20) == 66
    assert "stays down (exit code 66): the log was cut" in region.output.read_text()
    assert "reader starts" not in region.output.read_text()


def test_a_refusing_service_stays_down_with_its_last_words(region: Region) -> None:
    """Exit code 65 is not restarted; everything else stays up."""
    region.up()
    untouched = region.identity("log")
    (region.data_dir / "exit-reader").write_text('65 {"event": "stopped", "reason": "frame version 9 is unknown"}')
    wait_until(lambda: region.child("reader").phase == "refused", 10, "the refusal")
    assert region.child("reader").reason == "frame version 9 is unknown"
    assert region.child("reader").exit_code == 65
    assert region.identity("log") == untouched


def test_a_killed_supervisor_leaves_no_process(region: Region) -> None:
    """Kill -9 of the supervisor: the kernel ends its children with it, and the next start finds nothing in its way."""
    region.up()
    children = [region.identity("log"), region.identity("reader")]
    region.end(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, children)), 10, "the children to end with their supervisor")
    assert not look("test", region.data_dir, 0).running
    region.up()
    assert region.identity("log") not in children


def test_a_second_supervisor_says_that_the_region_runs(region: Region) -> None:
    """Two supervisors of one directory would fight; the second one leaves."""
    region.up()
    second = Region(region.data_dir)
    second.output = region.data_dir.with_suffix(".second")
    second.start()
    assert second.process is not None
    assert second.process.wait(20) == 64
    assert "runs already" in second.output.read_text()
    assert is_alive(region.identity("log"))


def test_a_quiet_region_uses_no_processor_time(region: Region) -> None:
    """Once all is ready, the supervisor is not scheduled until a signal comes."""
    region.up()
    assert region.process is not None
    supervisor = psutil.Process(region.process.pid)
    wait_until(lambda: region.record().ready and supervisor.status() == psutil.STATUS_SLEEPING, 5, "rest")
    before = supervisor.num_ctx_switches().voluntary
    observed_until = time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > observed_until, 5, "a second and a half of rest")
    assert supervisor.num_ctx_switches().voluntary - before <= 1
    assert supervisor.memory_info().rss < 40 << 20


def test_a_stale_run_file_with_a_reused_number_kills_nobody(tmp_path: Path) -> None:
    """A stranger that got a dead process's number is left alone, by a start and by `down`."""
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        wait_until(lambda: identify(stranger.pid) is not None, 5, "the stranger")
        living = identify(stranger.pid)
        assert living is not None
        earlier = ProcessIdentity(living.pid, living.start_ticks - 1, living.boot_id)
        other_boot = ProcessIdentity(living.pid, living.start_ticks, "another boot")
        for claimed in (earlier, other_boot):
            run_file.write(tmp_path, _record_of(claimed))
            assert not look("test", tmp_path, 0).running
            assert end_leftovers(tmp_path) == []
            assert not run_file.send(claimed, signal.SIGKILL)
        assert stranger.poll() is None
        run_file.write(tmp_path, _record_of(living))
        assert end_leftovers(tmp_path) == ["log"], "the same call ends the process that is really meant"
        assert stranger.wait(5) == -signal.SIGTERM
    finally:
        stranger.kill()
        stranger.wait()


def _record_of(identity: ProcessIdentity) -> RunRecord:
    process = ProcessRecord(
        name="log", phase="ready", is_step=False, identity=identity, started_at_ms=0, restarts=0, exit_code=None,
        reason="", port=None, ready_path=None, log="",
    )  # fmt: skip
    gone = ProcessIdentity(os.getpid(), 1, "another boot")
    return RunRecord(region="test", supervisor=gone, started_at_ms=0, ready=True, addresses={}, processes=[process])


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk can only be mounted by root")
def test_a_full_disk_ends_neither_the_supervisor_nor_for_ever_what_it_starts(tmp_path: Path) -> None:
    """What is killed meanwhile comes back once there is room, and the run file says so then."""
    with small_disks(tmp_path, ["data"], mebibytes=2):
        region = Region(tmp_path / "data")
        region.up()
        try:
            before = region.child("log")
            (region.data_dir / "log.log").unlink()  # so that a log file has to be made anew, on a disk without room
            fill(region.data_dir)
            assert before.identity is not None
            run_file.send(before.identity, signal.SIGKILL)
            wait_until(lambda: "cannot write what runs" in region.output.read_text(), 20, "the supervisor's complaint")
            assert region.process is not None
            assert region.process.poll() is None
            empty(region.data_dir)
            wait_until(lambda: region.record().ready and region.child("log").identity != before.identity, 30, "the log")
        finally:
            region.end()
    assert "refus" not in region.output.read_text()
