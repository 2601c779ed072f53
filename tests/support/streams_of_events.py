"""Streams of events for tests, from a seed: ties, late, future and ancient events, few users or many."""

import random
from dataclasses import dataclass

import msgspec
import xxhash

from streams.asks import NO_RANKING, RankingId
from streams.fold import Fold
from streams.frame import Columns, EventRow, decode_frame, encode_frame, frame_headers
from streams.kinds import Kind, Rung
from streams.position import Verdict
from streams.state import Parameters, State

START_MS = 1_700_000_000_000
KINDS = [k for k in Kind for _ in range({Kind.CLICK: 10, Kind.SEARCH: 4, Kind.SERVED: 2, Kind.ITEM: 1}.get(k, 1))]
LOG = "east-1.events"


@dataclass(frozen=True)
class Shape:
    """What a stream is like."""

    events: int
    users: int = 5
    items: int = 10
    queries: int = 6
    sessions: int = 3
    span_ms: int = 10 * 86_400_000
    grain_ms: int = 1
    """Times are multiples of this: a large one makes ties."""
    outliers: float = 0.02
    """Share of events far in the future, and again of ancient ones."""


def row(kind: Kind, time_ms: int, *, source: str = "app", **content: object) -> EventRow:
    """An event whose identity is the hash of all of its content and its source."""
    bare = EventRow(identity=bytes(16), time_ms=time_ms, kind=kind, **{"user": 0, "session": 0, **content})
    raw = msgspec.msgpack.encode((source, bare))
    return msgspec.structs.replace(bare, identity=xxhash.xxh3_128_digest(raw))


def events(seed: int, shape: Shape) -> list[EventRow]:
    """A stream of events in no particular order of time."""
    g = random.Random(seed)
    return [_event(g, shape, n) for n in range(shape.events)]


def _event(g: random.Random, shape: Shape, n: int) -> EventRow:
    kind = g.choice(KINDS)
    at = START_MS + int(g.random() * shape.span_ms)
    luck = g.random()
    if luck < shape.outliers:
        at += 10 * 365 * 86_400_000
    elif luck < 2 * shape.outliers:
        at = g.choice([0, -1, at - g.randrange(10**10), -(10**13), START_MS])
    at = at // shape.grain_ms * shape.grain_ms
    source = g.choice(["app-a", "app-b"])
    item = f"item-{g.randrange(shape.items)}"
    if kind is Kind.ITEM:
        body = g.choice([b'{"title":"a %d"}' % n, b'{"deleted":true}', b"", b"not json", b'{"deleted":"yes"}'])
        return row(kind, at, source=source, item=item, body=body)
    ranking, place = NO_RANKING, 0
    if kind in {Kind.SERVED, Kind.IMPRESSION, Kind.FEEDBACK} or (kind is Kind.CLICK and g.random() < 0.5):
        served = max(0, at - g.choice([0, 0, 1000, 3_600_000, 86_400_000, -86_400_000, 40 * 86_400_000]))
        unique = g.getrandbits(32)
        ranking = RankingId(served, g.randrange(2), int(g.choice(list(Rung))), g.randrange(3), unique).to_bytes()
        place = g.choice([0, 1, 2, 7, 19, 20, 21, 65535])
    query = g.choice(["", f"Query {g.randrange(shape.queries)}", f"query-{g.randrange(shape.queries)}!", "né"])
    return row(
        kind,
        at,
        source=source,
        user=g.randrange(shape.users),
        session=g.randrange(shape.sessions),
        query=query if kind in {Kind.SEARCH, Kind.CLICK} else "",
        item="" if kind is Kind.SEARCH else item,
        ranking=ranking,
        position=place,
    )


def frame_of(rows: list[EventRow]) -> Columns:
    """The rows after a trip through a frame."""
    return decode_frame(encode_frame(rows), frame_headers(len(rows), "0" * 16))


def splits(rows: list[EventRow], g: random.Random, sizes: tuple[int, ...] = (1, 7, 100, 250)) -> list[list[EventRow]]:
    """Cut a list into frames of mixed sizes."""
    out, at = [], 0
    while at < len(rows):
        size = g.choice(sizes)
        out.append(rows[at : at + size])
        at += size
    return out


def fold_all(frames: list[list[EventRow]], parameters: Parameters, fold: Fold | None = None) -> Fold:
    """Fold frames one by one into a new state (or on, into a given one), as partition 0 of one log."""
    fold = fold or Fold(State(parameters))
    for rows in frames:
        offset = fold.next_offset(LOG, 0)
        applied = fold.apply(frame_of(rows), LOG, 0, offset, offset, 0)
        assert applied.verdict is Verdict.ACCEPTED
    return fold
