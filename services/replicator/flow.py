"""One stretch of copying: from one source into one partition of a copy, until anything at all is not as expected.

A flow decides about each record that the source shows, and holds each delivery report against what it must be. It
never repairs: at the first irregularity it ends with the reason, sends nothing more, and whoever started it finds out
where the copy stands and begins another one. So every doubt takes the same road as a crash.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from services.replicator.positions import Bounds, CopyState, Place, shows
from streams.copies import HEADER_ORIGIN, hole_end, origin_of
from streams.position import Verdict


class Why(Enum):
    """Why a flow ended."""

    MOVED = "another source was chosen"
    DOUBT = "the source may have changed: it must show the last record again"
    TOO_FAR = "the reading began after the last record that is held"
    NOT_SHOWN = "the source shows another record where the last one that is held must be"
    NOT_THERE = "the source does not hold what comes next"
    REPLACED = "a record was written over what was there before"
    IS_COPY = "what should be an origin shows copied records"
    MALFORMED = "a record cannot be read"
    UNDELIVERED = "the own Kafka did not acknowledge a record"
    FOREIGN = "somebody else writes to the copy"
    LOST = "the copy lost records"


OWN_SIDE: Final = (Why.UNDELIVERED, Why.FOREIGN, Why.LOST)
"""Where the copy stands is not known any more: it is walked again."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a flow ended."""

    why: Why
    text: str
    offset: int = -1
    """Of the origin; where it happened, -1 when that says nothing."""
    leader_epoch: int = -1
    """The epoch that raised a doubt; -1 when it was something else."""


class Sent(NamedTuple):
    """A record on its way into the copy."""

    start: int
    end: int
    checksum: int
    leader_epoch: int
    is_hole: bool = False


