"""`meridian models`: which versions there are, whether they are sound, and which one should serve.

Verifying opens and runs a version exactly as the worker does, in this process: a version can be judged before it is on
any machine that serves. Pointing an alias at a version verifies it first, then asks the running worker to load it.
"""

import asyncio
import getpass
import json as json_format
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import aiohttp
import msgspec
import typer

from models import registry
from services.common.clock import SystemClock
from services.common.exit_codes import ExitCode
from services.common.region_settings import RegionSettings
from services.common.settings import SettingsError, load
from services.coordination import CoordinationError, FileStore
from services.coordination.region_record import model_alias, set_model_alias
from services.inference.errors import ModelRefused
from services.inference.settings import InferenceSettings

ALIASES = ("champion", "challenger", "shadow")
WORKER_TIMEOUT_SECONDS = 60.0

models = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class VersionLine(msgspec.Struct, frozen=True):
    """One version, as `meridian models list` shows it."""

    model: str
    version: str
    aliases: list[str]
    state: str
    """READY, LOADING or UNAVAILABLE as the worker says; empty when no worker answers."""
    reason: str


class Verdict(msgspec.Struct, frozen=True):
    """What `meridian models verify` found."""

    model: str
    version: str
    refused: str
    """Empty: it may serve."""
    sha256: str = ""
    batch_rows: dict[int, int] = {}
    """Rows that pay on this machine, by candidate bucket."""


@models.command("list")
def list_versions(json: JsonOption = False) -> None:
    """List the versions in the repository, their aliases, and what the running worker says of each."""
    region, settings = _settings()
    lines = asyncio.run(_lines(region, settings))
    if json:
        print(msgspec.json.encode(lines).decode())
        return
    if not lines:
        print(f"{settings.model_repository / settings.model} has no versions. Next: python -m models.train")
    for line in lines:
        aliases = f"  ({', '.join(line.aliases)})" if line.aliases else ""
        print(f"{line.model}/{line.version}{aliases}  {line.state or 'no worker answers'}  {line.reason}".rstrip())


@models.command()
def verify(
    version: Annotated[str, typer.Argument(help="Only this one; all without it.")] = "", json: JsonOption = False
) -> None:
    """Check sums, golden set and every batch shape, as the worker does before it serves. Exit code 68 if any fails."""
    _, settings = _settings()
    numbers = _versions(settings)
    if not numbers or (version and version not in numbers):
        _end(ExitCode.MODEL_REFUSED, f"{settings.model_repository / settings.model} has no version {version}".rstrip())
    verdicts = [_judge(settings, number) for number in numbers if version in ("", number)]
    if json:
        print(msgspec.json.encode(verdicts).decode())
    else:
        for verdict in verdicts:
            print(f"{verdict.model}/{verdict.version}  {verdict.refused or 'sound, ' + verdict.sha256[:12]}")
    if any(verdict.refused for verdict in verdicts):
        raise typer.Exit(ExitCode.MODEL_REFUSED)


@models.command()
def alias(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(ALIASES)}.")],
    version: Annotated[str, typer.Argument(help="The version's number.")],
) -> None:
    """Point an alias at a version that was verified first; a champion is loaded by the running worker."""
    region, settings = _settings()
    if name not in ALIASES:
        _end(ExitCode.BAD_SETTINGS, f"there is no alias {name!r}. There are: {', '.join(ALIASES)}")
    if version not in _versions(settings):
        _end(ExitCode.MODEL_REFUSED, f"{settings.model_repository / settings.model} has no version {version!r}")
    verdict = _judge(settings, version)
    if verdict.refused:
        _end(ExitCode.MODEL_REFUSED, f"{name} was not changed: {verdict.refused}")
    try:
        print(asyncio.run(_point(region, settings, name, version)))
    except CoordinationError as error:
        _end(ExitCode.CRASH, f"{name} was not changed: {error}")


def _judge(settings: InferenceSettings, version: str) -> Verdict:
    from services.inference.loading import load as load_proven
    from services.inference.signature import Buckets

    folder = settings.model_repository / settings.model / version
    buckets = Buckets(settings.batch_buckets, settings.candidate_buckets)
    try:
        proven = load_proven(folder, settings.engine_options, buckets, SystemClock().monotonic)
    except ModelRefused as refused:
        return Verdict(settings.model, version, str(refused))
    rows = {candidates: pace.rows_max for candidates, pace in proven.paces.items()}
    return Verdict(settings.model, version, "", proven.sha256, rows)


async def _point(region: RegionSettings, settings: InferenceSettings, name: str, version: str) -> str:
    store = FileStore(region.coordination_file)
    by = getpass.getuser()
    await set_model_alias(store, settings.model, name, version, at_ms=SystemClock().unix_ms(), by=by)
    done = f"{name} is {settings.model}/{version} now"
    if name != "champion":
        return done
    answer = await _ask_worker(region, f"models/{settings.model}/load")
    if answer is None:
        return f"{done}; no worker answers at {region.inference_url}, the next one loads it"
    if "error" in answer:
        return f"{done}, but the running worker says: {answer['error']}"
    return f"{done}, and the worker serves version {answer['version']}"


async def _lines(region: RegionSettings, settings: InferenceSettings) -> list[VersionLine]:
    store = FileStore(region.coordination_file)
    records = {name: await model_alias(store, settings.model, name) for name in ALIASES}
    index = await _ask_worker(region, "index") or []
    states = {line["version"]: line for line in index if line["name"] == settings.model}
    lines: list[VersionLine] = []
    for version in _versions(settings):
        named = [name for name, record in records.items() if record is not None and record.version == version]
        state = states.get(version, {})
        lines.append(VersionLine(settings.model, version, named, state.get("state", ""), state.get("reason", "")))
    return lines


async def _ask_worker(region: RegionSettings, call: str) -> Any:
    """The worker's answer to a repository call as JSON; None when none listens."""
    timeout = aiohttp.ClientTimeout(total=WORKER_TIMEOUT_SECONDS, sock_connect=1.0)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.post(f"{region.inference_url}/v2/repository/{call}") as answer,
        ):
            return json_format.loads(await answer.read())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


def _versions(settings: InferenceSettings) -> list[str]:
    return [str(number) for number in registry.versions(Path(settings.model_repository), settings.model)]


def _settings() -> tuple[RegionSettings, InferenceSettings]:
    try:
        return load(RegionSettings), load(InferenceSettings)
    except SettingsError as error:
        _end(ExitCode.BAD_SETTINGS, str(error))


def _end(code: ExitCode, reason: str) -> NoReturn:
    print(f"meridian models: {reason}", file=sys.stderr)
    raise typer.Exit(code)
