"""What an app can say: the kinds of event, and how they become CloudEvents.

An app writes a *body* (`Click(user=..., item=...)`); the client wraps it, once, into an `Event` with an id
and a time. From then on nothing about it changes, so that a repetition is recognised as one. The id is the
app's own where it has one (an order number, a row of a log): then even an app that forgot what it had sent
can send it all again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar

import msgspec


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened. The subclasses are the kinds."""

    kind: ClassVar[str] = ""

    @property
    def user_or_none(self) -> str | None:
        """Whom it is about; None for a catalogue item."""
        user: str | None = getattr(self, "user", None)
        return user


class Search(Body, frozen=True, kw_only=True):
    """A search that some other engine answered. `MeridianClient.search` writes its own event."""

    kind: ClassVar[str] = "search"
    user: str
    query: str
    session: str | None = None


class Interaction(Body, frozen=True, kw_only=True):
    """What click, cart, purchase and view share. `ranking` and `position` (from 1) say where it came from."""

    user: str
    item: str
    query: str | None = None
    session: str | None = None
    ranking: str | None = None
    position: int | None = None
    quantity: int | None = None
    price: float | None = None


class Click(Interaction, frozen=True, kw_only=True):
    """The user opened an item from a list."""

    kind: ClassVar[str] = "click"


class Cart(Interaction, frozen=True, kw_only=True):
    """The user put an item into the cart."""

    kind: ClassVar[str] = "cart"


class Purchase(Interaction, frozen=True, kw_only=True):
    """The user bought an item."""

    kind: ClassVar[str] = "purchase"


class View(Interaction, frozen=True, kw_only=True):
    """The user looked at an item's page."""

    kind: ClassVar[str] = "view"


class Item(Body, frozen=True, kw_only=True):
    """A catalogue item, whole: the newest one wins. `deleted` takes it out of the catalogue."""

    kind: ClassVar[str] = "item"
    item: str
    title: str
    category: str | None = None
    price: float | None = None
    attributes: Mapping[str, str] | None = None
    stock: int | None = None
    deleted: bool = False


class Impression(Body, frozen=True, kw_only=True):
    """A ranking was really shown. `items` are those that came into view; all of them when absent."""

    kind: ClassVar[str] = "impression"
    user: str
    ranking: str
    items: Sequence[str] | None = None


class Feedback(Body, frozen=True, kw_only=True):
    """What the user said about an item or a ranking."""

    kind: ClassVar[str] = "feedback"
    user: str
    value: float
    item: str | None = None
    ranking: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A body with its identity: source, id and time. Made once; every retry sends exactly this."""

    body: Body
    id: str
    time_ms: int
    source: str

    @property
    def key(self) -> tuple[str, str]:
        """What the outbox knows it by."""
        return (self.source, self.id)


class _CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    specversion: str
    id: str
    source: str
    type: str
    time: str
    datacontenttype: str
    data: Body


BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"
_encoder = msgspec.json.Encoder()


def rfc3339(time_ms: int) -> str:
    """Milliseconds since the epoch as the text that CloudEvents and the search API carry."""
    seconds, millis = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def encode_event(event: Event) -> bytes:
    """One event as a structured CloudEvent."""
    return _encoder.encode(
        _CloudEvent(
            specversion="1.0",
            id=event.id,
            source=event.source,
            type=f"meridian.{event.body.kind}.v1",
            time=rfc3339(event.time_ms),
            datacontenttype="application/json",
            data=event.body,
        )
    )


def join_batch(encoded: Sequence[bytes]) -> bytes:
    """Encoded events as one CloudEvents batch."""
    return b"[" + b",".join(encoded) + b"]"
