"""CloudEvents 1.0 as they come over HTTP: structured, binary, batch.

Parsed with msgspec instead of the official SDK, which costs some 60 times more an event; the SDK is the oracle of the
tests. The envelope is read here, `data` stays raw: what it must look like depends on the type, and one event of a
batch that is wrong must not take the others with it.

A batch is split before any of its events is looked at. Where the fast splitter gives up although the JSON can be
split (a lone surrogate escape), a slow one finds out which event is to blame.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import unquote

import msgspec

from streams.errors import DECODE_ERRORS, BadEvent

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
SPECVERSION: Final = "1.0"

NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f]*(?![\s\S])"
"""Identifiers hold no control characters. (The end is spelled so that Python and JSON Schema agree about it.)"""

EventId = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=NO_CONTROLS)]
Source = Annotated[str, msgspec.Meta(min_length=1, max_length=512, pattern=NO_CONTROLS)]
Time = Annotated[
    datetime,
    msgspec.Meta(tz=True, description="RFC 3339 with a zone; at most 5 minutes ahead of the gateway."),
]


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope. Attributes that are not listed (extensions such as `traceparent`) are transport, not content."""

    specversion: str
    id: EventId
    source: Source
    type: str
    time: Time
    datacontenttype: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    data_base64: str | None = None

    def data_json(self) -> bytes | memoryview:
        """The bytes of `data`, which must be JSON. Raises BadEvent."""
        content_type = self.datacontenttype
        if content_type is not None and not is_json(content_type):
            raise BadEvent(
                "datacontenttype", "data must be JSON", "Send application/json, or leave datacontenttype out."
            )
        if self.data_base64 is None:
            return memoryview(self.data)
        if memoryview(self.data):
            raise BadEvent("data_base64", "there is data as well", "Send either data or data_base64.")
        try:
            return base64.b64decode(self.data_base64, validate=True)
        except (binascii.Error, ValueError):
            raise BadEvent("data_base64", "is not base64", "Send the JSON itself as data.") from None


class Rejected(msgspec.Struct, frozen=True):
    """An event of a batch that cannot be taken."""

    id: str
    """As the app sent it; empty when it could not be read."""
    error: BadEvent


class _OnlyId(msgspec.Struct, frozen=True):
    id: str = ""


