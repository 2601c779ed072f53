"""`meridian models`: versions of ranking models, from making one to serving it, and back.

`train`, `evaluate` and `compress` live with what they do and are imported when they are asked for: listing versions
must not load what trains them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
import typer

from models.errors import ModelError
from services.cli import Verb, run
from services.common.exit_codes import ExitCode
from services.common.settings import SettingsError
from services.coordination import CoordinationError, StoreUnavailable
from services.models import backing, listing, pointing, pushing, tables
from services.models.errors import RegistryError, VersionRefused
from services.models.premises import Premises, find
from services.replay.errors import ReplayMisused

UNREACHABLE = 69
WAIT_SECONDS = 60.0
MAKING = {
    "train": Verb("services.models.cli_train:train", "Train a ranking model"),
    "similar": Verb("services.models.cli_similar:similar", "Make the model of similar items"),
    "evaluate": Verb("services.models.cli_evaluate:evaluate", "Judge models and baselines on the end of a log"),
    "compress": Verb("services.models.cli_compress:compress", "Make a version smaller, gated on quality"),
}

_T = TypeVar("_T")

models = typer.Typer(
    help="Versions of ranking models: make, prove, ship, point aliases at, compare, keep.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The deployment's directory (default var/meridian), or that of a region alone."),
]
Region = Annotated[
    str, typer.Option("--region", help="Whose repository is meant (default: the first region that runs).")
]
Model = Annotated[str, typer.Option("--model", help="Name of the model (default: the one that the workers serve).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object; progress goes to standard error.")]
Alias = Annotated[str, typer.Option("--alias", help="champion, challenger or shadow.")]
Expect = Annotated[str, typer.Option("--expect", help="Only if the alias names this version now (`none`: is not set).")]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to wait for the workers; 0: do not ask them.")]


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
def list_versions(data_dir: DataDir = None, region: Region = "", model: Model = "", json: Json = False) -> None:
    """List the versions, their aliases, and what every region's worker says of each."""
    premises = _premises(data_dir, region, model)
    lines = _run(listing.lines(premises))
    if not lines and not json:
        print(f"{premises.repository.path / premises.model} has no versions. Next: meridian models push FOLDER")
    else:
        _show(lines, tables.listing(lines), json=json)


@models.command()
def show(
    version: Annotated[str, typer.Argument(help="The version's number, or an alias.")],
    data_dir: DataDir = None,
    region: Region = "",
    model: Model = "",
    json: Json = False,
) -> None:
    """Show what a version was made from, how good it is, who signed it, and where it serves."""
    found = _run(listing.details(_premises(data_dir, region, model), version))
    _show(found, tables.details(found), json=json)


@models.command()
def verify(
    version: Annotated[str, typer.Argument(help="Only this one; all without it.")] = "",
    data_dir: DataDir = None,
    region: Region = "",
    model: Model = "",
    json: Json = False,
) -> None:
    """Check sums, signature, number, golden set and every batch shape, as the worker does before it serves.

    Exit code 68 if any version fails.
    """
    premises = _premises(data_dir, region, model)
    numbers = [version] if version else premises.numbers()
    if not numbers:
        _end(ExitCode.MODEL_REFUSED, f"{premises.repository.path / premises.model} has no versions to verify")
    verdicts = _run(_verdicts(premises, numbers))
    lines = [f"{found.model}/{found.version}  {_judged(found)}" for found in verdicts]
    _show(verdicts, "\n".join(lines), json=json)
    if any(found.refused for found in verdicts):
        raise typer.Exit(ExitCode.MODEL_REFUSED)


@models.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A version's folder: model.onnx, golden.npz, manifest.json, ...")],
    version: Annotated[str, typer.Option("--version", help="Its number (default: the next one).")] = "",
    data_dir: DataDir = None,
    region: Region = "",
    model: Model = "",
    json: Json = False,
) -> None:
    """Prove a version, sign it, put it into the region's repository and register its number. It does not serve yet.

    Pushing the same content again changes nothing. Exit code 68: refused, 1: there was no room.
    """
    if version and (not version.isdigit() or version != str(int(version)) or version == "0"):
        _end(ExitCode.BAD_SETTINGS, f"--version {version!r}: a version is a whole number from 1")
    found = _run(pushing.push(_premises(data_dir, region, model), folder, version, _progress))
    there = "was there already" if found.was_there else "pushed"
    text = f"{found.model}/{found.version} {there} ({found.sha256[:12]}, {found.size_bytes} bytes): {found.folder}"
    named = f" --model {found.model}" if model else ""
    _show(found, f"{text}\nNext: meridian models promote {found.version}{named}", json=json)


