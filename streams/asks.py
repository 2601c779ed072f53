"""Asking for a ranking, and the answer.

An ask rides in a header of the frame that follows the asker's own events, so it reaches the processor after them:
reading one's own writes needs no further machinery inside a partition. It is no event: who waits for an answer, and
until when, is not part of what happened, so it must not change an event's identity when the app tries again, and
replay has nothing to ignore.

The answer is an effect: it carries the epoch under which it was made and the time until which it may be shown.
"""

from typing import Final, Literal

import msgspec
import xxhash

from streams.kinds import Rung
from streams.position import Position

FilterValue = str | float | bool | list[str] | dict[str, float]
AskKind = Literal["search", "recommendations", "similar"]
Epoch = tuple[int, int]
"""(generation, create revision of the leader key); compared as a pair."""

RANKING_ID_BYTES: Final = 16
NO_RANKING: Final = bytes(RANKING_ID_BYTES)


class Ask(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Somebody waits for a ranking until `deadline_unix_ms`."""

    ask_id: str
    """Unique for this try."""
    reply_to: str
    """The gateway process that waits; the Kafka key of the answer."""
    kind: AskKind
    deadline_unix_ms: int
    at_ms: int
    """The time that the answer is for, ms since the epoch; decides which events count."""
    user: int = 0
    """Pseudonym, uint64; 0 when nobody is named."""
    query: str = ""
    item: str = ""
    """For `similar`: like what."""
    size: int = 10
    filter: dict[str, FilterValue] = {}
    exclude: list[str] = []
    in_stock: bool = False
    context: dict[str, str] = {}
    candidates: list[str] | None = None
    """Re-rank exactly these, for shops that have a search engine of their own."""
    after: list[Position] = []
    """Read tokens: positions that must have been folded before the answer is made."""
    trace: str = ""
    """The W3C `traceparent` of the request; empty when nobody records it. Readers that do not know it pass over it."""
    canary: bool = False
    """A heartbeat that nobody waits for but the region itself: scored also behind a shut gate, and never shown.

    A field and not a kind of its own: a processor that does not know it takes it for a search and goes on.
    """


class Ranking(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The answer to an ask, as it stands in the rankings log."""

    ask_id: str
    reply_to: str
    ranking_id: str
    """32 hex digits, see `RankingId`."""
    items: list[str]
    scores: list[float]
    rung: str
    model_version: str
    """`ranker/1`; the version that the model rung would have used, also on lower rungs; empty when unknown."""
    region: str
    epoch: Epoch
    frontier: list[tuple[str, int, int]]
    feature_age_ms: int
    """How long ago the broker appended the newest record that these features know."""
    valid_until_ms: int
    """Unix ms after which no gateway may show this."""
    after_reached: bool = True
    reason: str = ""
    """Why the answer did not come from the model rung; empty when it did."""
    trace: str = ""
    """The W3C `traceparent` of the processor's span that made it; empty when nobody records it."""


class RankingId(msgspec.Struct, frozen=True):
    """What the 16 bytes of a ranking id say, so that a click on it needs no join to be counted.

    Layout, big endian: served time in ms (6 bytes), arm (1), rung (1), model tag (4), unique (4).
    """

    served_ms: int
    arm: int
    rung: int
    model_tag: int
    unique: int

    def to_bytes(self) -> bytes:
        """The 16 bytes of a frame's `ranking` column."""
        return (
            self.served_ms.to_bytes(6, "big")
            + bytes((self.arm, self.rung))
            + self.model_tag.to_bytes(4, "big")
            + self.unique.to_bytes(4, "big")
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> "RankingId":
        """Read the 16 bytes of a frame's `ranking` column."""
        return cls(
            served_ms=int.from_bytes(raw[:6], "big"),
            arm=raw[6],
            rung=raw[7],
            model_tag=int.from_bytes(raw[8:12], "big"),
            unique=int.from_bytes(raw[12:16], "big"),
        )


def model_tag(model_version: str) -> int:
    """The four-byte tag (xxh32) under which a model version such as `ranker/1` is counted."""
    return xxhash.xxh32_intdigest(model_version.encode())


def ranking_id(ask: Ask, rung: Rung, model_version: str, *, arm: int = 0) -> str:
    """Make the id of the answer to `ask`: 32 hex digits. Times before 1970 are counted at 1970."""
    made = RankingId(
        served_ms=min(max(ask.at_ms, 0), (1 << 48) - 1),
        arm=arm,
        rung=int(rung),
        model_tag=model_tag(model_version),
        unique=xxhash.xxh32_intdigest(ask.ask_id.encode()),
    )
    return made.to_bytes().hex()


_asks_encoder = msgspec.msgpack.Encoder()
_asks_decoder = msgspec.msgpack.Decoder(list[Ask])
_ranking_decoder = msgspec.msgpack.Decoder(Ranking)


def encode_asks(asks: list[Ask]) -> bytes:
    """The value of a frame's `meridian-asks` header."""
    return _asks_encoder.encode(asks)


def decode_asks(raw: bytes) -> list[Ask]:
    """Read a `meridian-asks` header.

    Raises msgspec.DecodeError on anything else. The caller drops such asks and counts them: they are no events.
    """
    return _asks_decoder.decode(raw)


def encode_ranking(ranking: Ranking) -> bytes:
    """The value of a record in the rankings log."""
    return _asks_encoder.encode(ranking)


def decode_ranking(raw: bytes) -> Ranking:
    """Read a record of the rankings log. Raises msgspec.DecodeError on anything else."""
    return _ranking_decoder.decode(raw)
