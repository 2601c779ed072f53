"""What is proven while the regions still run: the ledger's count of their raw logs, and a replay from zero.

It runs where the drill's clients ran, because only from there are the regions reached, and writes `proof.json`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from region_sim.demo.reference import reference_digest
from region_sim.errors import DrillBroken
from region_sim.evidence import FaultSeen, ReceiptSeen, StateSeen
from region_sim.history import Entry, read_history
from region_sim.load.replayed import ACKS_FILE
from services.common.clock import Clock
from services.common.deployment import Deployment
from services.ledger.deployment import DeploymentLedger, RegionAddress, examine_deployment
from services.ledger.errors import LedgerError
from services.receipts.model import Receipt
from services.region import run_file

PROOF_FILE: Final = "proof.json"
LEDGER_SECONDS_MAX: Final = 120.0


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    region_lost: str
    region_took_over: str
    receipt: Receipt | None
    incarnations: dict[str, str]
    """By region, at the end."""
    digest_live: str | None
    digest_reference: str | None
    processor_restarts: int
    """How often the processor of the lost region was started since the region itself was; 0: it does not live."""
    ledger: DeploymentLedger


@dataclass(slots=True)
class Seen:
    """The parts of a history that the proof begins with."""

    lost: str = ""
    life: str = ""
    took_over: str = ""
    receipts: dict[str, Receipt] = field(default_factory=dict)
    states: dict[str, StateSeen] = field(default_factory=dict)

    @property
    def receipt(self) -> Receipt | None:
        """The one about the life that was lost."""
        return next((found for found in self.receipts.values() if found.incarnation == self.life), None)


def seen_in(entries: Iterable[Entry]) -> Seen:
    """Who was lost, who answered first afterwards, and what the regions said in the end."""
    seen = Seen()
    for entry in entries:
        if entry.op == "fault" and entry.type == "invoke" and not seen.lost:
            seen.lost = entry.region
        if entry.op == "search" and entry.type == "ok" and seen.lost and not seen.took_over:
            seen.took_over = entry.region if entry.region != seen.lost else ""
        if isinstance(entry.evidence, FaultSeen) and entry.evidence.verified and not seen.life:
            seen.life = entry.evidence.incarnation
        if isinstance(entry.evidence, ReceiptSeen):
            seen.receipts[entry.evidence.receipt.receipt_id] = entry.evidence.receipt
        if isinstance(entry.evidence, StateSeen):
            seen.states[entry.evidence.region] = entry.evidence
    return seen


async def prove(directory: Path, history: Path, deployment: Deployment, clock: Clock) -> None:
    """Count and replay; write `proof.json` into `directory`. Raises DrillBroken, HistoryDamaged."""
    seen = seen_in(read_history(history))
    regions = [
        RegionAddress(region=site.name, bootstrap=site.bootstrap, processor_url=site.url("processor"))
        for site in deployment.regions
    ]
    receipts = [seen.receipt] if seen.receipt is not None else []
    try:
        ledger = await examine_deployment(
            directory / ACKS_FILE, regions, receipts, wait_seconds=LEDGER_SECONDS_MAX, clock=clock
        )
    except LedgerError as error:
        raise DrillBroken(f"the ledger could not count: {error}") from error
    live = seen.states.get(seen.took_over)
    proof = Proof(
        region_lost=seen.lost if seen.life else "",
        region_took_over=seen.took_over,
        receipt=seen.receipt,
        incarnations={region: state.incarnation for region, state in seen.states.items()},
        digest_live=None if live is None else live.digest,
        digest_reference=None if live is None else await reference_digest(deployment, seen.took_over, live.frontier),
        processor_restarts=processor_starts(deployment, seen.lost),
        ledger=ledger,
    )
    (directory / PROOF_FILE).write_bytes(msgspec.json.encode(proof))


def processor_starts(deployment: Deployment, region: str) -> int:
    """How often the region's processor was started since the region itself was; 0 when it does not live."""
    record = run_file.read(deployment.site_dir(region)) if region else None
    found = [process for process in record.processes if process.name == "processor"] if record is not None else []
    return found[0].restarts + 1 if found and run_file.is_alive(found[0].identity) else 0
