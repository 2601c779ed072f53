"""The kinds of event: what an app may say, and how it becomes a row of a frame.

An event's **identity** is a hash over everything that was said: source, id, kind, time, user, session, query, item,
ranking, position and the canonical JSON of the rest. Nothing of it comes from the gateway (no arrival time, no
position, no random number), so the same event sent twice, to any gateway, through any restart, is one event; two
apps that both number from 1 have sent two. Hashing content rather than trusting ids means that an app which re-uses
an id for something else loses nothing either.

Unknown fields are refused, not dropped: a misspelt `quantty` would be lost for ever, and a field that nobody looked
at could carry a raw identifier into the log.
"""

import struct
from collections.abc import Callable
from typing import Annotated, Any, Final, Self

import msgspec
import xxhash

from streams.asks import NO_RANKING
from streams.cloudevents import NO_CONTROLS, CloudEvent, explain, to_ms
from streams.errors import DECODE_ERRORS, BadEvent
from streams.frame import EventRow
from streams.item_key import item_key
from streams.kinds import Kind
from streams.pseudonym import Pseudonyms

FUTURE_MS_MAX: Final = 5 * 60 * 1000
"""A time further ahead of the gateway's clock is refused, never clamped. Any past is welcome."""
BODY_BYTES_MAX: Final = 16 * 1024
LIST_MAX: Final = 200

Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=NO_CONTROLS)]
OptionalIdentifier = Annotated[str, msgspec.Meta(max_length=256, pattern=NO_CONTROLS)]
Query = Annotated[str, msgspec.Meta(min_length=1, max_length=512, pattern=r"^[^\x00]*(?![\s\S])")]
OptionalQuery = Annotated[str, msgspec.Meta(max_length=512, pattern=r"^[^\x00]*(?![\s\S])")]
RankingHex = Annotated[str, msgspec.Meta(min_length=32, max_length=32, pattern="^[0-9a-fA-F]{32}$")]
Place = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Price = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Quantity = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Title = Annotated[str, msgspec.Meta(max_length=1024, pattern=r"^[^\x00]*(?![\s\S])")]
AttributeValue = str | float | bool | list[str]


class _Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an app says in `data`."""


class Search(_Said, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user searched. (`POST /v1/search` writes this event itself.)"""

    user: Identifier
    query: Query
    session: OptionalIdentifier | None = None


