"""`run.json`: which processes belong to a region, told apart from strangers that got the same number later.

A process id is used again; a process id together with the time at which the kernel started it is not. Whoever ends
processes by this file checks both, right before the signal.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec

RUN_FILE = "run.json"
LOCK_FILE = "run.lock"


class ProcessIdentity(msgspec.Struct, frozen=True):
    """One process of this machine, for ever: its number and when the kernel started it (clock ticks after boot)."""

    pid: int
    start_ticks: int
    boot_id: str = ""


class ProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One supervised process as it stood at the last change."""

    name: str
    phase: str
    is_step: bool
    identity: ProcessIdentity | None
    started_at_ms: int | None
    restarts: int
    exit_code: int | None
    reason: str
    port: int | None
    ready_path: str | None
    log: str
    host: str = "127.0.0.1"


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A running region."""

    region: str
    supervisor: ProcessIdentity
    started_at_ms: int
    ready: bool
    """Whether all of it was ready at the last change."""
    addresses: dict[str, str]
    processes: list[ProcessRecord]
    settled: bool = False
    """Whether each process was ready once, or has shown that it does not start."""


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a living process, None when there is none (or only its remains, not yet reaped)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in "ZX":
        return None
    return ProcessIdentity(pid, int(fields[19]), boot_id())


def boot_id() -> str:
    """Return the id of this boot of the machine: ticks after boot mean nothing after another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def is_alive(identity: ProcessIdentity | None) -> bool:
    """Say whether exactly this process, and not a later one of the same number, lives."""
    return identity is not None and identify(identity.pid) == identity


def send(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; False when it lives no more."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if identify(identity.pid) != identity:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def read(data_dir: Path) -> RunRecord | None:
    """Return what the region's supervisor last wrote; None when nothing readable is there."""
    try:
        return msgspec.json.decode((data_dir / RUN_FILE).read_bytes(), type=RunRecord)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write(data_dir: Path, record: RunRecord) -> None:
    """Replace the file as a whole."""
    beside = data_dir / (RUN_FILE + ".new")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    beside.replace(data_dir / RUN_FILE)


def remove(data_dir: Path) -> None:
    """Say that nothing of the region runs."""
    (data_dir / RUN_FILE).unlink(missing_ok=True)
