"""Histories made by hand: one that is right in everything, and ways to plant in it what a checker must find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec

from region_sim.evidence import (
    ControlTimes,
    DeadSeen,
    DrillPlan,
    Epoch,
    Evidence,
    FaultSeen,
    HeldEnds,
    LogRead,
    LogRows,
    MarkerSeen,
    MarkersRead,
    PredictionsSeen,
    ReceiptSeen,
    ReceiptsRead,
    Row,
    StateSeen,
    TermSeen,
    TransitionSeen,
)
from region_sim.history import NO_CALL, Entry, EntryType, Said
from region_sim.spec import Cut, Drill, Fault, Kill, Load, Marks, Partition, Steady, Topology, Wipe, kind_of
from services.ledger.acks import Ack
from services.ledger.identity import identity_of
from services.receipts.model import Receipt
from streams.frame import EventRow
from streams.kinds import Kind
from tests.support.planted_pieces import (
    LOG,
    SECOND,
    UNIX_MS,
    marker,
    predictions,
    range_of,
    receipt,
    state,
    term,
    transition,
)

USER = "user-7"
FIRST: Epoch = (0, 5)
WEST_LOG = "west-1.events"
FAULT_AT = 10.0
COLLECTED_AT = 40.0
TIMES = ControlTimes(
    lease_ttl=2.0,
    renew_interval=0.4,
    request_timeout=0.3,
    cycle=0.25,
    observe=0.5,
    rank_delay=0.4,
    etcd_election=2.0,
)
FAULTS: dict[str, Fault] = {"kill": Kill(), "wipe": Wipe(), "cut": Cut(), "partition": Partition()}


@dataclass
class Planted:
    """What happened in a drill: east is active, is lost at second 10, west takes over, east comes back."""

    kind: str = "kill"
    marks: Marks = field(default_factory=Marks)
    entries: list[Entry] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=lambda: {"east": [], "west": []})
    receipts: list[Receipt] = field(default_factory=list)
    states: dict[str, StateSeen] = field(default_factory=dict)
    terms: list[TermSeen] = field(default_factory=list)
    transitions: list[TransitionSeen] = field(default_factory=list)
    predictions: list[PredictionsSeen] = field(default_factory=list)
    """Of the end."""
    dead: list[tuple[str, int, int]] = field(default_factory=list)
    markers: list[MarkerSeen] = field(default_factory=list)
    number: int = 0
    load: Load = field(default_factory=Load)
    faults: list[Fault] = field(default_factory=list)
    steady: Steady = field(default_factory=Steady)
    times: ControlTimes | None = TIMES

    def add(
        self,
        type: EntryType,  # noqa: A002
        op: str,
        process: str,
        at: float,
        *,
        call: int = NO_CALL,
        region: str = "",
        epoch: Epoch | None = None,
        acks: list[Ack] | None = None,
        said: list[Said] | None = None,
        note: str = "",
        error: str = "",
        rung: str = "",
        evidence: Evidence | None = None,
    ) -> Entry:
        """One entry."""
        entry = Entry(
            index=len(self.entries),
            type=type,
            op=op,
            process=process,
            monotonic_seconds=at,
            unix_ms=UNIX_MS + int(at * 1000),
            call=call,
            region=region,
            epoch=epoch,
            acks=acks or [],
            said=said or [],
            note=note,
            error=error,
            rung=rung,
            evidence=evidence,
        )
        self.entries.append(entry)
        return entry

    def search(self, process: str, at: float, region: str, epoch: Epoch, *, asked_at: int | None = None) -> Entry:
        """An accepted ranking; `asked_at`: the index of an earlier invoke."""
        call = self.add("invoke", "search", process, at - 0.02).index if asked_at is None else asked_at
        return self.add("ok", "search", process, at, call=call, region=region, epoch=epoch, rung="model")

    def ask(self, process: str, at: float) -> int:
        """Only the question; returns its index."""
        return self.add("invoke", "search", process, at).index

    def event(self, at: float, *, log: str = LOG, process: str = "bare-east", held: str = "east west") -> Ack:
        """An acknowledged click that lies in the logs of the regions in `held`."""
        self.number += 1
        offset = self.number
        time_ms = UNIX_MS + int(at * 1000)
        event = EventRow(
            identity=b"", time_ms=time_ms, user=77, session=5, kind=Kind.CLICK, query="q", item=f"item-{offset}"
        )
        ack = Ack(
            source=f"/drill/{process}",
            id=f"e{offset}",
            time_ms=time_ms,
            kind="click",
            log=log,
            partition=0,
            offset=offset,
            query="q",
            item=event.item,
            user=USER,
        )
        row = Row(
            offset=offset,
            index=0,
            identity=identity_of(ack.source, ack.id, event).hex(),
            kind="click",
            time_ms=time_ms,
            user=77,
            session=5,
            position=0,
            query="q",
            item=event.item,
            ranking=event.ranking.hex(),
            body="",
        )
        for region in held.split():
            self.rows[region].append(row)
        said = Said(source=ack.source, id=ack.id, time_ms=time_ms, kind="click", query="q", item=event.item, user=USER)
        call = self.add("invoke", "publish", process, at - 0.01, said=[said]).index
        self.add("ok", "publish", process, at, call=call, acks=[ack])
        return ack

    def phase(self, name: str, at: float) -> None:
        """The beginning of a phase."""
        self.add("info", "phase", "conductor", at, note=name)

    def strike(self, at: float, **changes: object) -> Entry:
        """A fault that takes, by default the drill's first one on the active east; returns its invoke."""
        seen = FaultSeen(
            kind=self.kind,
            target="east",
            was_active=True,
            region_lost=True,
            incarnation="east-1",
            verified=True,
            details="",
            etcd_leader_hit=False,
        )
        seen = msgspec.structs.replace(seen, **changes)
        began = self.add("invoke", "fault", "nemesis", at, region=seen.target, note=seen.kind)
        self.add(
            "ok", "fault", "nemesis", at + 0.1, call=began.index, region=seen.target, note=seen.kind, evidence=seen
        )
        return began

    def heal(self, began: Entry, at: float) -> None:
        """The heal of one fault."""
        for type in ("invoke", "ok"):  # noqa: A001
            self.add(type, "heal", "nemesis", at, call=began.index, region=began.region, note=began.note)


