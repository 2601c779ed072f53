"""A run as a drill leaves it: a history with several faults and two takeovers, and a verdict, both made by hand."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from region_sim.evidence import (
    ControlTimes,
    DrillPlan,
    Epoch,
    Evidence,
    FaultSeen,
    LogRows,
    MarkerSeen,
    ReceiptSeen,
    ReceiptsRead,
    Row,
    StateSeen,
    TermSeen,
    TransitionSeen,
)
from region_sim.history import NO_CALL, Entry, EntryType, Said
from services.ledger.acks import Ack
from services.receipts.model import Range, Receipt, Timeline

UNIX_MS = 1_800_000_000_000
BEGAN = 500.0
"""Of the machine's monotonic clock, which does not begin with the drill."""
FIRST: Epoch = (0, 5)
SECOND: Epoch = (0, 9)
THIRD: Epoch = (0, 14)
PARAMETERS: dict[str, Any] = {
    "name": "double-failure",
    "summary": "Two regions in a row.",
    "faults": [{"kind": "wipe", "target": "active"}, {"kind": "partition", "target": "passive", "shape": "full"}],
    "topology": {"regions": ["east", "west"], "witness": "north"},
    "load": {"searches_per_second": 20.0},
    "marks": {"rto_seconds_max": 6.0, "gap_seconds_max": None, "last_contact_seconds_max": 1.0},
}


