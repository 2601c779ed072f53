"""The newest acknowledged events, within a bound, so that those that a region lost can be published again.

"Acknowledged" means durable in one region's log; a region that is lost with its disks takes what no other region had
copied yet, which is what the receipt lists. Each event is kept with where it was acknowledged last: once it has been
published again, another region holds it, and the receipt is none of its business any more."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from .answers import Coordinates
from .events import Event
from .receipts import Receipt


@dataclass(frozen=True, slots=True)
class AckedEvent:
    """An event, where it lies and when that was said."""

    event: Event
    coordinates: Coordinates
    acknowledged_ms: int


class AcknowledgedEvents:
    """At most `events_max`, newest last."""

    def __init__(self, events_max: int) -> None:
        self._events_max = events_max
        self._events: OrderedDict[tuple[str, str], AckedEvent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._events)

    def note(self, event: Event, coordinates: Coordinates, acknowledged_ms: int) -> None:
        """An acknowledgement came."""
        if self._events_max == 0:
            return
        self._events[event.key] = AckedEvent(event, coordinates, acknowledged_ms)
        self._events.move_to_end(event.key)
        if len(self._events) > self._events_max:
            self._events.popitem(last=False)

    def concerned(self, receipt: Receipt, *, include_unknown: bool) -> list[Event]:
        """Events that a receipt says are held by no survivor, oldest first."""
        wanted = ("affected", "unknown") if include_unknown else ("affected",)
        return [
            found.event
            for found in self._events.values()
            if receipt.effect_on(found.coordinates, found.acknowledged_ms) in wanted
        ]
