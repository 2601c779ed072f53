"""Reading and writing `traceparent` and `tracestate`, by the rules of W3C Trace Context.

A header that is wrong in any way counts as none: then a new trace begins, as the recommendation asks. Half a trace id
would join what does not belong together, and a request is never refused because of it. Versions that are not known yet
are read as far as version 00 goes.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

HEADER_PARENT: Final = "traceparent"
HEADER_STATE: Final = "tracestate"
STATE_MEMBERS_MAX: Final = 32
STATE_CHARACTERS_MAX: Final = 512
"""What the recommendation asks everybody to carry at least; a longer list is dropped."""

_SAMPLED: Final = 0x01
_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SIMPLE_KEY: Final = r"[a-z][a-z0-9_\-*/]{0,255}"
_TENANT_KEY: Final = r"[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER: Final = re.compile(rf"({_SIMPLE_KEY}|{_TENANT_KEY})={_VALUE}")


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """Which trace a request belongs to, and the span that caused it."""

    trace_id: str
    """32 lower-case hex digits, not all zero."""
    span_id: str
    """16 lower-case hex digits, not all zero: the parent of whatever is done next."""
    sampled: bool
    """Whether the caller may be recording this trace, and asks others to."""

    def header(self) -> str:
        """Return it as a `traceparent` of version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"


def read_parent(values: Sequence[str]) -> TraceContext | None:
    """Return what the `traceparent` headers of a request say; None unless there is exactly one, and it is right."""
    return parse_parent(values[0].strip(" \t")) if len(values) == 1 else None


def parse_parent(text: str) -> TraceContext | None:
    """Read one `traceparent`; None for one that is wrong."""
    found = _PARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, sampled=bool(int(flags, 16) & _SAMPLED))


def read_state(values: Sequence[str]) -> str:
    """Return the `tracestate` headers of a request as one list; empty when it is wrong, too long, or says nothing.

    It means something only beside a `traceparent` that was right.
    """
    members = [member.strip(" \t") for member in ",".join(values).split(",")]
    members = [member for member in members if member]
    if not members or len(members) > STATE_MEMBERS_MAX:
        return ""
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {found.group(1) for found in matches if found is not None}
    if len(keys) < len(members):
        return ""
    joined = ",".join(members)
    return joined if len(joined) <= STATE_CHARACTERS_MAX else ""
