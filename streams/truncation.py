"""A log that ends before what was already read from it: noticed before anything after the cut is taken.

Kafka acknowledges from the page cache. After a power loss, an unclean election or a lost directory a log can end
*before* acknowledged records, under the same cluster id, and new records take the same offsets. A consumer that
resumes by offset alone then skips what was replaced, without an error. So three things are watched, per partition:

* the **leader epoch** of every batch, as the broker stamped it. A record of another epoch than the last confirmed one
  is not taken before the log has shown the record just below the frontier, with the checksum it had;
* **silence**: when the broker did not answer fetches for a while, it may have been another life of it, so the same
  proof is asked for, whatever the epoch says (a wiped and rebuilt broker starts its epochs again);
* the **end of the log**, once a second: one that lies below the frontier is a cut even if nothing was written since.

aiokafka knows no leader epochs (its fetches cannot be fenced), so they are read from the headers of the batches that
it fetched. The alternative, a pause after each reconnect, only makes the skip less likely.

A **copy** is another matter. Its records say themselves which ones they are, so nothing can take another's offset, and
whoever copies refills what was lost. A copy that is too short is a notice; only one that shows *another* record under
the same origin offset is refused, alone, while all other logs go on.
"""

import asyncio
import struct
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from streams.errors import LogTruncated, StreamError

Place = tuple[str, int]
"""(log, partition)."""

_BATCH_HEADER: Final = struct.Struct(">qiib")
"""Base offset, length, partition leader epoch, magic: the start of a record batch of format 2."""
_BATCH_MAGIC: Final = 2
_BATCH_PREFIX_BYTES: Final = 12
_EPOCHS_KEPT_MAX: Final = 64


class EpochUnknownError(StreamError):
    """A record came whose leader epoch nobody noted, so a cut before it could not be told."""


