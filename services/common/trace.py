"""One request as one process sees it: its ids, what is known of it, and the spans that it leaves behind.

It crosses processes as text (`traceparent`): in an HTTP header, in a header of a frame, in an ask; never by a context
variable, because a record is read by another thread than the one that answers it. Inside one task it is the current
one, for log lines and for whatever calls further.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, cast

import msgspec

from services.common.clock import random_bytes
from services.common.logging import current_request
from services.common.spans import Link, Span, SpanKind, Value
from services.common.trace_context import TraceContext

SPANS_MAX: Final = 64
"""Of one request in one process; what comes after is left out."""
ERROR_CHARACTERS_MAX: Final = 300
"""Of a failure's words; spans stay in memory."""


class Keeps(Protocol):
    """Who takes the spans; the process's tracer."""

    @property
    def now(self) -> Callable[[], float]:
        """Monotonic seconds."""

    @property
    def unix_us(self) -> Callable[[], int]:
        """Wall time."""

    def over(self, trace: Trace, stretch: Stretch) -> None:
        """A span of a recorded trace is over."""

    def ended(self, trace: Trace, name: str, seconds: float) -> None:
        """A request is over."""


class Stretch(msgspec.Struct, frozen=True, gc=False):
    """A span as it is kept until somebody asks: the least that must be done while a request waits."""

    name: str
    span_id: str
    parent_id: str
    began: float
    ended: float
    kind: SpanKind
    error: str
    links: Sequence[Link]
    attributes: dict[str, Value]


class Trace:
    """One request in this process. Times are seconds on the tracer's monotonic clock."""

    __slots__ = (
        "_anchor_us",
        "_tracer",
        "began",
        "calling",
        "facts",
        "keys",
        "parent_id",
        "recorded",
        "sampled",
        "span_id",
        "state",
        "stretches",
        "trace_id",
    )

    def __init__(self, tracer: Keeps, context: TraceContext, *, parent_id: str, recorded: bool, state: str) -> None:
        self._tracer = tracer
        self.trace_id = context.trace_id
        self.span_id = context.span_id
        """Of the span that stands for the whole request here."""
        self.parent_id = parent_id
        self.sampled = context.sampled
        self.recorded = recorded
        self.state = state
        self.began = tracer.now()
        self.calling = ""
        """The span under which others are called now; empty: the whole request."""
        self.facts: dict[str, Value] = {}
        self.keys: tuple[str, ...] = ()
        """What the request can be found by besides its trace id; stays in this process."""
        self.stretches: list[Stretch] = []
        """Its spans that are over."""
        self._anchor_us = tracer.unix_us() - int(self.began * 1e6) if recorded else 0

    @property
    def began_us(self) -> int:
        """When it began, Unix microseconds."""
        return self._anchor_us + int(self.began * 1e6)

    def now(self) -> float:
        """Return the time."""
        return self._tracer.now()

    @staticmethod
    def new_span_id() -> str:
        """Return an id for a span that others are called under before it is over."""
        return new_span_id()

    def traceparent(self, span_id: str = "") -> str:
        """Return what to pass on: `span_id` (or what calls now) becomes the parent; empty where there is no trace."""
        if not self.trace_id:
            return ""
        return TraceContext(self.trace_id, span_id or self.calling or self.span_id, sampled=self.sampled).header()

    def passed_on(self) -> str:
        """Return what other processes are told: nothing, unless they should record something."""
        return self.traceparent() if self.recorded else ""

    def note(self, **facts: Value) -> None:
        """Say more about the request as a whole: on its span, and on log lines where those list the fact."""
        if self.trace_id:
            self.facts.update(facts)

    def findable(self, *keys: str) -> None:
        """Let the request be found by these."""
        if self.recorded:
            self.keys = (*self.keys, *keys)

    def add(
        self,
        name: str,
        began: float,
        ended: float | None = None,
        *,
        span_id: str = "",
        parent_id: str | None = None,
        kind: SpanKind = "internal",
        error: str = "",
        links: Sequence[Link] = (),
        **attributes: Value,
    ) -> str:
        """Keep a span that is over (now, unless `ended` says when); returns its id."""
        if not self.recorded:
            return ""
        span_id = span_id or new_span_id()
        tracer = self._tracer
        ended = tracer.now() if ended is None else ended
        parent_id = self.span_id if parent_id is None else parent_id
        self._keep(Stretch(name, span_id, parent_id, began, ended, kind, error, links, attributes))
        return span_id

    @contextmanager
    def step(self, name: str, *, kind: SpanKind = "internal", **attributes: Value) -> Iterator[None]:
        """Keep the block as a span, and call others under it."""
        if not self.recorded:
            yield
            return
        began, before, self.calling = self.now(), self.calling, new_span_id()
        error = ""
        try:
            yield
        except BaseException as problem:
            error = str(problem)[:ERROR_CHARACTERS_MAX] or type(problem).__name__
            raise
        finally:
            span_id, self.calling = self.calling, before
            parent_id = before or self.span_id
            self._keep(Stretch(name, span_id, parent_id, began, self.now(), kind, error, (), attributes))

    def end(self, name: str, *, kind: SpanKind, error: str = "", **attributes: Value) -> None:
        """Keep the span of the whole request; a slow one is also written to the log."""
        if not self.recorded:
            return
        ended = self.now()
        facts: dict[str, Value] = {**self.facts, **attributes}
        self._keep(Stretch(name, self.span_id, self.parent_id, self.began, ended, kind, error, (), facts))
        self._tracer.ended(self, name, ended - self.began)

    def spans(self) -> Iterator[Span]:
        """Yield its spans in full."""
        return map(self.span, self.stretches)

    def span(self, kept: Stretch) -> Span:
        """Return one in full."""
        return Span(
            trace_id=self.trace_id,
            span_id=kept.span_id,
            parent_id=kept.parent_id,
            name=kept.name,
            began_us=self._anchor_us + int(kept.began * 1e6),
            lasted_us=max(0, int((kept.ended - kept.began) * 1e6)),
            kind=kept.kind,
            sampled=self.sampled,
            error=kept.error,
            attributes=kept.attributes,
            links=list(kept.links),
            state=self.state,
        )

    def _keep(self, stretch: Stretch) -> None:
        if len(self.stretches) < SPANS_MAX:
            self.stretches.append(stretch)
            self._tracer.over(self, stretch)

    def log_fields(self) -> Mapping[str, object]:
        """See RequestFields."""
        if not self.trace_id:
            return {}
        fields: dict[str, object] = {"trace_id": self.trace_id, "span_id": self.calling or self.span_id}
        fields.update((name, self.facts[name]) for name in ("ranking_id", "event_id") if name in self.facts)
        return fields