_decode_envelope = msgspec.json.Decoder(CloudEvent).decode
_decode_id = msgspec.json.Decoder(_OnlyId).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def is_json(content_type: str) -> bool:
    """Whether a media type such as `application/json; charset=utf-8` says JSON."""
    if content_type == "application/json":
        return True
    media = content_type.partition(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json") or media == "text/json"


def read_structured(body: bytes | msgspec.Raw) -> CloudEvent:
    """Read one event in structured mode. Raises BadEvent."""
    try:
        event = _decode_envelope(body)
    except DECODE_ERRORS as error:
        raise explain(error) from None
    if event.specversion != SPECVERSION:
        raise BadEvent("specversion", "is not 1.0", "Send CloudEvents 1.0.")
    return event


def read_batch(body: bytes, events_max: int) -> list[CloudEvent | Rejected]:
    """Read a batch, event by event. Raises BadEvent when it is no JSON array or holds too many."""
    try:
        parts: list[msgspec.Raw | Rejected] = [*_split(body)]
    except RecursionError as error:
        raise explain(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        parts = _split_slowly(body, error)
    if not parts:
        raise BadEvent("body", "the batch is empty", "Send at least one event.")
    if len(parts) > events_max:
        raise BadEvent(
            "body",
            f"the batch holds {len(parts)} events, more than {events_max}",
            "Send several smaller batches.",
        )
    return [part if isinstance(part, Rejected) else _one_of_batch(part) for part in parts]


def _one_of_batch(part: msgspec.Raw) -> CloudEvent | Rejected:
    try:
        return read_structured(part)
    except BadEvent as error:
        return Rejected(event_id(part), error)


def _split_slowly(body: bytes, cause: Exception) -> list[msgspec.Raw | Rejected]:
    try:
        parts = json.loads(body)
    except (ValueError, RecursionError):
        raise explain(cause) from None
    if not isinstance(parts, list):
        raise BadEvent("body", "a batch is a JSON array", f"Send a single event as {STRUCTURED}.")
    return [_again_as_json(part) for part in parts]


def _again_as_json(part: Any) -> msgspec.Raw | Rejected:
    try:
        return msgspec.Raw(json.dumps(part, ensure_ascii=False, allow_nan=False).encode())
    except ValueError as error:
        given = part.get("id") if isinstance(part, dict) else None
        name = given if isinstance(given, str) and given.isprintable() else ""
        cause = "holds a lone surrogate" if isinstance(error, UnicodeEncodeError) else "holds NaN or Infinity"
        return Rejected(name, BadEvent("event", cause, "Send valid JSON in UTF-8."))


def event_id(body: bytes | msgspec.Raw) -> str:
    """The id of an event that could not be read, as far as it can be told."""
    try:
        return _decode_id(body).id
    except DECODE_ERRORS:
        return ""


def read_binary(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    """Read one event in binary mode: attributes in `ce-` headers, `body` is the data. Raises BadEvent."""
    attributes = {
        name.lower()[3:]: _header_value(name, value)
        for name, value in headers.items()
        if name.lower().startswith("ce-")
    }
    attributes["datacontenttype"] = next(
        (value for name, value in headers.items() if name.lower() == "content-type"), "application/json"
    )
    event = read_structured(
        msgspec.json.encode({k: v for k, v in attributes.items() if k not in ("data", "data_base64")})
    )
    return msgspec.structs.replace(event, data=msgspec.Raw(body))


def _header_value(name: str, value: str) -> str:
    """Binary mode percent-encodes what is not printable ASCII, and may quote."""
    text = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()
    except UnicodeError:
        raise BadEvent(name.lower(), "is not UTF-8", "Percent-encode it as UTF-8.") from None
    return decoded


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def to_ms(time: datetime) -> int:
    """Milliseconds since the epoch, rounded down; whole numbers all the way."""
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def rfc3339(time_ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC; the inverse of `to_ms`."""
    return f"{(_EPOCH + timedelta(milliseconds=time_ms)).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


_PATH: Final = re.compile(r" - at `\$?\.?(.*)`$")
_NAMED_FIELD: Final = re.compile(r"^Object (missing required|contains unknown) field `(.*?)`", re.DOTALL)


def explain(error: Exception, prefix: str = "") -> BadEvent:
    """Turn what msgspec says into field, cause and next step. `prefix` is the path of what was decoded."""
    if isinstance(error, RecursionError):
        return BadEvent(prefix or "body", "is nested too deeply", "Send a flat event.")
    if isinstance(error, UnicodeDecodeError):
        return BadEvent(prefix or "body", "holds bytes that are not UTF-8", "Encode strings as UTF-8.")
    if not isinstance(error, msgspec.ValidationError):
        return BadEvent(prefix or "body", f"is not JSON: {error}", "Send valid JSON in UTF-8.")
    text = str(error)
    found = _PATH.search(text)
    path = ".".join(part for part in (prefix, found.group(1) if found else "") if part)
    text = text[: found.start()] if found else text
    named = _NAMED_FIELD.match(text)
    if named is None:
        return BadEvent(path or "body", text[:1].lower() + text[1:], "Correct this field and send it again.")
    what, name = named.groups()
    field = ".".join(part for part in (path, name) if part)
    if what == "missing required":
        return BadEvent(field, "is required and missing", "Add this field and send it again.")
    return BadEvent(
        field,
        "is not a field of this kind",
        "Take it out, or correct its spelling; nothing is dropped silently.",
    )
