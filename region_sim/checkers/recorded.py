"""A history, sorted for its checkers: calls with their answers, acknowledgements, faults, and evidence by kind."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar, cast

import msgspec

from region_sim.errors import HistoryDamaged
from region_sim.evidence import DrillPlan, Epoch, Evidence, FaultSeen, LogRead, LogRows, Row
from region_sim.history import NO_CALL, Entry, Said
from region_sim.spec import ClockFault, Drill
from services.ledger.acks import Ack

T = TypeVar("T", bound=Evidence)
Place = tuple[str, int, int, int]
"""Log, partition, offset, index."""
REFUSED: Final = "refused:"
"""How the error of a fault begins that this world cannot do to itself."""
AT_ONCE: Final = ("herd", "poison", "switchover")
"""Faults that have no heal: what they do is done."""
LIFE_ENDS: Final = ("wipe", "cut", "topic-loss")
"""Faults after which the life that was hit is over: what nobody else holds never comes back."""
_drill_decoder = msgspec.json.Decoder(Drill)


class Answer(msgspec.Struct, frozen=True, gc=False):
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
        return is_library(self.process)


class Promise(msgspec.Struct, frozen=True, gc=False):
    """An acknowledgement, and when its app had it."""

    ack: Ack
    unix_ms: int
    index: int
    """Of the entry that brought it."""
    place: Place
    """Where the event was said to be."""


class FirstSaid(msgspec.Struct, frozen=True, gc=False):
    """An event, as it was said first."""

    said: Said
    index: int
    """Of the entry with which it was said: nothing of it can be anywhere before."""
    process: str


@dataclass(slots=True)
class Hit:
    """One fault of the drill: begun, injected, healed."""

    began: Entry
    done: Entry | None = None
    heal_began: Entry | None = None
    """Its own heal; what has none is healed when the drill ends."""
    healed: Entry | None = None

    @property
    def seen(self) -> FaultSeen | None:
        """The fault as it was injected; None when it was not, or could not be verified."""
        piece = None if self.done is None or self.done.type != "ok" else self.done.evidence
        return piece if isinstance(piece, FaultSeen) and piece.verified else None

    @property
    def is_refused(self) -> bool:
        """Whether this world cannot do that to itself."""
        return self.done is not None and self.done.error.startswith(REFUSED)

    @property
    def label(self) -> str:
        """For sentences."""
        return f"{self.began.note or 'fault'} {self.began.region}".strip()

    @property
    def over(self) -> Entry | None:
        """The entry that says that it was gone; what needs no heal is over when it was done."""
        if self.began.note in AT_ONCE:
            return self.done
        return self.healed if self.healed is not None and self.healed.type == "ok" else None

    @property
    def until_seconds(self) -> float:
        """Monotonic time when it was gone; infinity when nobody says so."""
        return math.inf if self.over is None else self.over.monotonic_seconds

    @property
    def until_ms(self) -> float:
        """Unix ms when it was gone; infinity when nobody says so."""
        return math.inf if self.over is None else self.over.unix_ms


@dataclass(slots=True)
class Recorded:
    """Everything of one history. Made by `record`."""

    plan: DrillPlan
    drill: Drill
    entries: list[Entry]
    answers: list[Answer] = field(default_factory=list)
    promises: dict[tuple[str, str], Promise] = field(default_factory=dict)
    """By source and id; the first acknowledgement counts."""
    said: dict[tuple[str, str], FirstSaid] = field(default_factory=dict)
    """By source and id: all that clients said."""
    faults: list[Hit] = field(default_factory=list)
    """In the order in which they were begun."""
    searches: list[Entry] = field(default_factory=list)
    """What completes searches, in order."""
    pieces: dict[type, list[tuple[Entry, Evidence]]] = field(default_factory=dict)
    missing: dict[tuple[str, str], tuple[str, str]] | None = None
    """See `loss.missing_promises`."""
    recomputed: dict[str, tuple[Row, str, str]] = field(default_factory=dict)
    """By identity: a row that has it, and the source and id with which it was computed again."""
    phase_entries: dict[str, Entry] = field(default_factory=dict)
    completed_entries: dict[str, Entry] = field(default_factory=dict)
    begun_entries: dict[str, Entry] = field(default_factory=dict)
    _rows: dict[str, dict[Place, Row]] = field(default_factory=dict)
    _read: set[tuple[str, str]] = field(default_factory=set)

    def evidence(self, kind: type[T]) -> list[T]:
        """All evidence of one kind, in order."""
        return [cast("T", piece) for _, piece in self.pieces.get(kind, ())]

    def evidenced(self, kind: type[T]) -> list[tuple[Entry, T]]:
        """All evidence of one kind, in order, with the entries that brought it."""
        return [(entry, cast("T", piece)) for entry, piece in self.pieces.get(kind, ())]

    @property
    def hits(self) -> list[Hit]:
        """The faults that were injected and verified."""
        return [hit for hit in self.faults if hit.seen is not None]

    @property
    def first_hit(self) -> Hit | None:
        """The first fault that was injected."""
        return next((hit for hit in self.faults if hit.seen is not None), None)

    @property
    def fault_began(self) -> Entry | None:
        """When the first fault was begun that was injected; when none was, the first at all."""
        first = self.first_hit or (self.faults[0] if self.faults else None)
        return None if first is None else first.began

    @property
    def fault(self) -> Entry | None:
        """The completion of the first fault that was injected."""
        first = self.first_hit
        return None if first is None else first.done

    @property
    def fault_seen(self) -> FaultSeen | None:
        """The first fault that was injected; None when none was."""
        first = self.first_hit
        return None if first is None else first.seen

    @property
    def are_clocks_true(self) -> bool:
        """Whether what regions say of the time can be compared with what clients say of it."""
        return not any(isinstance(fault, ClockFault) for fault in self.drill.faults)

    def phase(self, name: str) -> Entry | None:
        """The entry with which a phase of the drill began."""
        return self.phase_entries.get(name)

    def completed(self, op: str) -> Entry | None:
        """The last ok or fail of an operation of the drill itself."""
        return self.completed_entries.get(op)

    def begun(self, op: str) -> Entry | None:
        """The first invoke of an operation of the drill itself."""
        return self.begun_entries.get(op)

    def was_read(self, region: str, log: str) -> bool:
        """Whether a region's copy of a log was read to its end."""
        if not self._read:
            self._read = {(piece.region, piece.log) for piece in self.evidence(LogRead)}
        return (region, log) in self._read

    def rows_of(self, region: str) -> dict[Place, Row]:
        """All events that a region's Kafka holds, by their place in the origin's log."""
        if not self._rows:
            for piece in self.evidence(LogRows):
                held = self._rows.setdefault(piece.region, {})
                log, partition = piece.log, piece.partition
                for row in piece.rows:
                    held[log, partition, row.offset, row.index] = row
        return self._rows.get(region, {})


