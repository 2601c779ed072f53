"""`meridian models train`: fit QHRank to a log, prove the export, and write a version."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from models.errors import ModelError
from models.records import Source
from models.registry import versions
from models.sources import FORMATS
from services.common.exit_codes import ExitCode
from services.common.settings import SettingsError
from services.models.errors import RegistryError
from services.replay.errors import ReplayMisused

if TYPE_CHECKING:
    from models.qhrank.training import TrainingSettings

DataOption = Annotated[str, typer.Option("--data", help="A folder (bestbuy), a file of searches, or shop[:SEED].")]
OutOption = Annotated[Path, typer.Option("--out", help="The repository to write the version into.")]


def train(
    out: OutOption,
    data: DataOption = "",
    from_log: Annotated[bool, typer.Option("--from-log", help="Learn from the events logs of the region.")] = False,
    frontier: Annotated[Path | None, typer.Option(help="With --from-log: JSON file of the frontier to end at.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="With --from-log: of the deployment or the region.")] = None,
    region: Annotated[str, typer.Option(help="With --from-log: whose Kafka is read.")] = "",
    model: Annotated[str, typer.Option(help="Name of the model.")] = "ranker",
    version: Annotated[int | None, typer.Option(help="Number of the version (default: the next one).")] = None,
    end: Annotated[int | None, typer.Option(help="Learn from the rows before this one alone.")] = None,
    base: Annotated[Path | None, typer.Option(help="Folder of a version to go on from (fine-tuning).")] = None,
    resume: Annotated[Path | None, typer.Option(help="Checkpoint: gone on from if there, written as it goes.")] = None,
    search: Annotated[int, typer.Option(help="Try so many settings first, and take the best.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides everything that is left to chance.")] = 7,
    epochs: Annotated[int | None, typer.Option(help="Of the text tower, at most.")] = None,
    threads: Annotated[int, typer.Option(help="Threads to compute with; the weights depend on it.")] = 2,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}; by default from the path.")] = "",
    map: Annotated[list[str] | None, typer.Option("--map", help="FIELD=COLUMN, repeatable or comma-separated.")] = None,
    items: Annotated[Path | None, typer.Option(help="Catalogue file, where the log has none.")] = None,
    searches: Annotated[int | None, typer.Option(help="Of a made-up shop: how many searches.")] = None,
) -> None:
    """Train QHRank on a log. Prints the folder of the version that was written; progress goes to standard error.

    With --from-log the data are the events of all lives up to the frontier (a version's manifest.json will do, which
    cuts the same events again); the version names them by log, partition, offset and digest.

    The last ninth of the rows in time chooses the settings and the epoch. With --resume a training that was killed
    goes on where it stood, and ends with the same weights.
    """
    if find_spec("torch") is None:
        _end(ExitCode.BAD_SETTINGS, "torch is not installed. Next: `make train-env` adds it to .venv")
    if from_log == bool(data) or (frontier and not from_log):
        _end(ExitCode.BAD_SETTINGS, "give either --data, or --from-log (which may have a --frontier)")
    number = version if version is not None else max(versions(out, model), default=0) + 1
    try:
        from models.qhrank.command import TrainingRun
        from models.qhrank.command import train as trained
        from services.models.training_progress import listening

        if from_log:
            from services.models.cutting import cut_region

            source: Source = cut_region(data_dir, region, frontier)
        else:
            from services.replay.cli import open_log

            pairs = [pair for entry in map or [] for pair in entry.split(",") if pair]
            source = open_log(data, format, pairs, items, searches)
        run = TrainingRun(repository=out, model=model, version=number, end=end, trials=search, resume=resume, base=base)
        with listening() as listener:
            folder = trained(source, run, _settings(seed, threads, epochs, base=base is not None), listener)
    except (ModelError, ReplayMisused, SettingsError, RegistryError) as error:
        _end(ExitCode.BAD_SETTINGS, str(error))
    print(folder)


def _settings(seed: int, threads: int, epochs: int | None, *, base: bool) -> "TrainingSettings":
    """As they are; for going on from trained weights a tenth of the rates, so that these are not forgotten at once."""
    import msgspec

    from models.qhrank.training import TrainingSettings

    settings = TrainingSettings(seed=seed, threads=threads)
    if epochs is not None:
        settings = msgspec.structs.replace(settings, text_epochs=epochs)
    if base:
        rates = settings.text_rate / 10, settings.head_rate / 10
        settings = msgspec.structs.replace(settings, text_rate=rates[0], head_rate=rates[1])
    return settings


def _end(code: ExitCode, reason: str) -> NoReturn:
    print(f"meridian models train: {reason}", file=sys.stderr)
    raise typer.Exit(code)
