"""The shell around `supervision.decide`: starts, reaps, probes, signals, and writes down what runs.

It sleeps in one `select` until a signal arrives or something is due, so that a quiet region has a supervisor that uses
no processor time at all; and it imports little, because it lives as long as the region. Children are tied to it by the
kernel (`infra.runtime.launch`), so that none survives it, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from infra.runtime.kafka import KafkaRuntimeError
from infra.runtime.launch import launch_command
from services.common.clock import SystemClock
from services.common.exit_codes import ExitCode
from services.region import run_file
from services.region.errors import RegionError, StartLater
from services.region.last_words import last_words
from services.region.plan import ProcessPlan, RegionPlan
from services.region.probe import readiness
from services.region.run_file import LOCK_FILE, ProcessIdentity, ProcessRecord, RunRecord
from services.region.supervision import (
    SATISFIED,
    Action,
    Phase,
    ProcessState,
    RestartPolicy,
    Verb,
    became_ready,
    decide,
    due_again,
    due_for_recheck,
    exited,
    not_ready,
    started,
    stopping,
    wake_in_seconds,
)

PROBE_INTERVAL_SECONDS = 0.15
LOG_BYTES_MAX = 64 << 20
REPEATS_REPORTED_MAX = 3
SETTLED = SATISFIED | {Phase.REFUSED}
UNWRITTEN_LOOK_SECONDS = 1.0
PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""What the machine lacks for now: a process that could not be started for it is started again."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Report = Callable[[str, str], None]
"""Takes a process's name and one sentence about it."""


@dataclass(slots=True)
class Child:
    """A started process."""

    process: subprocess.Popen[bytes]
    identity: ProcessIdentity | None
    started_at_ms: int


