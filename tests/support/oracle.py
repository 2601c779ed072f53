"""The state, computed by brute force straight from its definition: a set of events in, a digest out.

Nothing here is incremental, nothing is compiled, and nothing is shared with the fold but the names of columns and the
numbers of tags. It is slow and short on purpose: where fold and oracle differ, this file is what was meant.
"""

import json
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import xxhash

from streams.digest import Digest, TableDigest
from streams.frame import EventRow
from streams.kinds import Kind
from streams.state import FOLD_VERSION, Parameters

U64 = (1 << 64) - 1
G, P, Q = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
QUERY_ITEM, ITEM_KIND, PAIR, SERVED, ANSWER_CLICK, IMPRESSION, FEEDBACK, HISTORY = range(1, 9)
ANSWER_TAGS = {
    Kind.SERVED: SERVED,
    Kind.CLICK: ANSWER_CLICK,
    Kind.IMPRESSION: IMPRESSION,
    Kind.FEEDBACK: FEEDBACK,
}
COUNTED_BY_ITEM = (Kind.CLICK, Kind.CART, Kind.PURCHASE, Kind.VIEW)
REMEMBERED = (Kind.SEARCH, *COUNTED_BY_ITEM)


def mix(x: int) -> int:
    """The finaliser of splitmix64."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & U64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & U64
    return x ^ x >> 31


def key(tag: int, a: int, b: int) -> int:
    """Hash of what a counter counts."""
    return mix(mix(a + tag * G & U64) ^ b * P & U64)


def text_hash(text: str, *, fold_case: bool) -> int:
    """Hash of a query (with `fold_case`) or of an item."""
    raw = text.encode()
    if fold_case:
        raw = bytes(c for c in raw.lower() if c >= 128 or chr(c).isalnum())
    h = 0
    for j in range(0, len(raw), 8):
        word = raw[j : j + 8]
        h = mix(h ^ int.from_bytes(word, "little") * (P if len(word) == 8 else Q) & U64)
    return mix(h + len(raw) * G & U64)


def identity(raw: bytes) -> int:
    """The 64 bits that stand for an identity."""
    low, high = struct.unpack("<QQ", raw)
    return mix(mix(low + G & U64) ^ high * P & U64) or 1


@dataclass
class Expected:
    """What a set of events comes to."""

    parameters: Parameters
    clock: int | None = None
    identities: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(bucket, identity)."""
    counters: Counter[tuple[int, int, int, int]] = field(default_factory=Counter)
    """(bucket, tag, a, b)."""
    answers: Counter[tuple[int, int, int, int]] = field(default_factory=Counter)
    history: dict[tuple[int, int], list[tuple[int, int, int, int, int]]] = field(default_factory=dict)
    """(bucket, user) -> (time, identity, item, session, kind), newest first."""
    catalogue: dict[int, tuple[int, int, bytes, str, bool]] = field(default_factory=dict)
    """item -> (time, identity, body, text, deleted)."""

    def digest(self) -> Digest:
        """The same, as the fold's digest."""
        lanes: dict[tuple[int | None, str], list[int]] = defaultdict(lambda: [0, 0])

        def add(table: str, bucket: int | None, first: int, second: int, times: int = 1) -> None:
            pair = lanes[bucket, table]
            pair[0] = pair[0] + first * times & U64
            pair[1] = pair[1] + second * times & U64

        for bucket, e in self.identities:
            h = mix(e + bucket * G & U64)
            add("identities", bucket, h, mix(h ^ e * Q & U64))
        for table, counted in (("counters", self.counters), ("answers", self.answers)):
            for (bucket, tag, a, b), times in counted.items():
                k = key(tag, a, b)
                h = mix(k + bucket * G & U64)
                add(table, bucket, h, mix(h ^ k * Q & U64), times)
        for (bucket, user), entries in self.history.items():
            for time_ms, e, item, session, kind in entries:
                k = key(HISTORY, user, time_ms & U64)
                k = mix(k ^ e * G & U64)
                k = mix(k ^ item * P & U64)
                k = mix((k ^ session * Q & U64) + kind & U64)
                add("history", bucket, k, mix(k * Q + user & U64))
        for item, (time_ms, e, body, _, _) in self.catalogue.items():
            whole = xxhash.xxh3_128_intdigest(struct.pack("<QQQ", item, time_ms & U64, e) + body)
            add("catalogue", None, whole & U64, whole >> 64)
        order = sorted(lanes, key=lambda w: (w[0] is not None, w[0] or 0, ORDER.index(w[1])))
        tables = tuple(TableDigest(t, b, (lanes[b, t][0], lanes[b, t][1])) for b, t in order if any(lanes[b, t]))
        return Digest(FOLD_VERSION, self.parameters, self.clock, tables)