class Interaction(_Said, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user clicked on, put into the cart, bought or viewed an item."""

    user: Identifier
    item: Identifier
    query: OptionalQuery | None = None
    """The query of the list that it came from."""
    session: OptionalIdentifier | None = None
    ranking: RankingHex | None = None
    """The id of the ranking that it came from."""
    position: Place | None = None
    """1-based place in that ranking."""
    quantity: Quantity | None = None
    price: Price | None = None


class Item(_Said, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A catalogue entry in full; the newest one for an item wins. `title` may only be missing when it is deleted."""

    item: Identifier
    title: Title = ""
    category: Title | None = None
    price: Price | None = None
    attributes: dict[str, AttributeValue] = {}
    stock: Count | None = None
    deleted: bool = False


class Impression(_Said, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ranking, or some items of it, came into the user's view."""

    user: Identifier
    ranking: RankingHex
    items: Annotated[list[Identifier], msgspec.Meta(max_length=LIST_MAX)] = []
    session: OptionalIdentifier | None = None


class Feedback(_Said, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user said what they think of an item or a ranking."""

    user: Identifier
    value: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
    item: OptionalIdentifier | None = None
    ranking: RankingHex | None = None
    session: OptionalIdentifier | None = None


class InteractionBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rest of a click, cart, purchase or view, as it stands in a frame's `body`."""

    quantity: int | None = None
    price: float | None = None


class ItemBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rest of a catalogue entry. `deleted` is a tombstone."""

    title: str = ""
    category: str = ""
    price: float | None = None
    attributes: dict[str, AttributeValue] = {}
    stock: int | None = None
    deleted: bool = False


class ImpressionBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rest of an impression: the items that were seen, all of the ranking when empty."""

    items: list[str] = []


class FeedbackBody(msgspec.Struct, frozen=True):
    """The rest of a feedback."""

    value: float


class ServedBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rest of a `served` event: what was shown, and how it was chosen."""

    items: list[str]
    rung: str
    model_version: str = ""
    arm: int = 0
    propensity: float = 1.0
    """Probability with which this arm was chosen for this request."""


Body = InteractionBody | ItemBody | ImpressionBody | FeedbackBody | ServedBody | None


class Received(msgspec.Struct, frozen=True):
    """An event that can be taken: the row for a frame, and the number that decides its partition."""

    id: str
    row: EventRow
    partition_key: int


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What was said, in the terms of a frame: the arguments of the identity beside source and id."""

    kind: Kind
    time_ms: int
    user: int = 0
    session: int = 0
    query: str = ""
    item: str = ""
    ranking: bytes = NO_RANKING
    position: int = 0
    body: bytes = b""

    def row(self, source: str, event_id: str) -> EventRow:
        """The event as a row of a frame."""
        return EventRow(
            identity=identity(source, event_id, self),
            time_ms=self.time_ms,
            user=self.user,
            session=self.session,
            kind=self.kind,
            query=self.query,
            item=self.item,
            ranking=self.ranking,
            position=self.position,
            body=self.body,
        )


_FIXED: Final = struct.Struct("<5I B q Q Q H 16s")


def identity(source: str, event_id: str, content: Content) -> bytes:
    """16 bytes (xxh3_128, big endian) over all that was said; every string is preceded by its length."""
    source_bytes, id_bytes = source.encode(), event_id.encode()
    query_bytes, item_bytes = content.query.encode(), content.item.encode()
    fixed = _FIXED.pack(
        len(source_bytes),
        len(id_bytes),
        len(query_bytes),
        len(item_bytes),
        len(content.body),
        content.kind,
        content.time_ms,
        content.user,
        content.session,
        content.position,
        content.ranking,
    )
    return xxhash.xxh3_128_digest(b"".join((fixed, source_bytes, id_bytes, query_bytes, item_bytes, content.body)))


_canonical = msgspec.json.Encoder(order="sorted")


def canonical_body(body: Body) -> bytes:
    """Canonical JSON (sorted keys, no spaces, defaults left out); empty when nothing is left."""
    raw = b"" if body is None else _canonical.encode(body)
    return b"" if raw == b"{}" else raw


class EventReader:
    """Turns CloudEvents into rows. One a gateway, because it holds the pseudonym key."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms

    def read(self, event: CloudEvent, now_ms: int) -> Received:
        """Check one event and compute its identity. Raises BadEvent; keeps nothing."""
        time_ms = to_ms(event.time)
        check_time("time", time_ms, now_ms)
        try:
            shape = _SHAPES[event.type]
        except KeyError:
            raise _unknown_type(event.type) from None
        raw = event.data_json()
        if not len(raw):
            raise BadEvent("data", "is required and missing", "Add the fields of this kind.")
        try:
            said = shape.decode(raw)
        except DECODE_ERRORS as error:
            raise explain(error, "data") from None
        content = shape.content(said, time_ms, self._pseudonyms)
        if len(content.body) > BODY_BYTES_MAX:
            size = len(content.body)
            raise BadEvent("data", f"takes {size} bytes, more than {BODY_BYTES_MAX}", "Send less beside the ids.")
        key = item_key(content.item) if content.kind is Kind.ITEM else content.user
        return Received(event.id, content.row(event.source, event.id), key)

    def search(self, said: Search, *, source: str, event_id: str, time_ms: int) -> Received:
        """The search event that a search request stands for: the same row as if the app had posted it."""
        content = _search(said, time_ms, self._pseudonyms)
        return Received(event_id, content.row(source, event_id), content.user)

    def user(self, raw: str) -> int:
        """The pseudonym of a user."""
        return self._pseudonyms.user(raw)

    def session(self, user: int, raw: str, time_ms: int) -> int:
        """The session number of a user, see `Pseudonyms.session`."""
        return self._pseudonyms.session(user, raw, time_ms)


def check_time(field: str, time_ms: int, now_ms: int) -> None:
    """Refuse times that have not come yet, beyond what clocks differ by. Raises BadEvent."""
    ahead_ms = time_ms - now_ms
    if ahead_ms > FUTURE_MS_MAX:
        raise BadEvent(
            field,
            f"is {ahead_ms / 1000:.0f} s ahead of the gateway's clock, more than {FUTURE_MS_MAX // 1000} s",
            "Send the time at which it happened, and check the sender's clock and zone.",
        )


def ranking_bytes(ranking: str | None) -> bytes:
    """The 16 bytes of a ranking id; zeros when there is none."""
    return bytes.fromhex(ranking) if ranking else NO_RANKING


def _unknown_type(name: str) -> BadEvent:
    if name == event_type(Kind.SERVED):
        return BadEvent("type", "served events are written by the gateway itself", "Send an impression instead.")
    return BadEvent("type", "is not a kind of event", f"Use one of {', '.join(sorted(_SHAPES))}.")


def _search(said: Search, time_ms: int, pseudonyms: Pseudonyms) -> Content:
    user = pseudonyms.user(said.user)
    session = pseudonyms.session(user, said.session, time_ms)
    return Content(kind=Kind.SEARCH, time_ms=time_ms, user=user, session=session, query=said.query)


def _interaction(kind: Kind) -> Callable[[Interaction, int, Pseudonyms], Content]:
    def content(said: Interaction, time_ms: int, pseudonyms: Pseudonyms) -> Content:
        user = pseudonyms.user(said.user)
        rest = None
        if said.quantity is not None or said.price is not None:
            rest = InteractionBody(said.quantity, said.price)
        return Content(
            kind=kind,
            time_ms=time_ms,
            user=user,
            session=pseudonyms.session(user, said.session, time_ms),
            query=said.query or "",
            item=said.item,
            ranking=ranking_bytes(said.ranking),
            position=said.position or 0,
            body=canonical_body(rest),
        )

    return content


def _item(said: Item, time_ms: int, _: Pseudonyms) -> Content:
    if not said.title and not said.deleted:
        raise BadEvent("data.title", "is required and missing", "Send the whole entry: the newest one replaces all.")
    rest = ItemBody(said.title, said.category or "", said.price, said.attributes, said.stock, said.deleted)
    return Content(kind=Kind.ITEM, time_ms=time_ms, item=said.item, body=canonical_body(rest))


def _impression(said: Impression, time_ms: int, pseudonyms: Pseudonyms) -> Content:
    user = pseudonyms.user(said.user)
    return Content(
        kind=Kind.IMPRESSION,
        time_ms=time_ms,
        user=user,
        session=pseudonyms.session(user, said.session, time_ms),
        ranking=ranking_bytes(said.ranking),
        body=canonical_body(ImpressionBody(said.items)),
    )


def _feedback(said: Feedback, time_ms: int, pseudonyms: Pseudonyms) -> Content:
    user = pseudonyms.user(said.user)
    return Content(
        kind=Kind.FEEDBACK,
        time_ms=time_ms,
        user=user,
        session=pseudonyms.session(user, said.session, time_ms),
        item=said.item or "",
        ranking=ranking_bytes(said.ranking),
        body=canonical_body(FeedbackBody(said.value)),
    )


class _Shape:
    """How to read the data of one type of event."""

    __slots__ = ("content", "decode", "said")

    def __init__(self, said: type[_Said], content: Callable[[Any, int, Pseudonyms], Content]) -> None:
        self.said = said
        self.decode: Callable[[bytes | memoryview], Any] = msgspec.json.Decoder(said).decode
        self.content = content

    @classmethod
    def all(cls) -> dict[str, Self]:
        """By CloudEvents type. `served` is missing: only a gateway writes it."""
        shapes = {Kind.SEARCH: cls(Search, _search), Kind.ITEM: cls(Item, _item)}
        for kind in (Kind.CLICK, Kind.CART, Kind.PURCHASE, Kind.VIEW):
            shapes[kind] = cls(Interaction, _interaction(kind))
        shapes[Kind.IMPRESSION] = cls(Impression, _impression)
        shapes[Kind.FEEDBACK] = cls(Feedback, _feedback)
        return {event_type(kind): shape for kind, shape in shapes.items()}


def event_type(kind: Kind) -> str:
    """The CloudEvents type of a kind: `meridian.click.v1`."""
    return f"meridian.{kind.word}.v1"


_SHAPES: Final = _Shape.all()
DATA_TYPES: Final[dict[str, type[_Said]]] = {name: shape.said for name, shape in _SHAPES.items()}
"""What `data` looks like, by CloudEvents type: the source of the API's description."""