class Supervisor:
    """Runs one region until a signal asks it to end.

    `on_settled` is called once, when each process is ready or has refused to start.
    """

    def __init__(
        self,
        plan: RegionPlan,
        policy: RestartPolicy,
        report: Report,
        on_settled: Callable[[RunRecord], None] = lambda _: None,
    ) -> None:
        self._plan = plan
        self._plans = {process.name: process for process in plan.processes}
        self._policy = policy
        self._report = report
        self._on_settled = on_settled
        self._clock = SystemClock()
        self._states = {p.name: ProcessState(p.name, p.needs, p.is_step, p.rechecked_by) for p in plan.processes}
        self._children: dict[str, Child] = {}
        self._outcomes: dict[str, str] = {}
        self._started_at_ms = self._clock.unix_ms()
        self._ending = False
        self._was_settled = False
        self._unwritten = ""
        self._wake_reader, self._wake_writer = socket.socketpair()

    def run(self) -> int:
        """Supervise until the region has ended; return the exit code. Raises RegionError when it runs already."""
        self._plan.data_dir.mkdir(parents=True, exist_ok=True)
        with self._only_one(), self._signals_wake():
            try:
                self._loop()
            finally:
                self._kill_all()
                run_file.remove(self._plan.data_dir)
        return self._exit_code()

    def _loop(self) -> None:
        while True:
            before = dict(self._states)
            self._reap()
            self._probe()
            now = self._clock.monotonic()
            for action in decide(self._states, now, ending=self._ending):
                self._perform(action)
            if not self._was_settled:
                self._judge_start()
            if before != self._states:
                self._write_down()
            elif self._ending and not self._children:
                return
            else:
                self._wait(wake_in_seconds(self._states.values(), self._clock.monotonic(), PROBE_INTERVAL_SECONDS))
                if self._unwritten:
                    self._write_down()

    def _write_down(self) -> None:
        """Say in the run file what runs. A full disk must not end a region: it is tried again until there is room."""
        before, self._unwritten = self._unwritten, ""
        try:
            run_file.write(self._plan.data_dir, self._record())
        except OSError as error:
            self._unwritten = str(error)
            if self._unwritten != before:
                self._report("supervisor", f"cannot write what runs, and tries again: {error}")

    def _judge_start(self) -> None:
        states = self._states.values()
        if self._fatal() is not None:
            self._ending = True
        elif all(map(self._is_settled, states)):
            self._was_settled = True
            self._write_down()
            self._on_settled(self._record())

    def _is_settled(self, state: ProcessState) -> bool:
        """A process that the others do without holds nobody up once it has shown that it does not work."""
        gave_up = not self._plans[state.name].essential and state.failures_in_a_row >= REPEATS_REPORTED_MAX
        return state.phase in SETTLED or gave_up

    def _fatal(self) -> ProcessState | None:
        """Return the process that others need and that refused: nothing useful can start without it."""
        needed = {need for state in self._states.values() for need in state.needs}
        return next((s for s in self._states.values() if s.phase is Phase.REFUSED and s.name in needed), None)

    def _exit_code(self) -> int:
        fatal = None if self._was_settled else self._fatal()
        return fatal.exit_code or ExitCode.CRASH if fatal else ExitCode.OK

    def _perform(self, action: Action) -> None:
        state = self._states[action.name]
        if action.verb is Verb.START:
            self._start(self._plans[action.name])
            return
        child = self._children[action.name]
        if action.verb is Verb.KILL:
            self._report(action.name, f"killed: it {action.why}")
            child.process.kill()
            child.process.wait()
            return
        self._report(action.name, f"ends: {action.why}")
        child.process.terminate()
        self._states[action.name] = stopping(state, action.why, self._clock.monotonic(), self._policy)

    def _start(self, plan: ProcessPlan) -> None:
        state = self._states[plan.name]
        try:
            launch = plan.launch()
            plan.log.parent.mkdir(parents=True, exist_ok=True)
            if plan.log.exists() and plan.log.stat().st_size > LOG_BYTES_MAX:
                plan.log.replace(plan.log.with_suffix(".log.1"))
            with plan.log.open("ab") as log:
                process = subprocess.Popen(  # noqa: S603 - starting its processes is what it is for
                    launch_command(launch.command),
                    env=dict(launch.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except (OSError, KafkaRuntimeError, StartLater) as error:
            code = ExitCode.CRASH if _passes(error) else ExitCode.BAD_SETTINGS
            self._states[plan.name] = exited(state, code, str(error), self._clock.monotonic(), self._policy)
            if state.reason != str(error):
                self._report(plan.name, f"cannot be started: {error}")
            return
        self._children[plan.name] = Child(process, run_file.identify(process.pid), self._clock.unix_ms())
        self._states[plan.name] = started(state)
        self._states.update(due_again(self._states, plan.name))
        if state.failures_in_a_row <= REPEATS_REPORTED_MAX and (state.exit_code is None or not state.is_step):
            self._report(plan.name, "starts" if state.exit_code is None else "starts again")

    def _reap(self) -> None:
        for name, child in list(self._children.items()):
            code = child.process.poll()
            if code is None:
                continue
            del self._children[name]
            before = self._states[name]
            words = last_words(self._plans[name].log) if code else ""
            after = exited(before, code, words, self._clock.monotonic(), self._policy)
            self._states[name] = after
            self._states.update(due_for_recheck(self._states, name))
            if after.phase is Phase.DONE:
                self._step_done(name)
            elif after.phase is Phase.REFUSED:
                self._report(name, f"stays down (exit code {code}): {words}")
            elif after.phase is Phase.BACKOFF:
                self._report_crash(before, after)

    def _report_crash(self, before: ProcessState, after: ProcessState) -> None:
        """Say why a process ended, once for each reason: a crash loop must not drown the rest."""
        code = after.exit_code or 0
        if (
            before.exit_code == code
            and before.reason == after.reason
            and after.failures_in_a_row > REPEATS_REPORTED_MAX
        ):
            return
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._report(after.name, f"ended by itself ({how}){': ' + after.reason if after.reason else ''}")
        if after.failures_in_a_row == REPEATS_REPORTED_MAX:
            self._report(after.name, "keeps failing; it is tried again, and only news is reported from now on")

    def _step_done(self, name: str) -> None:
        """Start anew what runs on an older outcome of this step."""
        outcome = self._plans[name].outcome
        found = outcome() if outcome else ""
        before = self._outcomes.setdefault(name, found)
        self._outcomes[name] = found
        if found == before:
            return
        for state in list(self._states.values()):
            if name in state.needs and state.phase in (Phase.STARTING, Phase.READY):
                self._perform(Action(Verb.TERMINATE, state.name, f"{name} found {found}, no longer {before}"))

    def _probe(self) -> None:
        for name, state in self._states.items():
            plan = self._plans[name]
            if state.phase is not Phase.STARTING or plan.port is None:
                continue
            reason = readiness(plan.port, plan.ready_path, host=plan.host)
            if reason is None:
                self._states[name] = became_ready(state, self._clock.monotonic())
                self._report(name, "is ready")
                if plan.on_ready is not None:
                    plan.on_ready()
            elif reason != state.reason:
                self._states[name] = not_ready(state, reason)

    def _wait(self, seconds: float | None) -> None:
        if self._unwritten:
            seconds = UNWRITTEN_LOOK_SECONDS if seconds is None else min(seconds, UNWRITTEN_LOOK_SECONDS)
        select.select([self._wake_reader], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        """Hold the region's lock, and end what an earlier life could not."""
        with (self._plan.data_dir / LOCK_FILE).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RegionError(
                    f"{self._plan.region} runs already. Look with `meridian status`, end it with `meridian "
                    "down`, or run another with another --data-dir and --base-port."
                ) from None
            end_leftovers(self._plan.data_dir)
            yield

    @contextlib.contextmanager
    def _signals_wake(self) -> Iterator[None]:
        """Have signals (and ended children) wake the one `select`."""
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        before = {number: signal.signal(number, self._ask_to_end) for number in SIGNALS}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        wakeup = signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask_to_end(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.process.kill()
        for child in self._children.values():
            child.process.wait()

    def _record(self) -> RunRecord:
        own = run_file.identify(os.getpid())
        assert own is not None, "this process lives"
        return RunRecord(
            region=self._plan.region,
            supervisor=own,
            started_at_ms=self._started_at_ms,
            ready=all(state.phase in SATISFIED for state in self._states.values()),
            settled=self._was_settled,
            addresses=dict(self._plan.addresses),
            processes=[self._process_record(plan) for plan in self._plan.processes],
        )

    def _process_record(self, plan: ProcessPlan) -> ProcessRecord:
        state = self._states[plan.name]
        child = self._children.get(plan.name)
        return ProcessRecord(
            name=plan.name,
            phase=state.phase.value,
            is_step=plan.is_step,
            identity=child.identity if child else None,
            started_at_ms=child.started_at_ms if child else None,
            restarts=state.restarts,
            exit_code=state.exit_code,
            reason=state.reason,
            port=plan.port,
            ready_path=plan.ready_path,
            log=str(plan.log),
            host=plan.host,
        )


def _passes(error: Exception) -> bool:
    """Whether a process that could not be started may be startable later as things are."""
    return isinstance(error, StartLater) or (isinstance(error, OSError) and error.errno in PASSING)


def end_leftovers(data_dir: Path, grace_seconds: float = 5.0) -> list[str]:
    """End what the region's last run file names and still lives; return the names. Never a reused number's owner."""
    record = run_file.read(data_dir)
    if record is None:
        return []
    found = [p for p in record.processes if p.identity is not None and run_file.is_alive(p.identity)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        living = [p.identity for p in found if p.identity is not None and run_file.is_alive(p.identity)]
        for identity in living:
            run_file.send(identity, number)
        deadline = time.monotonic() + grace_seconds
        while any(map(run_file.is_alive, living)) and time.monotonic() < deadline:
            time.sleep(0.02)
    run_file.remove(data_dir)
    return [process.name for process in found]