def plan(planted: Planted) -> DrillPlan:
    """The first entry's evidence."""
    faults = planted.faults or [FAULTS[planted.kind]]
    has_network = any(isinstance(fault, Partition) for fault in faults)
    drill = Drill(
        name="planted",
        summary="planted",
        faults=faults,
        marks=planted.marks,
        load=planted.load,
        steady=planted.steady,
        topology=Topology(network="namespaces" if has_network else "loopback"),
    )
    return DrillPlan(
        drill="planted",
        backend="process",
        seed=7,
        kind=kind_of(faults[0]),
        regions=["east", "west"],
        times=planted.times,
        parameters=msgspec.Raw(msgspec.json.encode(drill)),
    )


Plant = Callable[[Planted], object]


def nothing(planted: Planted) -> None:
    """Plants nothing."""


def history(
    kind: str = "kill",
    *,
    before: Plant = nothing,
    during: Plant = nothing,
    after: Plant = nothing,
    end: Plant = nothing,
    evidence: Callable[[list[Evidence]], list[Evidence]] = lambda found: found,
    marks: Marks | None = None,
    held_end: int = 1_000,
    load: Load | None = None,
    faults: list[Fault] | None = None,
    steady: Steady | None = None,
    times: ControlTimes | None = TIMES,
) -> list[Entry]:
    """The entries of a drill in which all is well, but for what is planted before, during and after the fault.

    `after` comes behind the heal; `end` may change receipts, states, terms and the like before they are written;
    `evidence` what is collected at the end. `faults` are the drill's: those beyond the first one must be planted.
    """
    planted = Planted(
        kind=kind,
        marks=marks or Marks(),
        load=load or Load(),
        faults=faults or [],
        steady=steady or Steady(),
        times=times,
    )
    planted.add("info", "plan", "conductor", 0.0, evidence=plan(planted))
    planted.phase("warm-up", 0.5)
    for region in planted.rows:
        planted.add("info", "collect", "collector", 0.9, evidence=predictions(region, "before"))
    planted.phase("steady", 1.0)
    for step in range(8):
        planted.search("library-east", 2.0 + step, "east", FIRST)
        planted.search("bare-east", 2.2 + step, "east", FIRST)
        planted.event(2.4 + step)
        planted.event(2.5 + step, log=WEST_LOG, process="bare-west")
    before(planted)
    planted.phase("fault", FAULT_AT)
    began = planted.strike(FAULT_AT)
    during(planted)
    planted.search("library-west", FAULT_AT + 2.5, "west", SECOND)
    planted.event(FAULT_AT + 3, log=WEST_LOG, process="bare-west")
    if kind == "partition":
        planted.event(FAULT_AT + 3.1)
    planted.search("bare-west", FAULT_AT + 3.2, "west", SECOND)
    held = HeldEnds(region="west", log=LOG, next_offsets={0: held_end})
    planted.add("info", "collect", "collector", 13.9, evidence=held)
    planted.phase("heal", 14.0)
    recover = planted.add("invoke", "recover", "conductor", 14.0)
    planted.heal(began, 14.0)
    planted.add("ok", "recover", "conductor", 14.5, call=recover.index)
    planted.phase("after", 14.6)
    planted.search("library-east", 15.0, "west", SECOND)
    after(planted)
    planted.phase("load stops", 16.0)
    planted.add("ok", "settle", "conductor", 17.0)
    _fill(planted)
    end(planted)
    for piece in evidence(_collected(planted)):
        planted.add("info", "collect", "collector", COLLECTED_AT, evidence=piece)
    return planted.entries


