"""Which events a model was trained on, in a form that two machines can compare.

For a file of searches: how many rows in the order of time, where they begin and end, and a sum over what they say, so
that the same rows in another format have the same sum. The catalogue is in the sum as well: it decides what could be
ranked.
"""

import hashlib

import msgspec

from models.records import Source


class RowsFrontier(msgspec.Struct, frozen=True, kw_only=True):
    """The first rows of a log of searches, in order of time."""

    source: str
    rows: int
    first_time_ms: int
    last_time_ms: int
    sha256: str
    """Of the catalogue and the rows, each as JSON on a line."""


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
