"""`meridian ledger --deployment`: the same questions for all regions, with their receipts at hand."""

import asyncio
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table

from services.common.deployment import Deployment, load_deployment
from services.ledger.deployment import DeploymentLedger, RegionAddress, examine_deployment
from services.ledger.errors import LedgerError
from services.receipts.client import receipts as ask_receipts
from services.receipts.model import Receipt


def examine_all(acks: Path, directory: Path, wait_seconds: float) -> DeploymentLedger:
    """Count over all regions of the deployment in `directory`. Raises LedgerError, SettingsError."""
    return asyncio.run(_examine(acks, load_deployment(directory), wait_seconds))


async def _examine(acks: Path, deployment: Deployment, wait_seconds: float) -> DeploymentLedger:
    regions = [
        RegionAddress(region=site.name, bootstrap=site.bootstrap, processor_url=site.url("processor"))
        for site in deployment.regions
    ]
    return await examine_deployment(acks, regions, await _receipts(deployment), wait_seconds=wait_seconds)


async def _receipts(deployment: Deployment) -> list[Receipt]:
    """Without receipts everything that is missing counts as lost: better no verdict than that one."""
    async with aiohttp.ClientSession() as session:
        for site in deployment.regions:
            try:
                return await ask_receipts(session, site.url("control"))
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
                continue
    raise LedgerError("no controller shows its receipts; look with `meridian status`")


def show(finding: DeploymentLedger, console: Console) -> None:
    """Print a finding for people, one column a region."""
    table = Table(title=f"{finding.verdict}: {finding.sentence}")
    table.add_column("what")
    for region in finding.regions:
        table.add_column(region.region, justify="right")
    for label, name in (
        ("in its logs, each once", "events_in_logs"),
        ("repetitions in its logs", "copies_in_logs"),
        ("counted", "events_folded"),
        ("counted more than once", "events_counted_twice"),
        ("in its logs but not counted", "events_not_folded"),
        ("acknowledged, not here", "missing"),
        ("acknowledged, not here, on no receipt", "missing_unlisted"),
        ("digest", "digest"),
    ):
        found = [getattr(region, name) for region in finding.regions]
        table.add_row(label, *("unknown" if n is None else f"{n:,}" if isinstance(n, int) else n for n in found))
    console.print(table)
    console.print(
        f"acknowledged {finding.events_acknowledged:,} · in no region and listed {finding.events_listed:,} · "
        f"in no region and on no receipt {finding.events_lost:,}",
        highlight=False,
    )