@models.command()
def promote(
    version: Annotated[str, typer.Argument(help="The version's number.")],
    alias: Alias = "champion",
    expect: Expect = "",
    wait: Wait = WAIT_SECONDS,
    data_dir: DataDir = None,
    region: Region = "",
    model: Model = "",
    json: Json = False,
) -> None:
    """Point an alias at a version that passes every check, and say what each region's worker makes of it.

    Exit code 0: every region serves it; 68: it was refused, by this command (then nothing changed) or by a worker;
    69: the alias points at it, but a worker did not say in time; 1: somebody else moved the alias.
    """
    premises = _premises(data_dir, region, model)
    _moved(
        _run(pointing.promote(premises, version, alias, expected=expect, wait_seconds=wait, say=_progress)), json=json
    )


@models.command()
def rollback(
    alias: Alias = "champion",
    expect: Expect = "",
    wait: Wait = WAIT_SECONDS,
    data_dir: DataDir = None,
    region: Region = "",
    model: Model = "",
    json: Json = False,
) -> None:
    """Point an alias back at the version that it named before; again: at the one before that. Exit codes as promote."""
    premises = _premises(data_dir, region, model)
    _moved(_run(pointing.rollback(premises, alias, expected=expect, wait_seconds=wait, say=_progress)), json=json)


@models.command()
def diff(
    one: Annotated[str, typer.Argument(help="A version's number, or an alias.")],
    other: Annotated[str, typer.Argument(help="A version's number, or an alias.")],
    data_dir: DataDir = None,
    region: Region = "",
    model: Model = "",
    json: Json = False,
) -> None:
    """Compare two versions: figures, sizes, what they were made from, and how alike they rank."""
    from services.models.comparing import Difference, difference

    premises = _premises(data_dir, region, model)

    async def compare() -> Difference:
        numbers = [await listing.number_of(premises, wanted) for wanted in (one, other)]
        return await asyncio.to_thread(difference, premises, *numbers)

    found = _run(compare())
    _show(found, tables.difference(found), json=json)


@models.command()
def backup(
    to: Annotated[str, typer.Option("--to", help="A folder, or any address that fsspec knows.")],
    data_dir: DataDir = None,
    region: Region = "",
    model: Model = "",
    json: Json = False,
) -> None:
    """Copy every registered version and all aliases to another place. Repeating it sends what is new."""
    _copied(_run(backing.back_up(_premises(data_dir, region, model), to, _progress)), json=json)


@models.command()
def restore(
    source: Annotated[str, typer.Option("--from", help="A folder, or any address that fsspec knows.")],
    data_dir: DataDir = None,
    region: Region = "",
    model: Model = "",
    json: Json = False,
) -> None:
    """Bring back versions and aliases that are not here. Nothing that is here is overwritten, no alias is moved.

    Can be repeated after it was cut short. Exit code 68: something was refused; the rest was restored.
    """
    _copied(_run(backing.restore(_premises(data_dir, region, model), source, _progress)), json=json)


@models.command()
def record(
    to: Annotated[Path, typer.Option("--to", help="The file to write.")],
    data: Annotated[str, typer.Option(help="Another log: a folder (bestbuy), a file of searches, shop[:SEED].")] = "",
    count: Annotated[int, typer.Option(min=1, help="The last so many searches of the log.")] = 1_000,
    data_dir: DataDir = None,
    region: Region = "",
    model: Model = "",
    json: Json = False,
) -> None:
    """Put logged searches to a region's worker, and keep them with its answers: what `replay` compares with.

    They come from the region's own events, made into tensors as they were when they were asked.
    """
    from services.models import recall

    premises = _premises(data_dir, region, model)
    try:
        source = recall.log_of(data, data_dir, region)
    except (ModelError, ReplayMisused, SettingsError, RegistryError) as error:
        _end(ExitCode.BAD_SETTINGS, str(error))
    found = _run(recall.record(premises, source, count, to, _progress))
    text = f"{found.model}/{found.version} ({found.sha256[:12]}) answered {found.requests} requests: {found.file}"
    _show(found, f"{text}\nNext, after a restore: meridian models replay {found.file}", json=json)