ORDER = ("catalogue", "identities", "counters", "answers", "history")


def expect(events: Iterable[EventRow], parameters: Parameters) -> Expected:
    """The state of a set of events (any order, any duplicates)."""
    distinct = {identity(e.identity): e for e in events}
    out = Expected(parameters)
    bucket_of = {i: e.time_ms // parameters.bucket_ms for i, e in distinct.items()}
    out.clock = _clock([b for i, b in bucket_of.items() if distinct[i].kind is not Kind.ITEM], parameters)
    histories: dict[tuple[int, int], list[tuple[int, int, int, int, int]]] = defaultdict(list)
    for i, event in distinct.items():
        bucket = bucket_of[i]
        if event.kind is Kind.ITEM:
            _take_item(out, i, event)
        elif out.clock is None or bucket >= out.clock - parameters.horizon_buckets:
            out.identities[bucket, i] = 1
            _count(out, bucket, event)
            if event.kind in REMEMBERED and event.user:
                histories[bucket, event.user].append((event.time_ms, i, _about(event), event.session, int(event.kind)))
    out.history = {k: sorted(v, reverse=True)[: parameters.history_max] for k, v in histories.items()}
    for (bucket, _), entries in out.history.items():
        clicks = [(item, session) for _, _, item, session, kind in entries if kind == Kind.CLICK]
        for j, (item, session) in enumerate(clicks):
            for other, other_session in clicks[j + 1 :]:
                if session == other_session and item != other:
                    out.counters[bucket, PAIR, min(item, other), max(item, other)] += 1
    return out


def _clock(buckets: list[int], parameters: Parameters) -> int | None:
    per_bucket, later = Counter(buckets), 0
    for bucket in sorted(per_bucket, reverse=True):
        later += per_bucket[bucket]
        if later >= parameters.clock_events:
            return bucket
    return None


def _about(event: EventRow) -> int:
    return (
        text_hash(event.query, fold_case=True) if event.kind is Kind.SEARCH else text_hash(event.item, fold_case=False)
    )


def _take_item(out: Expected, i: int, event: EventRow) -> None:
    item = text_hash(event.item, fold_case=False)
    try:
        deleted = json.loads(event.body or b"{}").get("deleted", False) is True
    except (ValueError, AttributeError):
        deleted = False
    candidate = (event.time_ms, i, event.body, event.item, deleted)
    if item not in out.catalogue or candidate[:2] > out.catalogue[item][:2]:
        out.catalogue[item] = candidate


def _count(out: Expected, bucket: int, event: EventRow) -> None:
    query, item = text_hash(event.query, fold_case=True), text_hash(event.item, fold_case=False)
    if event.kind is Kind.CLICK and query != text_hash("", fold_case=True):
        out.counters[bucket, QUERY_ITEM, query, item] += 1
    if event.kind in COUNTED_BY_ITEM:
        out.counters[bucket, ITEM_KIND, item, int(event.kind)] += 1
    if event.kind in ANSWER_TAGS and any(event.ranking):
        served = int.from_bytes(event.ranking[:6], "big") // out.parameters.bucket_ms
        oldest = -(1 << 99) if out.clock is None else out.clock - out.parameters.horizon_buckets
        if oldest <= served <= bucket:
            answer = int.from_bytes(event.ranking[8:12], "big") << 16 | event.ranking[6] << 8 | event.ranking[7]
            place = min(event.position, out.parameters.position_max) if event.kind is Kind.CLICK else 0
            out.answers[served, ANSWER_TAGS[event.kind], answer, place] += 1
