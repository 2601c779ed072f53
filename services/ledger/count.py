"""What the raw log holds, and whether every acknowledged event is among it.

Loss: an acknowledged event that does not lie, with its identity, where it was (once) acknowledged. Looking for it
elsewhere would excuse a region that acknowledged the wrong place. Double counting is found by comparing two numbers
that are made independently: distinct identities here, events taken according to the fold there."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from services.ledger.acks import Ack
from services.ledger.identity import identity_of
from services.ledger.rawlog import RawRecord
from streams.errors import FrameCorrupt
from streams.frame import Columns, decode_frame
from streams.kinds import Kind

EXAMPLES_MAX = 10
EventKey = tuple[str, str, int, str]
"""(source, id, time, kind)."""
Place = tuple[str, int]
"""(log, partition)."""


class LogCount(msgspec.Struct, frozen=True, kw_only=True):
    """The log below a frontier, and the acknowledgements held against all of the log."""

    frames: int
    corrupt_frames: int
    rows: int
    """Events as often as they were written."""
    distinct_events: int
    """Distinct identities without catalogue entries."""
    distinct_items: int
    """Distinct identities of catalogue entries."""
    item_rows: int
    """Catalogue entries as often as they were written: the newest replaces, so none can count twice."""
    distinct_by_kind: dict[str, int]
    acknowledged: int
    """Distinct acknowledged events."""
    lost: int
    lost_examples: list[str]


class LogCounter:
    """Takes the records of some logs, in any order of logs and partitions."""

    def __init__(self, logs: Collection[str], acks: Iterable[Ack]) -> None:
        self._wanted: dict[tuple[str, int, int], list[Ack]] = defaultdict(list)
        self._promised: dict[EventKey, str] = {}
        """Each acknowledged event, and why it counts as lost until it is found."""
        for ack in acks:
            key = key_of(ack)
            self._promised[key] = "its record is not in the log"
            if ack.log in logs:
                self._wanted[ack.log, ack.partition, ack.offset].append(ack)
            else:
                self._promised[key] = f"it was acknowledged in {ack.log}, which was not read"
        self._places = {key_of(ack): ack for acks_here in self._wanted.values() for ack in acks_here}
        self._ids: list[npt.NDArray[np.uint64]] = []
        self._kinds: list[npt.NDArray[np.uint8]] = []
        self._frames = self._corrupt = 0
        self._found: set[EventKey] = set()

    def newest_acknowledged(self) -> dict[Place, int]:
        """By log and partition, the next offset that covers every acknowledged event."""
        covering: dict[Place, int] = {}
        for log, partition, offset in self._wanted:
            covering[log, partition] = max(covering.get((log, partition), 0), offset + 1)
        return covering

    def missing(self) -> set[EventKey]:
        """The acknowledged events that were not found so far."""
        return self._promised.keys() - self._found

    def take(self, record: RawRecord, *, counted: bool = True) -> None:
        """Look at one record. Beyond the frontier it is not `counted`: it can only clear acknowledgements."""
        acks = self._wanted.get((record.log, record.partition, record.offset), ())
        try:
            columns = decode_frame(record.value, record.headers)
        except FrameCorrupt as error:
            self._corrupt += counted
            for ack in acks:
                self._miss(ack, f"its record cannot be read: {error}")
            return
        if counted:
            self._frames += 1
            self._ids.append(np.array(columns.ids, np.uint64))
            self._kinds.append(np.array(columns.kind, np.uint8))
        for ack in acks:
            reason = mismatch(ack, columns)
            if reason is None:
                self._found.add(key_of(ack))
            else:
                self._miss(ack, reason)

    def result(self) -> LogCount:
        """The counts so far."""
        ids = np.concatenate(self._ids) if self._ids else np.empty((0, 2), np.uint64)
        kinds = np.concatenate(self._kinds) if self._kinds else np.empty(0, np.uint8)
        _, first = np.unique(ids, axis=0, return_index=True)
        by_kind = Counter(Kind(int(kind)).word for kind in kinds[first])
        lost = [key for key in self._promised if key not in self._found]
        return LogCount(
            frames=self._frames,
            corrupt_frames=self._corrupt,
            rows=len(ids),
            distinct_events=len(first) - by_kind["item"],
            distinct_items=by_kind["item"],
            item_rows=int((kinds == Kind.ITEM).sum()),
            distinct_by_kind=dict(sorted(by_kind.items())),
            acknowledged=len(self._promised),
            lost=len(lost),
            lost_examples=[self._describe(key) for key in lost[:EXAMPLES_MAX]],
        )

    def _miss(self, ack: Ack, reason: str) -> None:
        self._promised[key_of(ack)] = reason

    def _describe(self, key: EventKey) -> str:
        ack = self._places.get(key)
        where = f" at {ack.log}/{ack.partition}/{ack.offset}[{ack.index}]" if ack else ""
        return f"{key[3]} {key[1]!r} of {key[0]}{where}: {self._promised[key]}"


def mismatch(ack: Ack, columns: Columns) -> str | None:
    """Why the frame at an acknowledged place does not hold the event; None when it does."""
    if ack.index >= columns.count:
        return f"its frame holds only {columns.count} events"
    row = columns.row(ack.index)
    said = (ack.kind, ack.time_ms, ack.query, ack.item)
    found = (row.kind.word, row.time_ms, row.query, row.item)
    if said != found:
        return f"another event lies there: {found} instead of {said}"
    if row.identity != identity_of(ack.source, ack.id, row):
        return "what lies there has another identity"
    return None


def key_of(ack: Ack) -> EventKey:
    """What makes an event the same one, however often and wherever it was acknowledged."""
    return (ack.source, ack.id, ack.time_ms, ack.kind)
