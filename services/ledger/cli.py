"""`meridian ledger`: was anything lost, was anything counted twice?"""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from services.common.settings import SettingsError
from services.ledger import deployment_cli
from services.ledger.deployment import DeploymentLedger
from services.ledger.errors import LedgerError
from services.ledger.region import examine
from services.ledger.verdict import Ledger, Verdict


def ledger(
    acks: Annotated[Path, typer.Argument(help="Acknowledgements, as `meridian replay --acks` writes them.")],
    log: Annotated[str, typer.Option(help="The events log.")] = "east-1.events",
    bootstrap: Annotated[str, typer.Option(help="Address of the broker.")] = "127.0.0.1:19092",
    processor: Annotated[str, typer.Option(help="Address of the processor.")] = "http://127.0.0.1:8081",
    wait: Annotated[float, typer.Option(help="Seconds to wait until all of it has been taken in.")] = 60.0,
    deployment: Annotated[
        Path | None, typer.Option(help="Directory of a deployment: all its regions and receipts are looked at.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the finding as JSON.")] = False,
) -> None:
    """Hold acknowledgements against the raw log and against what the region says it has counted.

    Exit code 0: proven right; 1: something was lost or counted twice; 2: unknown, which is never success.
    """
    finding: Ledger | DeploymentLedger
    try:
        if deployment is not None:
            finding = deployment_cli.examine_all(acks, deployment, wait)
        else:
            finding = asyncio.run(examine(acks, bootstrap, log, processor, wait_seconds=wait))
    except (LedgerError, SettingsError) as error:
        print(f"meridian ledger: {error}", file=sys.stderr)
        raise typer.Exit(Verdict.UNKNOWN.exit_code) from error
    if json:
        print(msgspec.json.format(msgspec.json.encode(finding), indent=2).decode())
    elif isinstance(finding, DeploymentLedger):
        deployment_cli.show(finding, Console())
    else:
        show(finding, Console())
    raise typer.Exit(Verdict(finding.verdict).exit_code)


def show(finding: Ledger, console: Console) -> None:
    """Print a finding for people."""
    table = Table(title=f"{finding.verdict}: {finding.sentence}")
    table.add_column("what")
    table.add_column("events", justify="right")
    numbers = (
        ("acknowledged", finding.events_acknowledged),
        ("acknowledged but not in the log", finding.events_lost),
        ("in the log, each once", finding.events_in_log),
        ("repetitions in the log", finding.copies_in_log),
        ("counted by the region", finding.events_folded),
        ("too late to count", finding.events_late),
        ("counted more than once", finding.events_counted_twice),
        ("in the log but not counted", finding.events_not_folded),
    )
    for label, number in numbers:
        table.add_row(label, "unknown" if number is None else f"{number:,}")
    console.print(table)
    for example in finding.lost_examples:
        console.print(f"lost: {example}", markup=False)