class Flow:
    """Call `take` for each record of the source, `sent` before each is produced, `delivered` for each report."""

    def __init__(
        self,
        place: Place,
        state: CopyState,
        *,
        source: str,
        from_origin: bool,
        contact: int = 0,
        limit: int | None = None,
        bounds: Bounds | None = None,
        step_back: int = 0,
        must_show: bool = True,
        doubted_epoch: int = -1,
    ) -> None:
        self.place = place
        self.state = state
        self.source = source
        self.from_origin = from_origin
        self.contact = contact
        """Which uninterrupted contact with the source it belongs to."""
        self.limit = limit
        """First offset of the origin that must not be taken from this source."""
        self.step_back = step_back
        """How far before the expected place the reading of a copy begins."""
        self.ended: Ended | None = None
        self.next_offset = state.next_offset
        """Of the origin: the record that is taken next."""
        self.pending: deque[Sent] = deque()
        self.records = 0
        self.bytes = 0
        self._bounds = bounds or Bounds()
        last = state.last
        self._to_show = None if last is None or last.is_hole or not must_show else last
        self._located = from_origin
        self._leader_epoch: int | None = None
        self._doubted_epoch = doubted_epoch
        """The leader epoch for whose sake the last record is shown again: with that, the doubt is settled."""
        self._gap_at: int | None = None

    @property
    def start_offset(self) -> int:
        """Where in the source the reading begins."""
        wanted = self.next_offset if self._to_show is None else self._to_show.start
        return wanted if self.from_origin else max(0, wanted - self.step_back)

    @property
    def proved(self) -> bool:
        """Whether the source has shown the last record that is held (or none had to be shown)."""
        return self._to_show is None and self._located

    def end(self, why: Why, text: str = "", offset: int = -1, leader_epoch: int = -1) -> None:
        """Take nothing more; the first reason stays."""
        if self.ended is None:
            self.ended = Ended(why, text or why.value, offset, leader_epoch)

    def take(self, offset: int, leader_epoch: int, headers: Sequence[tuple[str, bytes]], checksum: int) -> Sent | None:
        """Decide about the record at `offset` of the source: what to send, or None to drop it."""
        if self.ended is not None:
            return None
        if self.from_origin:
            return self._take_original(offset, leader_epoch, headers, checksum)
        return self._take_copied(offset, headers, checksum)

    def _take_original(
        self, offset: int, leader_epoch: int, headers: Sequence[tuple[str, bytes]], checksum: int
    ) -> Sent | None:
        if headers and headers[-1][0] == HEADER_ORIGIN:
            self.end(Why.IS_COPY, f"{self.source} shows a copied record at {self._at(offset)}: it is no origin", offset)
            return None
        if self._to_show is not None:
            self._show(leader_epoch, offset, checksum)
            return None
        if offset < self.next_offset or (self.limit is not None and offset >= self.limit):
            return None
        if offset > self.next_offset:
            self.end(
                Why.NOT_THERE,
                f"{self._at(self.next_offset)} comes next, but {self.source} shows {offset}",
                self.next_offset,
            )
            return None
        if leader_epoch != self._leader_epoch and not self._follows(offset, leader_epoch):
            return None
        self.next_offset = offset + 1
        return Sent(offset, offset + 1, checksum, leader_epoch)

    def _follows(self, offset: int, leader_epoch: int) -> bool:
        """Whether a record of another leader epoch may be taken; ends the flow when it may not."""
        old_end = self._bounds.replaced_below(offset, leader_epoch)
        if old_end is not None:
            self.end(
                Why.REPLACED,
                f"{self.source} was seen to reach {self._at(old_end)}, but its record {offset} was written later, "
                f"under leader epoch {leader_epoch}: the log was cut at {offset} or before, and written again",
                offset,
            )
            return False
        if self._leader_epoch is not None and leader_epoch != self._doubted_epoch:
            text = f"the leader epoch of {self._at(offset)} became {leader_epoch}"
            self.end(Why.DOUBT, text, offset, leader_epoch)
            return False
        self._leader_epoch = leader_epoch
        return True

    def _show(self, leader_epoch: int, start: int, checksum: int) -> None:
        """Hold the record against the last one that is held. Nothing of it is sent."""
        last = self._to_show
        assert last is not None
        if shows(last, start, checksum):
            self._to_show = None
            if self.from_origin and leader_epoch == last.leader_epoch:
                self._leader_epoch = leader_epoch
            return
        shown = f"offset {start}" if start != last.start else f"checksum {checksum:016x}"
        self.end(
            Why.NOT_SHOWN,
            f"{self._at(last.start)} is held with checksum {last.checksum:016x}; {self.source} shows {shown} there",
            last.start,
        )

    def _at(self, offset: int) -> str:
        return f"{self.place[0]}/{self.place[1]}/{offset}"

    def _take_copied(self, offset: int, headers: Sequence[tuple[str, bytes]], checksum: int) -> Sent | None:
        try:
            origin, hole = origin_of(headers), hole_end(headers)
        except ValueError as error:
            origin, hole = None, None
            self.end(Why.MALFORMED, f"{self._at(offset)} of {self.source}: {error}")
        if origin is None:
            self.end(Why.MALFORMED, f"{self._at(offset)} of {self.source} does not say where it comes from")
            return None
        start, end = origin.offset, origin.offset + 1 if hole is None else hole
        if not self._found_place(start):
            return None
        if self._to_show is not None:
            if start >= self._to_show.start:
                self._show(origin.leader_epoch, start, checksum)
            return None
        if end <= self.next_offset:
            return None
        if start > self.next_offset:
            self._gap_at = self.next_offset
            return None
        record = Sent(start if hole is None else self.next_offset, end, checksum, origin.leader_epoch, hole is not None)
        self.next_offset = end
        self._gap_at = None
        return record

    def _found_place(self, start: int) -> bool:
        """Whether the reading of a copy began early enough; ends the flow when it did not."""
        wanted = self.next_offset if self._to_show is None else self._to_show.start
        if not self._located and start > wanted and self.start_offset > 0:
            self.end(Why.TOO_FAR, f"the reading began at {self._at(start)}, {wanted} is wanted", start)
            return False
        self._located = True
        return True

    def at_source_end(self) -> None:
        """The source has no more records now: what is missing will not come from it."""
        if self.from_origin:
            return
        if self._to_show is not None:
            self.end(Why.NOT_THERE, f"the copy of {self.source} does not hold {self._at(self._to_show.start)}")
        elif self._gap_at is not None:
            self.end(Why.NOT_THERE, f"the copy of {self.source} does not hold {self._at(self._gap_at)}", self._gap_at)

    def sent(self, record: Sent, value_bytes: int) -> bool:
        """A record is about to be handed to the producer; False when it may not be, because the flow has ended.

        Announced first and judged after: whoever ends a flow sees either that something is on its way, or that nothing
        will be. Otherwise a record of a flow that was taken for finished could follow those of the next one.
        """
        self.pending.append(record)
        if self.ended is not None:
            self.pending.pop()
            return False
        self.records += 1
        self.bytes += value_bytes
        return True

    def unsent(self) -> None:
        """The producer did not take the record that was last announced."""
        self.pending.pop()

    def delivered(self, error: str | None, copy_offset: int) -> bool:
        """A delivery report, in the order of sending; True when the copy has grown as it should."""
        record = self.pending.popleft()
        if self.ended is not None and self.ended.why in OWN_SIDE:
            return False
        if error is not None:
            self.end(Why.UNDELIVERED, f"{self.place[0]}/{self.place[1]}/{record.start}: {error}", record.start)
            return False
        if copy_offset != self.state.copy_end:
            why = Why.FOREIGN if copy_offset > self.state.copy_end else Why.LOST
            self.end(
                why,
                f"{self._at(record.start)} was delivered at {copy_offset} of the copy instead of "
                f"{self.state.copy_end}: {why.value}",
                record.start,
            )
            return False
        verdict = self.state.read(
            copy_offset, record.start, record.end, record.checksum, record.leader_epoch, is_hole=record.is_hole
        )
        assert verdict is Verdict.ACCEPTED, f"{self.place} sent {record} at {self.state.next_offset}"
        return True
