"""A partition at its origin and its copy, in memory: the replicator's core runs in it unchanged, one step at a time.

What a broker promises is modelled, and nothing more: an origin appends and may be cut; what a copier sent may be
written, refused, or written without the copier ever hearing of it; two copiers may write at once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from services.replicator.checkpoint import state_of
from services.replicator.control import Act, PartitionControl
from services.replicator.flow import Flow, Sent
from services.replicator.positions import CopyState, Last
from services.replicator.settings import ReplicatorSettings
from services.replicator.sources import Holder, OriginShown
from services.replicator.walk import Walk
from streams.copies import Origin, hole_headers, origin_header
from streams.logs import record_checksum
from streams.truncation import LogEnd

PLACE = ("east-1.events", 0)
SETTINGS = ReplicatorSettings()


@dataclass(frozen=True)
class Written:
    """A record of the origin."""

    value: bytes
    leader_epoch: int


@dataclass(frozen=True)
class FakeMessage:
    """What a walk is shown."""

    at: int
    pairs: list[tuple[str, bytes]]
    raw: bytes

    def offset(self) -> int:
        return self.at

    def headers(self) -> list[tuple[str, bytes]]:
        return self.pairs

    def value(self) -> bytes:
        return self.raw


@dataclass
class OriginLog:
    """The log at its origin."""

    records: list[Written] = field(default_factory=list)
    low: int = 0
    leader_epoch: int = 0
    first_values: list[bytes] = field(default_factory=list)
    """By offset: what was acknowledged there first."""
    written: int = 0

    def append(self, count: int) -> None:
        """Acknowledge new records."""
        for _ in range(count):
            value = b"record %d" % self.written
            self.written += 1
            if len(self.records) == len(self.first_values):
                self.first_values.append(value)
            self.records.append(Written(value, self.leader_epoch))

    def cut(self, count: int) -> None:
        """Lose the last records, as a power loss does; the broker comes back as leader of a new epoch."""
        del self.records[max(self.low, len(self.records) - count) :]
        self.leader_epoch += 1

    def end(self) -> LogEnd:
        """What it says where it ends."""
        return LogEnd(len(self.records), self.leader_epoch)


@dataclass
class CopyLog:
    """The copy, as its broker holds it."""

    records: list[tuple[list[tuple[str, bytes]], bytes, int, int]] = field(default_factory=list)
    """Headers, value, and what it stands for."""

    def append(self, sent: Sent, value: bytes) -> int:
        """Write a copied record; returns where it stands."""
        self.records.append(([origin_header(Origin(sent.start, sent.leader_epoch))], value, sent.start, sent.end))
        return len(self.records) - 1

    def append_hole(self, start: int, end: int) -> None:
        """Write a hole."""
        self.records.append((hole_headers(start, end), b"", start, end))

    def prefix(self) -> list[bytes]:
        """What a reader takes, by the reader rule; a hole gives nothing."""
        taken, following = [], 0
        for _, value, start, end in self.records:
            if start <= following < end:
                if end == start + 1:
                    taken.append(value)
                following = end
        return taken


class Copier:
    """One replicator's work on the partition."""

    def __init__(self, origin: OriginLog, copy: CopyLog, known: Last | None = None, now: float = 0.0) -> None:
        self.origin, self.copy, self.now = origin, copy, now
        self.control = PartitionControl(PLACE, SETTINGS)
        self.control.known = state_of(known, {})
        self.queue: deque[tuple[Flow, Sent, bytes]] = deque()
        """Sent and not yet written."""
        self.read_at = 0
        self.contact = 1

    def poll(self) -> None:
        """The origin is asked where it ends."""
        self.control.saw_end(self.origin.end(), self.now)

    def step(self) -> Act:
        """One decision, carried out."""
        self.now += 0.3
        holder = Holder("east", is_origin=True, end=len(self.origin.records))
        act = self.control.step(self.now, [holder], None)
        if act is Act.WALK:
            self._walk()
        elif act is Act.ATTACH:
            self.read_at = self.control.new_flow(self.contact, None).start_offset
        elif act is Act.INSPECT:
            self.control.inspected(OriginShown(self.origin.low, len(self.origin.records)), self.now)
        return act

    def carry(self, count: int) -> None:
        """Read up to `count` records from the origin and send them."""
        for _ in range(count):
            flow = self.control.flow
            if flow is None or flow.ended is not None:
                return
            if not self.origin.low <= self.read_at <= len(self.origin.records):
                from services.replicator.flow import Why

                flow.end(Why.NOT_THERE, "out of range")
                return
            if self.read_at == len(self.origin.records):
                return
            record = self.origin.records[self.read_at]
            sent = flow.take(self.read_at, record.leader_epoch, [], record_checksum(record.value))
            self.read_at += 1
            if sent is not None:
                flow.sent(sent, len(record.value))
                self.queue.append((flow, sent, record.value))

    def deliver(self, count: int, *, is_reported: bool = True) -> None:
        """The own broker writes what was sent, in order, and reports it unless the reports are lost."""
        for _ in range(min(count, len(self.queue))):
            flow, sent, value = self.queue.popleft()
            where = self.copy.append(sent, value)
            if is_reported:
                flow.delivered(None, where)

    def refuse(self) -> None:
        """The own broker is away for too long: everything that was sent is given up."""
        while self.queue:
            flow, _, _ = self.queue.popleft()
            flow.delivered("timed out", -1)

    def _walk(self) -> None:
        walk = Walk(PLACE, self.control.known, len(self.copy.records), 0)
        at = walk.start_offset
        while not walk.done:
            headers, value, _, _ = self.copy.records[at]
            again = not walk.take(FakeMessage(at, headers, value))  # type: ignore[arg-type]
            at = walk.start_offset if again else at + 1
        self.control.walked(walk.state, walk.lost, walk.problem, self.now)

    def checkpoint(self) -> Last | None:
        """What a crash leaves."""
        state: CopyState | None = self.control.state
        return state.last if state else None

    def settle(self, rounds: int = 60) -> None:
        """Let it run undisturbed until nothing changes any more."""
        for _ in range(rounds):
            self.poll()
            self.step()
            self.carry(1000)
            self.deliver(1000)
            self._look_at_own()

    def _look_at_own(self) -> None:
        state = self.control.state
        if self.control.is_walked and state is not None and not self.queue and state.copy_end != len(self.copy.records):
            self.control.own_end_differs(len(self.copy.records), self.now)
