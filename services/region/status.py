"""How a region is: from its run file, the kernel and the processes' own words; never from what should be."""

from __future__ import annotations

from pathlib import Path

import msgspec

from services.region import run_file
from services.region.probe import readiness


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One process as an operator sees it."""

    name: str
    state: str
    """ready, or the supervisor's word for its phase."""
    reason: str
    pid: int | None
    port: int | None
    up_seconds: float | None
    restarts: int
    memory_bytes: int | None
    """Proportional share of what is resident: shared pages are split among those who share them."""
    exit_code: int | None
    log: str


class RegionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A region as an operator sees it."""

    region: str
    running: bool
    ready: bool
    summary: str
    incarnation: str
    supervisor_pid: int | None
    memory_bytes: int
    """Of all processes, the supervisor included."""
    addresses: dict[str, str]
    processes: list[ProcessStatus]


def look(region: str, data_dir: Path, now_ms: int) -> RegionStatus:
    """Return the status of the region in `data_dir`."""
    record = run_file.read(data_dir)
    if record is None:
        return _not_running(region, "not running: `meridian up` starts it")
    processes = [_process(found, now_ms) for found in record.processes if _shown(found)]
    supervised = run_file.is_alive(record.supervisor)
    if not supervised and all(process.pid is None for process in processes):
        return _not_running(record.region, "not running: its supervisor was killed; `meridian up` starts it again")
    unready = [process for process in processes if process.state != "ready"]
    own = memory_bytes(record.supervisor.pid) if supervised else None
    return RegionStatus(
        region=record.region,
        running=True,
        ready=supervised and not unready,
        summary=_summary(unready, supervised=supervised),
        incarnation=_incarnation(data_dir),
        supervisor_pid=record.supervisor.pid if supervised else None,
        memory_bytes=(own or 0) + sum(process.memory_bytes or 0 for process in processes),
        addresses=record.addresses,
        processes=processes,
    )


def _shown(process: run_file.ProcessRecord) -> bool:
    """A step that is done is no news."""
    return not (process.is_step and process.phase == "done")


def _process(process: run_file.ProcessRecord, now_ms: int) -> ProcessStatus:
    alive = run_file.is_alive(process.identity)
    pid = process.identity.pid if process.identity is not None and alive else None
    state, reason = process.phase, process.reason
    if alive and process.port is not None and process.phase in ("starting", "ready"):
        blocker = readiness(process.port, process.ready_path, host=process.host)
        state, reason = ("ready", "") if blocker is None else ("not ready", blocker)
    elif not alive and process.phase in ("starting", "ready", "stopping"):
        state, reason = "ended", "ended a moment ago"
    return ProcessStatus(
        name=process.name,
        state=state,
        reason=reason,
        pid=pid,
        port=process.port,
        up_seconds=(now_ms - process.started_at_ms) / 1000 if alive and process.started_at_ms is not None else None,
        restarts=process.restarts,
        memory_bytes=memory_bytes(pid) if pid is not None else None,
        exit_code=process.exit_code,
        log=process.log,
    )


def memory_bytes(pid: int) -> int | None:
    """Return the proportional resident memory of a process, None when the kernel does not say."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _summary(unready: list[ProcessStatus], *, supervised: bool) -> str:
    if not supervised:
        return "its supervisor was killed, processes are left: `meridian down` ends them"
    if not unready:
        return "ready"
    return "; ".join(f"{p.name} is {p.state}{': ' + p.reason if p.reason else ''}" for p in unready)


def _not_running(region: str, summary: str) -> RegionStatus:
    return RegionStatus(
        region=region,
        running=False,
        ready=False,
        summary=summary,
        incarnation="",
        supervisor_pid=None,
        memory_bytes=0,
        addresses={},
        processes=[],
    )


def _incarnation(data_dir: Path) -> str:
    try:
        return (data_dir / "incarnation").read_text().strip()
    except OSError:
        return ""
