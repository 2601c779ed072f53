"""A history in one pass: what the report draws, in memory that does not grow with the length of the file.

Calls become counts and latencies by second and by stage; events become 8-byte hashes, of which only the number of
different ones is wanted; evidence that there is little of is kept. A history of 500,000 lines takes some tens of
megabytes.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
import xxhash

from region_sim.errors import HistoryDamaged
from region_sim.evidence import (
    DrillPlan,
    Epoch,
    Evidence,
    FaultSeen,
    LogRows,
    MarkerSeen,
    ReceiptSeen,
    ReceiptsRead,
    StateSeen,
    TermSeen,
    TransitionSeen,
)
from region_sim.history import Entry
from services.receipts.model import Receipt

KEPT_MAX: Final = 2_000
"""Of each kind of thing that is listed one by one; more are counted."""
RANK_MAX: Final = 65_535
WAITING_MAX: Final = 200_000
"""Calls that may be under way at once; beyond it the latency of the oldest is not measured."""


@dataclass(slots=True)
class Fault:
    """One fault, from its beginning to its heal, in seconds of the drill."""

    index: int
    kind: str
    target: str
    began: float
    taken: float | None = None
    """When it had been verified; None: it did not take, or was refused."""
    healed: float | None = None
    error: str = ""
    seen: FaultSeen | None = None
    heal_error: str = ""

    @property
    def took(self) -> bool:
        """Whether it was injected and verified."""
        return self.taken is not None


@dataclass(slots=True)
class Moment:
    """Something that happened at one time."""

    at: float
    kind: str
    region: str
    sentence: str


@dataclass(slots=True)
class Stage:
    """The time between two turning points of a drill, and the searches that were asked in it."""

    began: float
    name: str
    asked: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    """By rung."""
    unanswered: int = 0
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))
    ranks: array[int] = field(default_factory=lambda: array("H"))
    """Of the items that were clicked, in the rankings of apps that know it; 0: not among those shown."""


@dataclass(slots=True)
class Held:
    """When one region answered under one epoch."""

    first: float
    last: float
    answers: int = 0


@dataclass(slots=True)
class LedgerCounts:
    """Events by what became of them; see `Observed.distinct`."""

    said: array[int] = field(default_factory=lambda: array("Q"))
    acknowledged: array[int] = field(default_factory=lambda: array("Q"))
    refused: int = 0
    unknown: int = 0
    rows: dict[str, array[int]] = field(default_factory=dict)
    """Identities in each region's logs, catalogue entries left out."""
    copied: Counter[str] = field(default_factory=Counter)
    """Rows that each region holds of the logs of others."""


@dataclass(slots=True)
class Observed:
    """Everything that the report needs of a history."""

    plan: DrillPlan | None = None
    parameters: object = None
    began_unix_ms: int = 0
    began_seconds: float = 0.0
    """Of the monotonic clock of the history: second 0 of the drill."""
    end: float = 0.0
    entries: int = 0
    problem: str = ""
    """Why the history could not be read to its end; empty when it could."""
    asked: Counter[int] = field(default_factory=Counter)
    """By second."""
    latencies_ms: dict[tuple[int, str], array[float]] = field(default_factory=dict)
    """Of accepted answers, by second and region."""
    unanswered: Counter[int] = field(default_factory=Counter)
    stages: list[Stage] = field(default_factory=list)
    phases: list[Moment] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    left_out: int = 0
    """Moments beyond KEPT_MAX."""
    held: dict[tuple[str, Epoch], Held] = field(default_factory=dict)
    terms: list[TermSeen] = field(default_factory=list)
    markers: dict[tuple[str, str, Epoch], set[str]] = field(default_factory=dict)
    """By region, incarnation and epoch: the regions that hold one."""
    receipts: dict[str, Receipt] = field(default_factory=dict)
    """As last seen."""
    receipts_read: bool = False
    states: dict[str, StateSeen] = field(default_factory=dict)
    ledger: LedgerCounts = field(default_factory=LedgerCounts)

    @property
    def regions(self) -> list[str]:
        """The regions with data, as the plan names them, or in the order of their names."""
        if self.plan is not None:
            return self.plan.regions
        return sorted({region for region, _ in self.held} | set(self.states))

    def at(self, unix_ms: int) -> float | None:
        """Seconds of the drill at a time of some machine's wall clock; None for no time."""
        return None if unix_ms <= 0 or not self.began_unix_ms else (unix_ms - self.began_unix_ms) / 1000


