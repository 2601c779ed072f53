"""`meridian receipts` and `meridian history`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from services.audit import tables
from services.audit.source import NothingAnswered, history_from, receipt_in, receipts_from
from services.common.deployment import Deployment, load_deployment
from services.common.exit_codes import ExitCode
from services.common.settings import SettingsError
from services.coordination.base import CoordinationError
from services.coordination.history import verify as broken_at
from services.ledger.acks import AckWriter, read_acks
from services.ledger.errors import LedgerError
from services.receipts import Receipt, match
from services.region.network import enter

UNREACHABLE = 69
BROKEN = 1
AFFECTED = 1
UNKNOWN = 2

DataDir = Annotated[Path, typer.Option("--data-dir", help="The deployment's directory.")]
Url = Annotated[str, typer.Option("--url", help="Ask this controller instead of those of the deployment.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DATA_DIR = Path("var/meridian")

receipts = typer.Typer(
    help="What lost regions had acknowledged and nobody else holds.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


@receipts.command("list")
def list_receipts(data_dir: DataDir = DATA_DIR, url: Url = "", json: Json = False) -> None:
    """Show all receipts, oldest first."""
    found = _receipts(data_dir, url)
    if json:
        _print_json(found)
    else:
        tables.show(tables.listing(found))


@receipts.command("show")
def show_receipt(
    receipt: Annotated[str, typer.Argument(help="Id of a receipt, or a file that holds one.")],
    data_dir: DataDir = DATA_DIR,
    url: Url = "",
    json: Json = False,
) -> None:
    """Show one receipt: what is missing, since when, and what became of it."""
    found = _receipt(receipt, data_dir, url)
    if json:
        _print_json(found)
    else:
        tables.show(tables.details(found))


@receipts.command("match")
def match_acks(
    receipt: Annotated[str, typer.Argument(help="Id of a receipt, or a file that holds one.")],
    acks: Annotated[Path, typer.Argument(help="Acknowledgements, as `meridian replay --acks` writes them.")],
    data_dir: DataDir = DATA_DIR,
    url: Url = "",
    affected: Annotated[
        Path | None, typer.Option("--affected", help="Append the lines of affected events to this file.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell which acknowledged events a receipt concerns.

    Exit code 0: none; 1: some are affected; 2: none is known to be, but some were acknowledged after the last contact.
    """
    known = _receipt(receipt, data_dir, url)
    try:
        lines = list(read_acks(acks))
    except LedgerError as error:
        _refuse(f"{error}", ExitCode.BAD_SETTINGS)
    found = match(known, lines)
    if affected is not None:
        with AckWriter(affected) as out:
            for place in found.affected:
                out.write(lines[place])
    if json:
        _print_json(found)
    else:
        tables.show(tables.matching(known, found))
    raise typer.Exit(AFFECTED if found.affected else UNKNOWN if found.unknown else ExitCode.OK)


def history(
    data_dir: DataDir = DATA_DIR,
    url: Url = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the chain of hashes, and say nothing else when it is whole.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what happened to the deployment. Exit code 1: the chain of entries is broken."""
    deployment = _deployment(data_dir, url)
    try:
        found = history_from(deployment, url)
    except NothingAnswered as error:
        _refuse(f"{error}. Is the deployment up? `meridian status` shows it.", UNREACHABLE)
    broken = broken_at(found.entries)  # checked here: whoever answered is not taken at its word
    if json:
        _print_json(msgspec.structs.replace(found, broken=broken or ""))
    elif not verify:
        tables.show(tables.chronicle(found.entries))
    if broken:
        print(f"meridian history: the chain is BROKEN: {broken}", file=sys.stderr)
        raise typer.Exit(BROKEN)
    if verify and not json:
        print(f"the chain is whole, entries: {len(found.entries)}")


def _receipt(wanted: str, data_dir: Path, url: str) -> Receipt:
    try:
        in_file = receipt_in(wanted)
    except CoordinationError as error:
        _refuse(str(error), ExitCode.BAD_SETTINGS)
    if in_file is not None:
        return in_file
    known = _receipts(data_dir, url)
    named = next((found for found in known if found.receipt_id == wanted), None)
    if named is None:
        names = ", ".join(found.receipt_id for found in known) or "there are none"
        _refuse(f"there is no receipt or file {wanted!r}. Receipts: {names}.", ExitCode.BAD_SETTINGS)
    return named


def _receipts(data_dir: Path, url: str) -> list[Receipt]:
    deployment = _deployment(data_dir, url)
    try:
        found, where = receipts_from(deployment, url)
    except NothingAnswered as error:
        _refuse(f"{error}. Is the deployment up? `meridian status` shows it.", UNREACHABLE)
    except CoordinationError as error:
        _refuse(str(error), UNREACHABLE)
    if not where.startswith("http"):
        print(f"meridian receipts: read from {where}", file=sys.stderr)
    return found


def _deployment(data_dir: Path, url: str) -> Deployment | None:
    if url:
        return None
    try:
        deployment = load_deployment(data_dir)
    except SettingsError as error:
        _refuse(str(error), ExitCode.BAD_SETTINGS)
    try:
        enter(deployment)
    except SettingsError as error:
        # Its network is gone, so no controller can be asked; the files are there all the same.
        print(f"meridian: {error}", file=sys.stderr)
    return deployment


def _print_json(value: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _refuse(message: str, code: int) -> NoReturn:
    print(f"meridian: {message}", file=sys.stderr)
    raise typer.Exit(code)
