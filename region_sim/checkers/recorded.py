"""A history, sorted for its checkers: calls with their answers, acknowledgements, and evidence by kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from region_sim.errors import HistoryDamaged
from region_sim.evidence import DrillPlan, Epoch, Evidence, FaultSeen, LogRows, Row
from region_sim.history import NO_CALL, Entry
from region_sim.spec import Drill
from services.ledger.acks import Ack

T = TypeVar("T", bound=Evidence)
Place = tuple[str, int, int, int]
"""Log, partition, offset, index."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A ranking that a client accepted."""

    index: int
    """Of the entry that completed it: the order in which things became known outside."""
    invoked: int
    """Index of the entry with which it was asked for."""
    process: str
    region: str
    epoch: Epoch
    monotonic_seconds: float
    unix_ms: int

    @property
    def is_library(self) -> bool:
        """Whether the client library accepted it."""
        return self.process.startswith("library")


@dataclass(frozen=True, slots=True)
class Promise:
    """An acknowledgement, and when its app had it."""

    ack: Ack
    unix_ms: int

    @property
    def place(self) -> Place:
        """Where the event was said to be."""
        return self.ack.log, self.ack.partition, self.ack.offset, self.ack.index


@dataclass(slots=True)
class Recorded:
    """Everything of one history. Made by `record`."""

    plan: DrillPlan
    drill: Drill
    entries: list[Entry]
    answers: list[Answer] = field(default_factory=list)
    promises: dict[tuple[str, str], Promise] = field(default_factory=dict)
    """By source and id; the first acknowledgement counts."""
    fault: Entry | None = None
    """The completed fault; `fault_began` is when it was started."""
    fault_began: Entry | None = None
    collected: list[Evidence] = field(default_factory=list)

    def evidence(self, kind: type[T]) -> list[T]:
        """All evidence of one kind, in order."""
        return [piece for piece in self.collected if isinstance(piece, kind)]

    @property
    def fault_seen(self) -> FaultSeen | None:
        """The fault as it was injected; None when it was not."""
        piece = None if self.fault is None else self.fault.evidence
        return piece if isinstance(piece, FaultSeen) and piece.verified else None

    def phase(self, name: str) -> Entry | None:
        """The entry with which a phase of the drill began."""
        return next((e for e in self.entries if e.op == "phase" and e.note == name), None)

    def completed(self, op: str) -> Entry | None:
        """The last ok or fail of an operation of the drill itself."""
        return next((e for e in reversed(self.entries) if e.op == op and e.type in ("ok", "fail")), None)

    def rows_of(self, region: str) -> dict[Place, Row]:
        """All events that a region's Kafka holds, by their place in the origin's log."""
        return {
            (piece.log, piece.partition, row.offset, row.index): row
            for piece in self.evidence(LogRows)
            if piece.region == region
            for row in piece.rows
        }


def record(entries: Iterable[Entry]) -> Recorded:
    """Sort a history. Raises HistoryDamaged when it does not say which drill it is of."""
    listed = list(entries)
    plan = listed[0].evidence if listed else None
    if not isinstance(plan, DrillPlan):
        raise HistoryDamaged("the history does not begin with the plan of its drill")
    try:
        drill = msgspec.json.decode(plan.parameters, type=Drill)
    except msgspec.MsgspecError as error:
        raise HistoryDamaged(f"the history's drill cannot be read: {error}") from error
    recorded = Recorded(plan=plan, drill=drill, entries=listed)
    for entry in listed:
        _sort_in(recorded, entry)
    return recorded


def _sort_in(recorded: Recorded, entry: Entry) -> None:
    if entry.evidence is not None:
        recorded.collected.append(entry.evidence)
    for ack in entry.acks:
        recorded.promises.setdefault((ack.source, ack.id), Promise(ack, entry.unix_ms))
    if entry.op == "fault":
        if entry.type == "invoke" and recorded.fault_began is None:
            recorded.fault_began = entry
        elif entry.type == "ok" and recorded.fault is None:
            recorded.fault = entry
    if entry.op == "search" and entry.type == "ok" and entry.epoch is not None and entry.call != NO_CALL:
        recorded.answers.append(
            Answer(
                index=entry.index,
                invoked=entry.call,
                process=entry.process,
                region=entry.region,
                epoch=entry.epoch,
                monotonic_seconds=entry.monotonic_seconds,
                unix_ms=entry.unix_ms,
            )
        )
