"""`meridian models similar`: make a version of the model of similar items."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from models.errors import ModelError
from models.registry import versions
from models.sources import FORMATS
from services.common.exit_codes import ExitCode
from services.replay.errors import ReplayMisused


def similar(
    data: Annotated[str, typer.Option("--data", help="A folder (bestbuy), a file of searches, or shop[:SEED].")],
    base: Annotated[Path, typer.Option(help="Folder of the QHRank version whose item vectors are used.")],
    out: Annotated[Path, typer.Option("--out", help="The repository to write the version into.")],
    version: Annotated[int | None, typer.Option(help="Number of the version (default: the next one).")] = None,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}; by default from the path.")] = "",
    map: Annotated[list[str] | None, typer.Option("--map", help="FIELD=COLUMN, repeatable or comma-separated.")] = None,
    items: Annotated[Path | None, typer.Option(help="Catalogue file, where the log has none.")] = None,
    searches: Annotated[int | None, typer.Option(help="Of a made-up shop: how many searches.")] = None,
) -> None:
    """Make a version of `similar` from item vectors and co-clicks. Prints its figures as JSON; progress on stderr.

    The base must have been trained on the same log: what it held out chooses, the rows after its end judge.
    """
    if find_spec("onnx") is None:
        print(
            "meridian models similar: onnx is not installed. Next: `make train-env` adds it to .venv", file=sys.stderr
        )
        raise typer.Exit(ExitCode.BAD_SETTINGS)
    from models.similar.blend import MODEL
    from models.similar.making import make
    from services.replay.cli import open_log

    number = version if version is not None else max(versions(out, MODEL), default=0) + 1
    try:
        pairs = [pair for entry in map or [] for pair in entry.split(",") if pair]
        made = make(open_log(data, format, pairs, items, searches), base, out, number, _walked)
    except (ModelError, ReplayMisused) as error:
        print(f"meridian models similar: {error}", file=sys.stderr)
        raise typer.Exit(ExitCode.BAD_SETTINGS) from error
    said = {"folder": str(made.folder), **made.figures}
    print(msgspec.json.format(msgspec.json.encode(said), indent=1).decode())


def _walked(done: int, total: int) -> None:
    if done % 5_000 == 0 or done == total:
        print(f"walked {done:,} of {total:,} searches", file=sys.stderr)
