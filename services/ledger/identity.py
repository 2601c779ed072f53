"""An event's identity, computed a second time.

The gateway computes it when an event arrives and writes it into the log; the fold trusts it. Here it is
computed again from the acknowledged source and id and from the columns beside it, by code of its own (the
formula is in `docs/concepts/events.md`): so "your event is there" is not the gateway's word."""

import struct

import xxhash

from streams.frame import EventRow


def identity_of(source: str, event_id: str, row: EventRow) -> bytes:
    """The 16 bytes that the event `event_id` of `source` must have if it says what `row` says."""
    texts = [text.encode() for text in (source, event_id, row.query, row.item)]
    lengths = struct.pack("<5I", *(len(text) for text in texts), len(row.body))
    numbers = struct.pack("<BqQQH", int(row.kind), row.time_ms, row.user, row.session, row.position)
    return xxhash.xxh3_128_digest(lengths + numbers + row.ranking + b"".join(texts) + row.body)
