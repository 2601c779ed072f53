"""Which events a model was trained on, in a form that two machines can compare.

For a file of searches: how many rows in the order of time, where they begin and end, and a sum over what they say, so
that the same rows in another format have the same sum. The catalogue is in the sum as well: it decides what could be
ranked. For events cut from the logs of a region: how far each partition of each log was read, what its last record
was, and the digest of the state that they fold into.
"""

import hashlib

import msgspec

from models.records import Source
from streams.state import Parameters


class RowsFrontier(msgspec.Struct, frozen=True, kw_only=True):
    """The first rows of a log of searches, in order of time."""

    source: str
    rows: int
    first_time_ms: int
    last_time_ms: int
    sha256: str
    """Of the catalogue and the rows, each as JSON on a line."""


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the clicks of a log when they were joined to searches."""

    clicks: int
    first: int
    """The first click on its search: what is learned."""
    further: int
    """Another click on a search that has one already: counted like any, not learned as an answer."""
    alone: int
    """No search for it in the log: counted like any, not learned as an answer."""


class CutPoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far one partition of one log was read."""

    next_offset: int
    """In the log in which the records were first written."""
    checksum: str
    """Of the last record before it, 16 hex digits: a log that shows another one there is not this log."""


class CutFrontier(msgspec.Struct, frozen=True, kw_only=True):
    """Which events of which logs a training set was cut from."""

    logs: dict[str, dict[str, CutPoint]]
    """By log and partition; partitions of which nothing was read are left out."""
    rows: int
    """The first searches in order of time that training may look at."""
    first_time_ms: int
    last_time_ms: int
    events: int
    """Distinct events, without those of the catalogue."""
    digest: str
    """Of the state after all of them (`streams.digest`)."""
    fold: Parameters
    joined: Joined


def rows_frontier(source: Source, end: int) -> RowsFrontier:
    """The first `end` searches of a source."""
    rows = source.searches[:end]
    digest = hashlib.sha256()
    encoder = msgspec.json.Encoder()
    for record in (*source.items, *rows):
        digest.update(encoder.encode(record))
        digest.update(b"\n")
    return RowsFrontier(
        source=source.name,
        rows=len(rows),
        first_time_ms=rows[0].time_ms if rows else 0,
        last_time_ms=rows[-1].time_ms if rows else 0,
        sha256=digest.hexdigest(),
    )