def is_library(process: str) -> bool:
    """Whether a client uses the client library."""
    return process.startswith("library")


def record(entries: Iterable[Entry]) -> Recorded:
    """Sort a history. Raises HistoryDamaged when it does not say which drill it is of."""
    listed = entries if isinstance(entries, list) else list(entries)
    plan = listed[0].evidence if listed else None
    if not isinstance(plan, DrillPlan):
        raise HistoryDamaged("the history does not begin with the plan of its drill")
    try:
        drill = _drill_decoder.decode(plan.parameters)
    except msgspec.MsgspecError as error:
        raise HistoryDamaged(f"the history's drill cannot be read: {error}") from error
    recorded = Recorded(plan=plan, drill=drill, entries=listed)
    hits: dict[int, Hit] = {}
    for entry in listed:
        if entry.evidence is not None:
            recorded.pieces.setdefault(type(entry.evidence), []).append((entry, entry.evidence))
        if entry.op == "search":
            _sort_search(recorded, entry)
        if entry.op in ("search", "publish"):
            _sort_said(recorded, entry)
        elif entry.op in ("fault", "heal"):
            _sort_said(recorded, entry)  # a herd says something, too
            _sort_fault(recorded, hits, entry)
        else:
            _sort_course(recorded, entry)
    return recorded


def _sort_search(recorded: Recorded, entry: Entry) -> None:
    if entry.type == "invoke":
        return
    recorded.searches.append(entry)
    if entry.type == "ok" and entry.epoch is not None and entry.call != NO_CALL:
        recorded.answers.append(
            Answer(
                entry.index,
                entry.call,
                entry.process,
                entry.region,
                entry.epoch,
                entry.monotonic_seconds,
                entry.unix_ms,
            )
        )


def _sort_said(recorded: Recorded, entry: Entry) -> None:
    for said in entry.said:
        key = (said.source, said.id)
        if key not in recorded.said:
            recorded.said[key] = FirstSaid(said, entry.index, entry.process)
    for ack in entry.acks:
        key = (ack.source, ack.id)
        if key not in recorded.promises:
            place = (ack.log, ack.partition, ack.offset, ack.index)
            recorded.promises[key] = Promise(ack, entry.unix_ms, entry.index, place)


def _sort_fault(recorded: Recorded, hits: dict[int, Hit], entry: Entry) -> None:
    """A heal belongs to the fault that it names by its call."""
    if entry.op == "fault":
        if entry.type == "invoke":
            hit = hits[entry.index] = Hit(entry)
            recorded.faults.append(hit)
        elif entry.call in hits:
            hits[entry.call].done = entry
        return
    if entry.call in hits:
        if entry.type == "invoke":
            hits[entry.call].heal_began = entry
        else:
            hits[entry.call].healed = entry


def _sort_course(recorded: Recorded, entry: Entry) -> None:
    if entry.op == "phase":
        recorded.phase_entries.setdefault(entry.note, entry)
    elif entry.type in ("ok", "fail"):
        recorded.completed_entries[entry.op] = entry
    elif entry.type == "invoke":
        recorded.begun_entries.setdefault(entry.op, entry)