@dataclass
class Drilled:
    """Entries of one history, in order of time."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, type: EntryType, op: str, process: str, at: float, **more: Any) -> Entry:  # noqa: A002
        """One entry; `at` in seconds of the drill."""
        more.setdefault("call", NO_CALL)
        entry = Entry(
            index=len(self.entries),
            type=type,
            op=op,
            process=process,
            monotonic_seconds=BEGAN + at,
            unix_ms=UNIX_MS + int(at * 1000),
            **more,
        )
        self.entries.append(entry)
        return entry

    def phase(self, name: str, at: float) -> None:
        """The beginning of a phase."""
        self.add("info", "phase", "conductor", at, note=name)

    def fault(self, kind: str, target: str, at: float, *, lost: bool = False, active: bool = False) -> Entry:
        """A fault that takes."""
        began = self.add("invoke", "fault", "nemesis", at, region=target, note=kind)
        seen = FaultSeen(
            kind=kind,
            target=target,
            was_active=active,
            region_lost=lost,
            incarnation=f"{target}-1",
            verified=True,
            details=f"{kind} by hand",
            struck_ms=UNIX_MS + int(at * 1000) + 40,
        )
        self.add("ok", "fault", "nemesis", at + 0.1, call=began.index, region=target, note=kind, evidence=seen)
        return began

    def heal(self, fault: Entry, at: float, seconds: float) -> None:
        """Its heal, which takes a while."""
        same = {"call": fault.index, "region": fault.region, "note": fault.note}
        self.add("invoke", "heal", "nemesis", at, **same)
        self.add("ok", "heal", "nemesis", at + seconds, **same)

    def collect(self, piece: Evidence, at: float) -> None:
        """A piece of evidence."""
        self.add("info", "collect", "collector", at, evidence=piece)

    def load(
        self, began: float, ended: float, region: str, epoch: Epoch, *, rate: int = 20, rung: str = "model"
    ) -> None:
        """Searches and events, answered by one region, or (without one) by nobody."""
        draw = random.Random(int(began * 10))
        for number in range(int((ended - began) * rate)):
            at = began + number / rate
            call = self.add("invoke", "search", "library-east", at).index
            if not region:
                self.add("info", "search", "library-east", at + 0.4, call=call, error="NoRegion: nobody answers")
            else:
                took = 0.004 + draw.expovariate(1 / 0.006) + (0.4 if number < 3 else 0.0)
                answered = "counters" if number < rate else rung
                self.add(
                    "ok", "search", "library-east", at + took, call=call, region=region, epoch=epoch, rung=answered
                )
            if number % 4 == 0:
                self.publish(f"e{int(at * 1000)}", at, f"{region or 'west'}-1.events")

    def publish(self, id_: str, at: float, log: str) -> None:
        """An event that is acknowledged."""
        said = Said(source="/drill/library-east", id=id_, time_ms=UNIX_MS + int(at * 1000), kind="click", item="lamp")
        call = self.add("invoke", "publish", "library-east", at, said=[said]).index
        ack = Ack(
            source=said.source,
            id=id_,
            time_ms=said.time_ms,
            kind="click",
            log=log,
            partition=0,
            offset=call,
            item="lamp",
        )
        self.add("ok", "publish", "library-east", at + 0.01, call=call, acks=[ack])


def plan() -> DrillPlan:
    """What was going to be done."""
    times = ControlTimes(
        lease_ttl=3.0,
        renew_interval=0.7,
        request_timeout=0.4,
        cycle=0.3,
        observe=0.5,
        rank_delay=0.2,
        etcd_election=1.0,
    )
    return DrillPlan(
        drill="double-failure",
        backend="process",
        seed=7,
        kind="wipe",
        regions=["east", "west"],
        times=times,
        parameters=msgspec.Raw(msgspec.json.encode(PARAMETERS)),
    )


def drilled() -> list[Entry]:
    """East is wiped at second 20 and comes back as passive; west is cut off at 45 and east takes over."""
    made = Drilled()
    made.add("info", "plan", "conductor", 0.0, evidence=plan())
    made.phase("warm-up", 2.0)
    made.load(2.0, 10.0, "east", FIRST)
    made.phase("steady", 10.0)
    made.load(10.0, 20.0, "east", FIRST)
    made.phase("fault", 20.0)
    wiped = made.fault("wipe", "east", 20.0, lost=True, active=True)
    made.load(20.1, 23.9, "", FIRST)
    made.add("ok", "takeover", "nemesis", 24.0, call=wiped.index)
    made.load(24.0, 32.0, "west", SECOND)
    made.heal(wiped, 32.0, 9.0)
    made.load(41.0, 45.0, "west", SECOND)
    cut = made.fault("partition", "west", 45.0, lost=True, active=True)
    poisoned = made.fault("poison", "east", 46.0)
    made.load(46.1, 50.0, "", SECOND)
    made.load(50.0, 58.0, "east", THIRD)
    made.phase("heal", 58.0)
    began = made.add("invoke", "recover", "conductor", 58.0)
    made.heal(poisoned, 58.0, 0.1)
    made.heal(cut, 58.2, 2.0)
    made.add("ok", "recover", "conductor", 61.0, call=began.index)
    made.phase("after", 61.0)
    made.load(61.0, 66.0, "east", THIRD)
    made.phase("load stops", 66.0)
    made.add("ok", "settle", "conductor", 70.0)
    for piece in _evidence():
        made.collect(piece, 71.0)
    return made.entries


def _evidence() -> list[Evidence]:
    row = Row(
        offset=1,
        index=0,
        identity="00ff",
        kind="click",
        time_ms=UNIX_MS,
        user=1,
        session=1,
        position=0,
        query="",
        item="lamp",
        ranking="",
        body="",
    )
    rows = [msgspec.structs.replace(row, offset=n, identity=f"{n:032x}") for n in range(300)]
    found: list[Evidence] = []
    for region, other in (("east", "west"), ("west", "east")):
        found += [
            LogRows(region=region, log=f"{region}-1.events", partition=0, rows=rows[:200]),
            LogRows(region=region, log=f"{other}-1.events", partition=0, rows=rows[190:]),
            StateSeen(
                region=region,
                incarnation=f"{region}-1",
                frontier=[("east-1.events", 0, 300)],
                digest="9f86d081884c7d659a2feaa0c55ad015",
                events=299,
                item_events=0,
                late=1,
                dead=20,
            ),
        ]
    terms = [("east", FIRST, -3.0, 23.0), ("west", SECOND, 23.2, 48.5), ("east", THIRD, 48.8, 0.0)]
    for number, (region, epoch, began, gone) in enumerate(terms):
        gone_ms = UNIX_MS + int(gone * 1000) if gone else 0
        began_ms = UNIX_MS + int(began * 1000)
        found.append(TermSeen(region=region, instance="i", epoch=epoch, seen_ms=began_ms, gone_ms=gone_ms))
        marker = {"region": region, "incarnation": f"{region}-1", "epoch": epoch}
        found.append(MarkerSeen(seen_in="west", log=f"{region}-1.rankings", partition=0, offset=number, **marker))  # type: ignore[arg-type]
        said = TransitionSeen(
            seq=number,
            at_ms=began_ms,
            region=region,
            kind="acquired",
            sentence=f"{region} holds the lease",
            by="",
            epoch=epoch,
            operation_id="",
        )
        found += [said, said]
    found += [ReceiptSeen(seen_in="west", receipt=receipt()), ReceiptsRead(seen_in="west", count=1)]
    return found


def receipt(**changes: Any) -> Receipt:
    """What the wipe took with it."""
    made = Receipt(
        receipt_id="r-0001",
        kind="failover",
        region="east",
        incarnation="east-1",
        was_active=True,
        issued_by="west",
        epoch=SECOND,
        created_ms=UNIX_MS + 23_400,
        reason="the lease ran out",
        survivors=["west"],
        last_contact_ms=UNIX_MS + 19_690,
        ranges=[Range(log="east-1.events", partition=0, start=290, end=293, events=12)],
        remaining=[],
        state="confirmed_lost",
        timeline=Timeline(
            last_seen_ms=UNIX_MS + 20_000,
            lease_gone_ms=UNIX_MS + 23_000,
            acquired_ms=UNIX_MS + 23_200,
            serving_ms=UNIX_MS + 23_900,
        ),
    )
    return msgspec.structs.replace(made, **changes)


def verdict(**changes: Any) -> dict[str, Any]:
    """What `verdict.json` of that run holds."""
    checks = [
        {
            "check": "the drill tested something",
            "verdict": "valid",
            "sentence": "100.0% of 200 answered",
            "examples": [],
        },
        {"check": "nothing acknowledged is lost unlisted", "verdict": "valid", "sentence": "12 lost, all listed"},
    ]
    first = {
        "fault": 500,
        "cause": "wipe of east",
        "from_region": "east",
        "to_region": "west",
        "epoch": list(SECOND),
        "rto_seconds": 4.0,
        "lease_seconds": 3.0,
        "acquire_seconds": 0.2,
        "promotion_seconds": 0.7,
        "first_answer_seconds": 0.1,
        "bound_seconds": 6.1,
        "bounds": {"lease": 3.7, "acquire": 0.9, "promotion": 1.0, "first_answer": 0.5},
        "within": True,
        "why": "",
    }
    second = first | {
        "cause": "partition of west",
        "from_region": "west",
        "to_region": "east",
        "epoch": list(THIRD),
        "rto_seconds": 5.0,
        "lease_seconds": 3.5,
        "promotion_seconds": 1.2,
    }
    made: dict[str, Any] = {
        "rto_seconds": 4.0,
        "lease_seconds": 3.0,
        "acquire_seconds": 0.2,
        "promotion_seconds": 0.7,
        "first_answer_seconds": 0.1,
        "gap_seconds": 4.02,
        "heal_seconds": 3.0,
        "rpo_events": 12,
        "acknowledged": 250,
        "lost": 12,
        "lost_unlisted": 0,
        "last_contact_before_fault_seconds": 0.31,
        "counted_twice": 0,
        "digests_equal": True,
        "searches_ok": 900,
        "searches_failed": 154,
        "verdict": "valid",
        "drill": "double-failure",
        "backend": "process",
        "seed": 7,
        "sentence": "every check holds",
        "checks": checks,
        "parameters": PARAMETERS,
        "replay": "region-sim run double-failure --backend process --seed 7",
        "failovers": [first, second],
    }
    return made | changes


def write_run(directory: Path, entries: list[Entry] | None = None, **changes: Any) -> Path:
    """Write both files into a new directory, and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in (drilled() if entries is None else entries))
    (directory / "history.jsonl").write_bytes(lines)
    (directory / "verdict.json").write_bytes(msgspec.json.encode(verdict(**changes)))
    return directory
