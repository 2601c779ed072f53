"""Traces on their way through the log: a frame holds events of many requests, a span belongs to one.

So a frame has a span of its own. Its parent is the request that asks for a ranking with it, or else the first traced
one whose events it holds; the others are links, and find the frame by a span of theirs that links back. The frame's
span is what its record's `traceparent` names: whoever reads the record, in any region, continues from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.common.tracing import Trace

LINKS_MAX: Final = 16
"""Requests that are remembered of one frame."""


class FrameTrace:
    """The spans of one frame that holds somebody's traced request."""

    def __init__(self, lead: Trace, others: Sequence[Trace]) -> None:
        self._lead = lead
        self._others = others
        self._span_id = lead.new_span_id()
        self._closed_at = lead.now()
        self._sent_at = self._acknowledged_at = self._closed_at

    def traceparent(self) -> str:
        """What the record's header says."""
        return self._lead.traceparent(self._span_id)

    def sent(self) -> None:
        """It was handed to Kafka's client."""
        self._sent_at = self._lead.now()

    def acknowledged(self) -> None:
        """The broker has it."""
        self._acknowledged_at = self._lead.now()

    def kept(self, log: str, partition: int, offset: int, events: int, closed_by: str) -> None:
        """The own disk knows that the broker has it: it is over."""
        lead, now = self._lead, self._lead.now()
        lead.add("kafka.acknowledge", self._sent_at, self._acknowledged_at, parent_id=self._span_id)
        lead.add("disk.keep", self._acknowledged_at, now, parent_id=self._span_id)
        place = f"{log}/{partition}/{offset}"
        lead.add(
            "frame",
            self._closed_at,
            now,
            span_id=self._span_id,
            kind="producer",
            links=[(other.trace_id, other.span_id) for other in self._others],
            position=place,
            events=events,
            closed_by=closed_by,
        )
        lead.findable(place)
        here = [(lead.trace_id, self._span_id)]
        for other in self._others:
            other.add("frame", self._closed_at, now, kind="producer", links=here, position=place)
            other.findable(place)

    def failed(self, cause: str) -> None:
        """It is not known to be kept."""
        for trace in (self._lead, *self._others):
            trace.add("frame", self._closed_at, kind="producer", error=cause)


class FrameTraces:
    """Which traces the open frames hold, and those of the frames in flight, by their number."""

    def __init__(self) -> None:
        self._open: dict[int, list[Trace]] = {}
        self._flying: dict[int, FrameTrace] = {}

    def joins(self, partition: int, trace: Trace) -> None:
        """The next event of this partition is part of a traced request."""
        if trace.recorded:
            riding = self._open.setdefault(partition, [])
            if len(riding) < LINKS_MAX and trace not in riding:
                riding.append(trace)

    def closed(self, partition: int, lead: Trace) -> FrameTrace | None:
        """The partition's frame closes, because of `lead` if that is a trace; None when it holds nobody's."""
        riding = self._open.pop(partition, None) or []
        if lead.recorded:
            return FrameTrace(lead, [trace for trace in riding if trace is not lead])
        return FrameTrace(riding[0], riding[1:]) if riding else None

    def flies(self, sequence: int, frame: FrameTrace | None) -> None:
        """A frame goes to Kafka's client under this number."""
        if frame is not None:
            frame.sent()
            self._flying[sequence] = frame

    def acknowledged(self, sequence: int) -> None:
        """The broker has it."""
        if sequence in self._flying:
            self._flying[sequence].acknowledged()

    def landed(self, sequence: int) -> FrameTrace | None:
        """It is over with this frame; None when it holds nobody's trace."""
        return self._flying.pop(sequence, None)