def _fill(planted: Planted) -> None:
    """What is collected at the end, when all is well."""
    kind = planted.kind
    planted.receipts = [receipt(state="confirmed_lost" if kind in ("wipe", "cut") else "healed")]
    planted.states = {region: state(region, _distinct(planted.rows[region])) for region in planted.rows}
    planted.terms = [term("east", FIRST, 0.0, 12.0), term("west", SECOND, 12.1)]
    planted.transitions = [
        transition(1, -5.0, "east", "acquired", FIRST),
        transition(2, 12.1, "west", "acquired", SECOND),
    ]
    planted.predictions = [predictions(region, "after") for region in planted.rows]
    planted.markers = [
        marker(region, epoch, partition)
        for region, epoch in (("east", FIRST), ("west", SECOND))
        for partition in (0, 1)
    ]


def renumbered(entries: list[Entry]) -> list[Entry]:
    """The entries with new indices, and calls that still name what they named; a call that is gone is none."""
    places = {entry.index: place for place, entry in enumerate(entries)}
    return [
        msgspec.structs.replace(entry, index=place, call=places.get(entry.call, NO_CALL))
        for place, entry in enumerate(entries)
    ]


def _distinct(rows: list[Row]) -> int:
    return len({row.identity for row in rows})


def _collected(planted: Planted) -> list[Evidence]:
    found: list[Evidence] = [*planted.states.values(), *planted.terms, *planted.transitions, *planted.predictions]
    for region, rows in planted.rows.items():
        # Offsets are unique over both logs, so the log of a row is found by its acknowledgement.
        logs = {ack.offset: ack.log for entry in planted.entries for ack in entry.acks}
        for log in (LOG, WEST_LOG):
            mine = [row for row in rows if logs.get(row.offset, LOG) == log]
            found += [
                LogRows(region=region, log=log, partition=0, rows=mine),
                LogRead(region=region, log=log, next_offsets={0: 1_000}, corrupt=0, holes=0),
            ]
        found += [msgspec.structs.replace(one, seen_in=region) for one in planted.markers]
        found += [MarkersRead(seen_in=region, log=f"{writer}-1.rankings", partitions=[0, 1]) for writer in planted.rows]
        found.append(DeadSeen(region=region, log="east-1.dead", places=planted.dead))
    found += [ReceiptSeen(seen_in="west", receipt=one) for one in planted.receipts]
    found.append(ReceiptsRead(seen_in="west", count=len(planted.receipts)))
    return found


__all__ = [
    "LOG",
    "SECOND",
    "UNIX_MS",
    "Planted",
    "history",
    "predictions",
    "range_of",
    "receipt",
    "renumbered",
    "replace",
    "state",
    "term",
    "transition",
]