@models.command()
def replay(
    file: Annotated[Path, typer.Argument(help="What `meridian models record` wrote.")],
    data_dir: DataDir = None,
    region: Region = "",
    model: Model = "",
    json: Json = False,
) -> None:
    """Put recorded requests to a region's worker again: the same version, each score within 1e-4, the same ten best.

    Exit code 68: not the same; the first difference is named.
    """
    from services.models import recall

    found = _run(recall.replay(_premises(data_dir, region, model), file, _progress))
    text = f"{found.model}/{found.version} ({found.sha256[:12]}) gives {found.requests} requests the scores and ranks"
    _show(found, f"{text} that were recorded", json=json)


def _make(context: typer.Context) -> None:
    assert context.info_name is not None
    run(f"models {context.info_name}", MAKING[context.info_name], list(context.args))


for _name, _verb in MAKING.items():
    # Their own help speaks, so this one takes every word as it is.
    models.command(
        _name,
        help=_verb.summary + ".",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )(_make)


async def _verdicts(premises: Premises, numbers: list[str]) -> list[Verdict]:
    from services.coordination.model_records import versions
    from services.models.proving import prove

    async with premises.store() as store:
        registered = {record.version: record.sha256 for record in await versions(store, premises.model)}
    found: list[Verdict] = []
    for place, number in enumerate(numbers, start=1):
        _progress(f"{place} of {len(numbers)}: {premises.model}/{number}")
        try:
            proven = await asyncio.to_thread(prove, premises, premises.folder(number), registered.get(number, ""))
        except VersionRefused as refused:
            found.append(Verdict(premises.model, number, str(refused)))
            continue
        rows = {candidates: pace.rows_max for candidates, pace in proven.paces.items()}
        found.append(Verdict(premises.model, number, "", proven.sha256, rows))
    return found


def _judged(verdict: Verdict) -> str:
    return f"REFUSED: {verdict.refused}" if verdict.refused else f"sound, {verdict.sha256[:12]}"


def _moved(found: pointing.Moved, *, json: bool) -> None:
    _show(found, tables.moved(found), json=json)
    if any(said.known and not said.serves for said in found.regions):
        raise typer.Exit(ExitCode.MODEL_REFUSED)
    if any(not said.known for said in found.regions):
        silent = ", ".join(said.region for said in found.regions if not said.known)
        _end(
            UNREACHABLE,
            f"the alias moved, but {silent} did not say that it serves it; `meridian models list` asks again",
        )


def _copied(found: backing.Outcome, *, json: bool) -> None:
    _show(found, tables.outcome(found), json=json)
    if found.refused:
        raise typer.Exit(ExitCode.MODEL_REFUSED)


def _premises(data_dir: Path | None, region: str, model: str) -> Premises:
    try:
        return find(data_dir, region, model)
    except (SettingsError, RegistryError) as error:
        _end(ExitCode.BAD_SETTINGS, str(error))


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a verb; whatever it raises on purpose ends the command with its code and reason."""
    try:
        return asyncio.run(work)
    except RegistryError as error:
        _end(error.exit_code, str(error))
    except ModelError as error:
        _end(ExitCode.MODEL_REFUSED, str(error))
    except SettingsError as error:
        _end(ExitCode.BAD_SETTINGS, str(error))
    except StoreUnavailable as error:
        _end(UNREACHABLE, f"the coordination store does not answer: {error}. See docs/operating/lost-quorum.md.")
    except CoordinationError as error:
        _end(1, str(error))


def _show(value: object, text: str, *, json: bool) -> None:
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() if json else text, flush=True)


def _progress(sentence: str) -> None:
    print(f"  {sentence}", file=sys.stderr, flush=True)


def _end(code: int, reason: str) -> NoReturn:
    print(f"meridian models: {reason}", file=sys.stderr)
    raise typer.Exit(code)
