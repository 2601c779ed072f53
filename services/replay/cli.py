"""`meridian replay`: publish a log of real events, and judge the rankings it gets."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from models.errors import ModelError
from models.records import Source
from models.shop import ShopSettings, generate
from models.sources import FORMATS, open_source, parse_mapping
from services.client import MeridianError
from services.common.exit_codes import ExitCode
from services.ledger.errors import LedgerError
from services.replay.errors import ReplayError, ReplayMisused
from services.replay.progress import ProgressBoard
from services.replay.reach import address_of, refuse_dead
from services.replay.report import ReplayReport, show
from services.replay.run import Replay, ReplayOptions

DEFAULT_GATEWAY = "http://127.0.0.1:8080"
SHOP = "shop"


def open_log(path: str, format_name: str, mapping: list[str], items: Path | None, searches: int | None) -> Source:
    """The log to replay: a file or folder, or `shop` for one made from a seed (`shop:SEED`)."""
    if is_shop(path, format_name):
        settings = ShopSettings(seed=int(path.partition(":")[2] or "1"))
        return generate(msgspec.structs.replace(settings, searches=searches) if searches else settings)
    return open_source(Path(path), format_name, parse_mapping(mapping), items)


def is_shop(path: str, format_name: str) -> bool:
    """Whether a made-up log is meant. Raises ReplayMisused for a bad seed, and when a file is named as well."""
    if path == SHOP or path.startswith(f"{SHOP}:"):
        if not (path.partition(":")[2] or "1").isdigit():
            raise ReplayMisused(f"{path!r}: write shop or shop:SEED with a whole number")
        return True
    if format_name == SHOP:
        raise ReplayMisused(f"--format {SHOP} makes a log up and would not read {path}: give one of them")
    return False


def look_first(path: str, format_name: str, gateways: Sequence[str]) -> None:
    """Find what is wrong before the log is read. Raises ReplayError."""
    for url in gateways:
        address_of(url)
    if is_shop(path, format_name) or Path(path).exists():
        asyncio.run(refuse_dead(gateways))


def replay(
    file: Annotated[str, typer.Argument(help="Log to publish: a file, a folder (bestbuy), or shop[:SEED].")],
    gateway: Annotated[list[str] | None, typer.Option(help="Address of a gateway; repeatable.")] = None,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}, shop; by default from the path.")] = "",
    map: Annotated[list[str] | None, typer.Option("--map", help="FIELD=COLUMN, repeatable or comma-separated.")] = None,
    items: Annotated[Path | None, typer.Option(help="Catalogue file, where the log has none.")] = None,
    skip: Annotated[int, typer.Option(help="Leave out so many searches at the start.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Replay at most so many searches.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Open loop: events a second, or searches a second with --rank.")
    ] = None,
    as_fast: Annotated[bool, typer.Option("--as-fast", help="As fast as it goes (the default).")] = False,
    rank: Annotated[
        int | None,
        typer.Option(help="Ask for a ranking for the last N searches, the earlier ones in bulk; 0: all."),
    ] = None,
    acks: Annotated[Path | None, typer.Option(help="Append each acknowledgement to this JSONL file.")] = None,
    token: Annotated[str | None, typer.Option(envvar="MERIDIAN_TOKEN", help="Bearer token.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on standard output.")] = False,
) -> None:
    """Publish a log of real events through the public API.

    Ids come from the log itself, so the same log published twice counts once. With --rank, each search asks
    for a ranking before its click is published, and the report compares it with two baselines on the same
    stream.
    """
    try:
        if as_fast and rate is not None:
            raise ReplayMisused("--as-fast and --rate contradict each other: give one of them")
        pairs = [pair for entry in map or [] for pair in entry.split(",") if pair]
        if rate is not None and rate <= 0:
            raise ReplayMisused(f"--rate must be above 0, not {rate}; leave it out to go as fast as it goes")
        gateways = gateway or [DEFAULT_GATEWAY]
        look_first(file, format, gateways)
        source = open_log(file, format, pairs, items, None)
        searches = len(source.searches[skip : None if limit is None else skip + limit])
        options = ReplayOptions(
            gateways=gateways,
            token=token,
            skip=skip,
            limit=limit,
            bulk_searches=max(searches - rank, 0) if rank else 0,
            rank=rank is not None,
            rate=rate,
            acks=acks,
        )
        with ProgressBoard() as board:
            report = asyncio.run(Replay(source, options, board).run())
    except (ReplayError, ModelError, MeridianError, LedgerError) as error:
        _fail(error)
    except BaseExceptionGroup as group:
        known, unknown = group.split((ReplayError, MeridianError, LedgerError))
        if unknown is not None or known is None:
            raise
        _fail(known.exceptions[0])
    _print(report, json)
    if not report.complete:
        raise typer.Exit(1)


def _fail(error: BaseException) -> None:
    print(f"meridian replay: {error}", file=sys.stderr)
    raise typer.Exit(ExitCode.BAD_SETTINGS if isinstance(error, ReplayMisused) else 2)


def _print(report: ReplayReport, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
        sys.stdout.flush()
    else:
        show(report, Console())
