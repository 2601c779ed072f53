"""CloudEvents 1.0 as they come in Kafka records: the protocol binding for Kafka, binary and structured mode.

The same envelope as over HTTP, so what is accepted there is accepted here and the other way round. Two things differ:
header values are plain UTF-8 (HTTP percent-encodes), and there is no batch mode. Which mode it is says the record's
`content-type`; without one, a record that has `ce_` headers is in binary mode, with JSON as its data.

What cannot be read is refused with a reason. Nothing is skipped: a version or a media type that is not known here may
be an event all the same.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from streams.cloudevents import BATCH, STRUCTURED, CloudEvent, read_structured
from streams.errors import BadEvent

CONTENT_TYPE: Final = "content-type"
PREFIX: Final = "ce_"
_EVENTS: Final = "application/cloudevents"
_OF_THE_RECORD: Final = frozenset({"data", "data_base64", "datacontenttype"})
"""What no `ce_` header may say: it is the record's value, and the type of that."""

_encode: Final = msgspec.json.Encoder().encode

RecordHeaders = Iterable[tuple[str, str | bytes | None]]
"""As the client library types them; it delivers bytes."""


def read_record(headers: RecordHeaders | None, value: bytes | None) -> CloudEvent:
    """Read the event of one record. Raises BadEvent."""
    attributes: dict[str, str] = {}
    content_type: str | None = None
    for sent, raw in headers or ():
        attribute = _attribute(sent)
        if attribute is None:
            continue
        text = _text(sent, raw)
        if attribute == CONTENT_TYPE:
            content_type = text
        elif attribute in attributes or attribute in _OF_THE_RECORD:
            remedy = f"Send each attribute once, and the data's type as {CONTENT_TYPE}."
            raise BadEvent(PREFIX + attribute, "is there twice", remedy)
        else:
            attributes[attribute] = text
    if content_type is not None and (media := _format(content_type)):
        return _structured(media, value)
    if not attributes:
        raise BadEvent(
            CONTENT_TYPE,
            "says no CloudEvent, and there are no ce_ headers",
            f"Send {CONTENT_TYPE}: {STRUCTURED}, or the event's attributes as headers with the prefix {PREFIX}.",
        )
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    event = read_structured(_encode(attributes))
    if value is None:
        # A tombstone deletes in a compacted topic. Here it says nothing: events are not taken back.
        raise BadEvent("data", "is required and missing: the record has no value", "Send the data as the value.")
    return msgspec.structs.replace(event, data=msgspec.Raw(value))


@lru_cache(maxsize=256)
def _attribute(header: str) -> str | None:
    """What a header says: an attribute's name, `content-type`, or None for one that is no part of the event."""
    name = header.lower()
    if name == CONTENT_TYPE:
        return name
    return name[len(PREFIX) :] if name.startswith(PREFIX) else None


@lru_cache(maxsize=256)
def _format(content_type: str) -> str:
    """The format of a whole event in structured mode; empty when this is the type of data."""
    media = content_type.partition(";")[0].strip().lower()
    return media if media.startswith(_EVENTS) else ""


def _structured(media: str, value: bytes | None) -> CloudEvent:
    if media != STRUCTURED:
        remedy = f"Send {STRUCTURED}, one event a record."
        raise BadEvent(CONTENT_TYPE, "is no batch" if media == BATCH else "is not a format that is read", remedy)
    if value is None:
        raise BadEvent("event", "is required and missing: the record has no value", "Send the event as the value.")
    return read_structured(value)


def _text(name: str, raw: str | bytes | None) -> str:
    try:
        if isinstance(raw, bytes):
            return raw.decode()
        if raw is not None:
            return raw
        raise BadEvent(name, "has no value", "Leave the header out, or give it a value.")
    except UnicodeDecodeError:
        raise BadEvent(name, "is not UTF-8", "Encode header values as UTF-8, without percent signs.") from None