def distinct(hashes: array[int]) -> int:
    """How many different ones there are."""
    return int(np.unique(np.frombuffer(hashes, np.uint64)).size) if hashes else 0


def gather(entries: Iterable[Entry]) -> Observed:
    """Read a history. One that is damaged is read as far as it goes; `problem` says so."""
    reader = _Reader()
    try:
        for entry in entries:
            reader.take(entry)
    except HistoryDamaged as error:
        reader.observed.problem = str(error)
    return reader.observed


class _Reader:
    """What must be remembered between two entries."""

    def __init__(self) -> None:
        self.observed = Observed()
        self._waiting: dict[int, tuple[float, Stage]] = {}
        self._faults: dict[int, Fault] = {}
        self._heals: dict[int, list[Fault]] = {}
        self._transitions: set[int] = set()

    def take(self, entry: Entry) -> None:
        observed = self.observed
        if observed.entries == 0:
            observed.began_seconds = entry.monotonic_seconds
            observed.began_unix_ms = entry.unix_ms
            self._turn(0.0, "begin")
        at = round(entry.monotonic_seconds - observed.began_seconds, 6)
        observed.entries += 1
        observed.end = max(observed.end, at)
        if entry.op == "search":
            self._search(entry, at)
        elif entry.op in ("fault", "heal", "recover"):
            self._fault(entry, at)
        elif entry.op == "phase":
            observed.phases.append(Moment(at, "phase", "", entry.note))
            self._turn(at, entry.note)
        elif entry.op == "judged" and entry.note.isdecimal():
            observed.stages[-1].ranks.append(min(int(entry.note), RANK_MAX))
        elif entry.op not in ("publish", "plan", "collect", "judged"):
            self._moment(entry, at)
        self._count(entry)
        if entry.evidence is not None:
            self._evidence(entry.evidence)

    def _turn(self, at: float, name: str) -> None:
        self.observed.stages.append(Stage(at, name))

    def _search(self, entry: Entry, at: float) -> None:
        observed = self.observed
        if entry.type == "invoke":
            observed.asked[int(at)] += 1
            observed.stages[-1].asked += 1
            self._waiting[entry.index] = (at, observed.stages[-1])
            if len(self._waiting) > WAITING_MAX:
                self._waiting.pop(next(iter(self._waiting)))
            return
        asked_at, stage = self._waiting.pop(entry.call, (None, observed.stages[-1]))
        if entry.type != "ok":
            observed.unanswered[int(at)] += 1
            stage.unanswered += 1
            return
        stage.answered[entry.rung or "not said"] += 1
        known = observed.latencies_ms.setdefault((int(at), entry.region), array("d"))
        latency_ms = float("nan") if asked_at is None else (at - asked_at) * 1000
        known.append(latency_ms)
        stage.latencies_ms.append(latency_ms)
        if entry.epoch is not None:
            held = observed.held.setdefault((entry.region, entry.epoch), Held(at, at))
            held.last = at
            held.answers += 1

    def _fault(self, entry: Entry, at: float) -> None:
        if entry.op == "fault":
            self._struck(entry, at)
        elif entry.op == "heal" and entry.type == "invoke":
            fault = self._faults.get(entry.call)
            # A drill with one fault did not need to say what it heals.
            self._heals[entry.index] = [fault] if fault is not None else self._unhealed()
        elif entry.op == "heal":
            named = self._faults.get(entry.call)
            for fault in [named] if named is not None else self._heals.get(entry.call, self._unhealed()):
                self._healed(fault, entry, at)
        elif entry.type == "ok":
            for fault in self._unhealed():
                self._healed(fault, entry, at)
        if entry.op == "recover":
            self._moment(entry, at)
        if entry.op != "fault" and entry.type != "invoke":
            self._turn(at, entry.op)

    def _struck(self, entry: Entry, at: float) -> None:
        if entry.type == "invoke":
            fault = Fault(entry.index, entry.note, entry.region, at)
            self._faults[entry.index] = fault
            if len(self.observed.faults) < KEPT_MAX:
                self.observed.faults.append(fault)
            else:
                self.observed.left_out += 1
            self._turn(at, "struck")
            return
        known = self._faults.get(entry.call)
        if known is None:
            return
        if isinstance(entry.evidence, FaultSeen):
            known.seen = entry.evidence
            known.kind, known.target = entry.evidence.kind, entry.evidence.target
        known.error = entry.error
        if entry.type == "ok":
            known.taken = at

    def _unhealed(self) -> list[Fault]:
        return [fault for fault in self._faults.values() if fault.healed is None and fault.took]

    def _healed(self, fault: Fault, entry: Entry, at: float) -> None:
        if entry.type == "ok":
            fault.healed = at if fault.healed is None else fault.healed
        else:
            fault.heal_error = entry.error

    def _moment(self, entry: Entry, at: float) -> None:
        if entry.type == "invoke":
            return
        words = {"ok": "", "fail": "failed", "info": ""}[entry.type]
        sentence = " ".join(part for part in (entry.op, words, entry.note, entry.error) if part)
        # The first answer under an epoch stands for a takeover; that somebody waited for it is a remark.
        kind = "remark" if entry.op == "takeover" else entry.op
        self._keep(Moment(at, kind, entry.region, sentence))

    def _keep(self, moment: Moment) -> None:
        if len(self.observed.moments) < KEPT_MAX:
            self.observed.moments.append(moment)
        else:
            self.observed.left_out += 1

    def _count(self, entry: Entry) -> None:
        ledger = self.observed.ledger
        if entry.type == "invoke":
            ledger.said.extend(_hash(one.source, one.id) for one in entry.said)
        ledger.acknowledged.extend(_hash(ack.source, ack.id) for ack in entry.acks)
        ledger.refused += len(entry.refused)
        ledger.unknown += len(entry.unknown)

    def _evidence(self, piece: Evidence) -> None:
        observed = self.observed
        match piece:
            case DrillPlan():
                observed.plan = piece
                observed.parameters = msgspec.json.decode(piece.parameters)
            case LogRows():
                self._rows(piece)
            case StateSeen():
                observed.states[piece.region] = piece
            case ReceiptSeen():
                observed.receipts[piece.receipt.receipt_id] = piece.receipt
            case ReceiptsRead():
                observed.receipts_read = True
            case MarkerSeen() | TermSeen() | TransitionSeen():
                self._term(piece)
            case _:
                pass

    def _term(self, piece: MarkerSeen | TermSeen | TransitionSeen) -> None:
        observed = self.observed
        if isinstance(piece, TransitionSeen):
            # Every controller may show the same history.
            at = observed.at(piece.at_ms)
            if at is not None and piece.seq not in self._transitions:
                self._transitions.add(piece.seq)
                by = f" (by {piece.by})" if piece.by else ""
                self._keep(Moment(at, piece.kind, piece.region, f"{piece.kind}: {piece.sentence}{by}"))
        elif isinstance(piece, TermSeen):
            if len(observed.terms) < KEPT_MAX:
                observed.terms.append(piece)
        elif len(observed.markers) < KEPT_MAX:
            observed.markers.setdefault((piece.region, piece.incarnation, piece.epoch), set()).add(piece.seen_in)

    def _rows(self, piece: LogRows) -> None:
        ledger = self.observed.ledger
        kept = ledger.rows.setdefault(piece.region, array("Q"))
        counted = [row for row in piece.rows if row.kind != "item"]
        kept.extend(_identity(row.identity) for row in counted)
        if not piece.log.startswith(f"{piece.region}-"):
            ledger.copied[piece.region] += len(counted)


def _hash(source: str, id_: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{source}\0{id_}")


def _identity(said: str) -> int:
    return xxhash.xxh3_64_intdigest(said)
