"""How far other regions hold this gateway's log, and how much they do not hold yet.

Each replicator reports, per partition, the next offset below which everything is acknowledged by its own Kafka. Such a
watermark belongs to one life of the reporting region: a new life starts without any, and a report that an earlier life
left on the way counts for nothing. Within a life the newest report holds, also one that goes back: a copier that found
its copy damaged holds less than it said.

What lies above a watermark is told in events and seconds, from what was acknowledged since this process started. What
it cannot know (records from before, or records whose acknowledgement never came) it does not guess: None. Pure: time is
an argument, in seconds that never go back.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

RECORDS_KEPT_MAX: Final = 1 << 16
"""Records of a partition whose event counts are kept; a peer that is further behind is told "unknown"."""


class _Written:
    """The records of one partition that were acknowledged here: offset, events in all up to it, and when."""

    def __init__(self, end: int) -> None:
        self.end = end
        """Next offset after the last acknowledged record."""
        self._start = end
        """From here on every record's event count is known."""
        self._offsets = array("q")
        self._events_before = array("q")
        self._times = array("d")
        self._events = 0

    def add(self, offset: int, events: int, now: float) -> None:
        if offset > self.end:
            # Records in between were written without an acknowledgement: nobody here knows what is in them.
            self._forget(len(self._offsets), offset)
        self._offsets.append(offset)
        self._events_before.append(self._events)
        self._times.append(now)
        self._events += events
        self.end = offset + 1
        if len(self._offsets) > RECORDS_KEPT_MAX:
            self._forget(RECORDS_KEPT_MAX // 2, self._offsets[RECORDS_KEPT_MAX // 2])

    def forget_below(self, held: int) -> None:
        """Everybody holds what is below: let it go, now and then."""
        count = bisect_left(self._offsets, held)
        if count * 2 > len(self._offsets) and count > 256:
            self._forget(count, self._offsets[count] if count < len(self._offsets) else self.end)

    def events_from(self, held: int) -> int | None:
        if held >= self.end:
            return 0
        if held < self._start:
            return None
        return self._events - self._events_before[bisect_left(self._offsets, held)]

    def waiting_since(self, held: int) -> float | None:
        """When the oldest record from `held` on was acknowledged; None when there is none, or that is not known."""
        if held >= self.end or held < self._start:
            return None
        return self._times[bisect_left(self._offsets, held)]

    def _forget(self, count: int, start: int) -> None:
        del self._offsets[:count], self._events_before[:count], self._times[:count]
        self._start = start


@dataclass(slots=True)
class Peer:
    """What one region reported last."""

    region: str
    number: int
    """Of its life: the 2 of `west-2`."""
    reported_at: float
    held: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lag:
    """What the best peer does not hold. Events are None when there are more than this process can tell."""

    events: int | None
    seconds: float


class StaleLife(Exception):
    """The report is from a life of the region that is over."""


class Watermarks:
    """The ends of one log, here and as reported by every peer."""

    def __init__(self, log: str, ends: Mapping[int, int], fresh_seconds: float, now: float) -> None:
        self.log = log
        self._fresh_seconds = fresh_seconds
        self._began = now
        self._written = {partition: _Written(end) for partition, end in ends.items()}
        self._peers: dict[str, Peer] = {}

    def acknowledged(self, partition: int, offset: int, events: int, now: float) -> None:
        """A record of this log was acknowledged by the own Kafka."""
        self._of(partition).add(offset, events, now)

    def report(self, region: str, incarnation: str, held: Mapping[int, int], now: float) -> None:
        """Take note of a report. Raises StaleLife."""
        number = int(incarnation.rpartition("-")[2])
        peer = self._peers.get(region)
        if peer is not None and number < peer.number:
            raise StaleLife(f"{region} is in its life number {peer.number}; {incarnation} is over")
        if peer is None or number > peer.number:
            peer = self._peers[region] = Peer(region, number, now)
        peer.reported_at = now
        peer.held.update(held)
        for partition, written in self._written.items():
            written.forget_below(min(one.held.get(partition, 0) for one in self._peers.values()))

    def end(self, partition: int) -> int:
        """Next offset after the last record that was acknowledged, or found at the start."""
        return self._of(partition).end

    def events_after(self, partition: int, held: int) -> int | None:
        """Events from `held` on that were acknowledged; None when that is not known."""
        return self._of(partition).events_from(held)

    def fresh(self, now: float) -> list[Peer]:
        """The peers that reported lately."""
        return [peer for peer in self._peers.values() if now - peer.reported_at < self._fresh_seconds]

    def uncovered(self, places: Iterable[tuple[int, int]], now: float) -> list[tuple[int, int]]:
        """Those (partition, offset) that no peer is known, from a report of late, to hold."""
        peers = self.fresh(now)
        return [
            (partition, offset)
            for partition, offset in places
            if not any(peer.held.get(partition, 0) > offset for peer in peers)
        ]

    def lag(self, now: float) -> Lag:
        """What the best peer lacks, by its last report however old: nobody else holds it for certain."""
        lags = [self._lag(peer.held, now) for peer in self._peers.values()] or [self._lag({}, now)]
        return min(lags, key=lambda lag: (lag.events is None, lag.events or 0))

    def _lag(self, held: Mapping[int, int], now: float) -> Lag:
        events: int | None = 0
        since = now
        for partition, written in self._written.items():
            mark = held.get(partition, 0)
            missing = written.events_from(mark)
            if missing is None:
                events, since = None, min(since, self._began)
                continue
            events = None if events is None else events + missing
            waiting = written.waiting_since(mark)
            since = since if waiting is None else min(since, waiting)
        return Lag(events, now - since)

    def _of(self, partition: int) -> _Written:
        found = self._written.get(partition)
        if found is None:
            found = self._written[partition] = _Written(0)
        return found