def current() -> Trace:
    """Return the trace of the request that this task works on; NO_TRACE when there is none."""
    found = current_request.get()
    return NO_TRACE if found is None else cast("Trace", found)


@contextmanager
def entered(trace: Trace) -> Iterator[Trace]:
    """Make a trace the current one of this task for the length of the block."""
    token = current_request.set(trace if trace.trace_id else None)
    try:
        yield trace
    finally:
        current_request.reset(token)


class _SpanIds:
    """Ids that no other process draws: a start by chance, then steps that meet a number again after 2^64 of them."""

    def __init__(self) -> None:
        self._next = int.from_bytes(random_bytes(8), "big")

    def draw(self) -> str:
        """Return 16 hex digits, not all zero."""
        self._next = (self._next + _STEP) & _MASK
        return f"{self._next:016x}" if self._next else self.draw()


_MASK: Final = (1 << 64) - 1
_STEP: Final = 0x9E3779B97F4A7C15
"""Odd, and far from any pattern: 2^64 divided by the golden ratio."""
new_span_id: Final = _SpanIds().draw


def new_trace_id() -> str:
    """Return 32 hex digits by chance, not all zero."""
    drawn = random_bytes(16).hex()
    return drawn if drawn.strip("0") else new_trace_id()


class _Nobody:
    """Takes nothing."""

    @staticmethod
    def now() -> float:
        """See Keeps."""
        return 0.0

    @staticmethod
    def unix_us() -> int:
        """See Keeps."""
        return 0

    def over(self, trace: Trace, stretch: Stretch) -> None:
        """See Keeps."""

    def ended(self, trace: Trace, name: str, seconds: float) -> None:
        """See Keeps."""


NO_TRACE: Final = Trace(_Nobody(), TraceContext("", "", sampled=False), parent_id="", recorded=False, state="")
"""Of a request that nobody records."""
