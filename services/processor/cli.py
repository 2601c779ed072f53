"""`meridian digest`: the hash of what the log says, computed by a process of its own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from services.common.clock import SystemClock
from services.common.exit_codes import ExitCode
from services.common.region_settings import RegionSettings
from services.common.settings import SettingsError, load
from services.coordination.base import CoordinationError
from services.coordination.opening import opened_store
from services.coordination.settings import CoordinationSettings
from services.processor.compare import compare
from services.processor.identity import Identity, read_identity
from services.processor.logs import asker, find_logs
from services.processor.settings import ProcessorSettings
from streams.digest import digest as digest_of
from streams.errors import LogGap, LogTruncated, StreamError, UnknownFrameVersion
from streams.fold import Fold
from streams.position import Frontier
from streams.replay import replay
from streams.snapshot import load as load_snapshot
from streams.state import State
from streams.truncation import LogUnreachableError


class DigestReport(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    digest: str
    frontier: list[tuple[str, int, int]]
    events: int
    duplicates: int
    late: int
    dead: int
    clock_bucket: int | None
    fold_version: int
    expected: str | None = None
    """The digest that came with `--until`, if one did."""


class _Until(msgspec.Struct):
    frontier: list[tuple[str, int, int]]
    digest: str | None = None


def digest(
    from_zero: Annotated[
        bool, typer.Option("--from-zero", help="Leave snapshots aside and replay the whole log.")
    ] = False,
    until: Annotated[
        str,
        typer.Option(
            help="Stop at this frontier: a file (such as an answer of GET /v1/state), - for standard input, or JSON "
            "rows [[log, partition, next offset], ...]. A digest in it is compared: exit code 1 when it differs."
        ),
    ] = "",
    regions: Annotated[
        bool,
        typer.Option("--regions", help="Let all regions of the deployment stand still at one frontier, and compare."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fold the region's log and print the digest of the state, at the log's end or at a given frontier.

    Reads the log and never writes; the region may be running. Two regions, or a region and a replay of its log from
    zero, agree at a frontier exactly when they hold the same state.
    """
    if regions:
        _compare_regions(json=json)
        return
    try:
        region, settings = load(RegionSettings), load(ProcessorSettings)
        wanted = _read_until(until) if until else None
        report = _compute(region, settings, wanted, from_zero=from_zero)
    except SettingsError as problem:
        _refuse(str(problem), ExitCode.BAD_SETTINGS)
    except UnknownFrameVersion as problem:
        _refuse(str(problem), ExitCode.UNKNOWN_FRAME_VERSION)
    except (LogTruncated, LogGap) as problem:
        _refuse(str(problem), ExitCode.LOG_TRUNCATED_OR_GAP)
    except (StreamError, CoordinationError) as problem:
        _refuse(str(problem), ExitCode.CRASH)
    if json:
        print(msgspec.json.encode(report).decode())
    else:
        print(f"digest {report.digest} of {report.events} events")
        for log_name, partition, next_offset in report.frontier:
            print(f"  {log_name}/{partition} up to offset {next_offset}")
    if report.expected is not None and report.expected != report.digest:
        _refuse(f"the digest differs: expected {report.expected}, found {report.digest}", 1)


def _compare_regions(*, json: bool) -> None:
    """Exit code 1 when digests differ, 2 when it is not known."""
    try:
        region = load(RegionSettings)
        if region.is_alone:
            raise SettingsError("there is no other region: set MERIDIAN_REGION_DEPLOYMENT to a deployment's file")
        found = asyncio.run(compare(region.load_deployment()))
    except SettingsError as problem:
        _refuse(str(problem), ExitCode.BAD_SETTINGS)
    if json:
        print(msgspec.json.encode(found).decode())
    else:
        for name, shown in found.digests.items():
            print(f"{name}: digest {shown}")
    if found.equal is None:
        _refuse(f"the digests could not be compared: {found.reason}. Are all regions up? Ask again.", 2)
    if not found.equal:
        _refuse("the regions hold different states at the same frontier", 1)


def _compute(
    region: RegionSettings, settings: ProcessorSettings, wanted: _Until | None, *, from_zero: bool
) -> DigestReport:
    identity = asyncio.run(_identity(region))
    until = Frontier.from_rows(wanted.frontier) if wanted is not None else None
    state = None if from_zero else load_snapshot(region.snapshot_dir, settings.parameters, _warn)
    if state is not None and until is not None and not until.covers_all(state.frontier):
        _warn("the newest snapshot lies beyond that frontier: replaying from zero")
        state = None
    fold = Fold(state if state is not None else State(settings.parameters))
    logs = find_logs(asker(region), region, identity.incarnation, settings.broker_timeout_seconds)
    replay(region.bootstrap, fold, logs.events, until, None, None, is_copy=logs.is_copy)
    if until is not None and not fold.state.frontier.covers_all(until):
        raise LogUnreachableError("the copies in this region do not reach that frontier yet: ask again")
    found = digest_of(fold.state)
    return DigestReport(
        digest=found.hex(),
        frontier=fold.state.frontier.to_rows(),
        events=fold.state.tally.events,
        duplicates=fold.state.tally.duplicates,
        late=fold.state.tally.late,
        dead=fold.state.tally.dead_frames,
        clock_bucket=found.clock_bucket,
        fold_version=found.fold_version,
        expected=wanted.digest if wanted is not None else None,
    )


async def _identity(region: RegionSettings) -> Identity:
    async with opened_store(region, load(CoordinationSettings), SystemClock()) as store:
        return await read_identity(region, store)


def _read_until(text: str) -> _Until:
    raw: bytes
    if text.lstrip()[:1] in ("[", "{"):
        raw = text.encode()
    else:
        try:
            raw = sys.stdin.buffer.read() if text == "-" else Path(text).read_bytes()
        except OSError as problem:
            raise SettingsError(f"--until {text}: {problem.strerror}. Name a file with a frontier.") from None
    try:
        found: Any = msgspec.json.decode(raw)
        return msgspec.convert({"frontier": found} if isinstance(found, list) else found, _Until)
    except msgspec.MsgspecError as problem:
        raise SettingsError(f"--until is not a frontier ({problem}). Use the answer of GET /v1/state.") from None


def _warn(sentence: str) -> None:
    print(f"meridian digest: {sentence}", file=sys.stderr)


def _refuse(sentence: str, code: int) -> NoReturn:
    _warn(sentence)
    raise typer.Exit(int(code))