class LogUnreachableError(StreamError):
    """The broker did not answer; whether the log is whole is not known. Try again."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The last record that was taken from a partition: all that a cut can be told from."""

    next_offset: int
    checksum: int
    leader_epoch: int


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where a partition ends now, and under which leader epoch."""

    next_offset: int
    leader_epoch: int


class LogProbe(Protocol):
    """What is asked of the broker. Both block, and raise LogUnreachableError without an answer."""

    def ends(self, places: Iterable[Place]) -> dict[Place, LogEnd]:
        """The end of each partition that the broker knows."""

    def checksum_at(self, place: Place, offset: int) -> int | None:
        """Checksum of the record that has (or had) `offset` in the origin log, None when the log does not hold it."""


def batch_epochs(fetched: bytes) -> Iterator[tuple[int, int]]:
    """(base offset, leader epoch) of each batch in the bytes that a fetch returned; the last may be cut short."""
    at = 0
    while at + _BATCH_HEADER.size <= len(fetched):
        base_offset, length, leader_epoch, magic = _BATCH_HEADER.unpack_from(fetched, at)
        if magic != _BATCH_MAGIC or length <= 0:
            return
        yield base_offset, leader_epoch
        at += _BATCH_PREFIX_BYTES + length


class EpochsSeen:
    """Which leader epoch each fetched offset was written under, and how often the broker fell silent.

    Written by the thread that fetches, read by the event loop: ranges are replaced whole, never changed.
    """

    def __init__(self, silence_seconds: float) -> None:
        self._silence_seconds = silence_seconds
        self._ranges: dict[Place, tuple[tuple[int, int], ...]] = {}
        self.last_answer_seconds: float | None = None
        """When a fetch was last answered, by the clock that `answered` is called with."""
        self.silences = 0
        """How often the broker did not answer a fetch for longer than `silence_seconds`."""

    def answered(self, now_seconds: float) -> None:
        """A fetch was answered at `now_seconds` of a monotonic clock. Call it before the records are handed on."""
        last = self.last_answer_seconds
        if last is not None and now_seconds - last >= self._silence_seconds:
            self.silences += 1
        self.last_answer_seconds = now_seconds

    def fetched(self, place: Place, fetched: bytes) -> None:
        """Note the epochs of the batches in `fetched`. Call it before the records are handed on."""
        for base_offset, leader_epoch in batch_epochs(fetched):
            ranges = self._ranges.get(place, ())
            if ranges and ranges[-1][1] == leader_epoch and ranges[-1][0] <= base_offset:
                continue
            kept = tuple(entry for entry in ranges if entry[0] < base_offset)
            self._ranges[place] = (*kept, (base_offset, leader_epoch))[-_EPOCHS_KEPT_MAX:]

    def epoch_of(self, place: Place, offset: int) -> int | None:
        """The leader epoch of a fetched record; None when it was never fetched here."""
        ranges = self._ranges.get(place, ())
        index = bisect_right(ranges, offset, key=lambda entry: entry[0])
        return ranges[index - 1][1] if index else None


def cut_blocker(place: Place, mark: Mark, end: LogEnd) -> str | None:
    """Why the log cannot be the one that was read so far, judged by its end alone; None when it can."""
    if end.next_offset < mark.next_offset:
        return (
            f"{place[0]}/{place[1]} ends at offset {end.next_offset}, but everything below {mark.next_offset} "
            f"was already read from it: {mark.next_offset - end.next_offset} records are gone"
        )
    return None


def replaced_blocker(place: Place, mark: Mark, checksum: int | None) -> str | None:
    """Why the record just below the frontier is not the one that was read; None when it is."""
    if checksum == mark.checksum:
        return None
    shown = "is not there any more" if checksum is None else f"now has checksum {checksum:016x}"
    return (
        f"the record at {place[0]}/{place[1]}/{mark.next_offset - 1} {shown}; "
        f"checksum {mark.checksum:016x} was read there: the log was cut and written again"
    )


LOOK_AGAIN_SECONDS: Final = 0.25
LOOKS_BEFORE_ALARM: Final = 12
"""A broker that has just come back may not know at once how far its log reaches; a cut does not heal. So 3 s long a
missing record is looked for again before it is an alarm. Nothing is taken meanwhile."""

REMEDY: Final = (
    "Nothing after it was taken, and no snapshot will be written. Do not restart this incarnation: seal it, list the "
    "cut, and open the next one (docs/operating/truncation.md)."
)


class Watch:
    """Holds the marks of a reader against the log. `marks` reads them from the state, the only truth."""

    def __init__(
        self,
        probe: LogProbe,
        seen: EpochsSeen,
        marks: Callable[[], Mapping[Place, Mark]],
        on_cut: Callable[[LogTruncated], None],
        *,
        sleep: Callable[[float], Awaitable[None]],
        places: Sequence[Place] = (),
        is_copy: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._probe = probe
        self._sleep = sleep
        self.places = tuple(places)
        """What is looked at even where nothing was taken from it yet."""
        self._is_copy = is_copy
        self._seen = seen
        self._marks = marks
        self._on_cut = on_cut
        self._confirmed: dict[Place, int] = {}
        self._silences_confirmed = 0
        self.ends: dict[Place, LogEnd] = {}
        """As last looked at: of all `places`, and of all that have a mark."""
        self.cut: LogTruncated | None = None
        self.proofs = 0
        """How often the log was made to show its records."""
        self.refilling: dict[Place, str] = {}
        """Copies that do not hold what was taken from them: whoever copies will bring it again."""
        self.refused: dict[Place, str] = {}
        """Copies that show another record than the one that was taken: nothing is taken from them."""

    def doubt(self, place: Place, offset: int) -> str | None:
        """Why the record at `offset` may not be taken before `prove`; None when it may."""
        if self.cut is not None:
            return str(self.cut)
        if self._silences_confirmed != self._seen.silences:
            return "the broker was silent for a while"
        mark = self._marks().get(place)
        if mark is None or mark.next_offset == 0:
            return None
        epoch = self._seen.epoch_of(place, offset)
        if epoch is None:
            return "the leader epoch of the record is not known"
        if epoch != self._confirmed.get(place, mark.leader_epoch):
            return f"the leader epoch is {epoch}, the last record was taken under another"
        return None

    def refuses(self, place: Place) -> bool:
        """Whether nothing may be taken from this partition, while others go on."""
        return place in self.refused

    async def prove(self, place: Place, offset: int) -> None:
        """Make the log show the last records that were taken from it. Raises as `look` does, and EpochUnknownError."""
        silences = self._seen.silences
        epoch = self._seen.epoch_of(place, offset)
        if epoch is None:
            raise EpochUnknownError(
                f"the leader epoch of {place[0]}/{place[1]}/{offset} was not seen when it was fetched; this is a bug, "
                "or the log holds batches of an old format"
            )
        everywhere = silences != self._silences_confirmed
        marks = self._marks()
        wanted = marks if everywhere else {place: marks[place]}
        await self._hold(wanted, lambda _place, _mark, _end: True)
        self._silences_confirmed = silences
        self._confirmed[place] = epoch

    async def look(self) -> None:
        """One round of the watchdog. Raises LogTruncated, LogUnreachableError."""
        await self._hold(
            self._marks(),
            lambda place, mark, end: end.leader_epoch != self._epoch(place, mark),
        )

    def _epoch(self, place: Place, mark: Mark) -> int:
        return self._confirmed.get(place, mark.leader_epoch)

    async def _hold(
        self,
        marks: Mapping[Place, Mark],
        must_show: Callable[[Place, Mark, LogEnd], bool],
    ) -> None:
        marks = {place: mark for place, mark in marks.items() if mark.next_offset > 0}
        if self.cut is not None:
            raise self.cut
        if not marks and not self.places:
            return
        for _ in range(LOOKS_BEFORE_ALARM):
            blocker, final = await self._compare(marks, must_show)
            if blocker is None:
                return
            if final:
                break
            await self._sleep(LOOK_AGAIN_SECONDS)
        self._alarm(blocker or "")

    async def _compare(
        self,
        marks: Mapping[Place, Mark],
        must_show: Callable[[Place, Mark, LogEnd], bool],
    ) -> tuple[str | None, bool]:
        """What speaks against the log, and whether that can still change: another record in its place cannot."""
        ends = await asyncio.to_thread(self._probe.ends, {*marks, *self.places})
        self.ends.update(ends)
        for place, mark in marks.items():
            end = ends.get(place)
            if self._is_copy(place[0]):
                await self._compare_copy(place, mark, end, must_show)
                continue
            if end is None:
                raise LogUnreachableError(f"the broker does not know {place[0]}/{place[1]}")
            blocker = cut_blocker(place, mark, end)
            if blocker is not None:
                return blocker, False
            if must_show(place, mark, end):
                self.proofs += 1
                shown = await asyncio.to_thread(self._probe.checksum_at, place, mark.next_offset - 1)
                blocker = replaced_blocker(place, mark, shown)
                if blocker is not None:
                    return blocker, shown is not None
            self._confirmed[place] = max(end.leader_epoch, self._epoch(place, mark))
        return None, False

    async def _compare_copy(
        self,
        place: Place,
        mark: Mark,
        end: LogEnd | None,
        must_show: Callable[[Place, Mark, LogEnd], bool],
    ) -> None:
        if end is None or end.next_offset == 0:
            self.refilling[place] = f"{place[0]}/{place[1]} is empty; {mark.next_offset} records were read from it"
            return
        if place not in self.refilling and end.next_offset >= mark.next_offset and not must_show(place, mark, end):
            return
        self.proofs += 1
        shown = await asyncio.to_thread(self._probe.checksum_at, place, mark.next_offset - 1)
        self.refilling.pop(place, None)
        self.refused.pop(place, None)
        if shown is None:
            self.refilling[place] = (
                f"{place[0]}/{place[1]} holds {end.next_offset} records, everything below {mark.next_offset} was read "
                "from it: it is being copied again"
            )
        elif shown != mark.checksum:
            self.refused[place] = replaced_blocker(place, mark, shown) or ""
        self._confirmed[place] = max(end.leader_epoch, self._epoch(place, mark))

    def _alarm(self, blocker: str) -> None:
        self.cut = LogTruncated(f"{blocker}. {REMEDY}")
        self._on_cut(self.cut)
        raise self.cut
