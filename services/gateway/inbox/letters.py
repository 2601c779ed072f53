"""What is written about records of the inbox: receipts for all, dead letters for those that cannot be taken.

Raw user identifiers stay in the inbox. So a dead letter, which is copied to every region and kept for ever, has
nothing of the record but its position, its length and the reason; and of the reason no name that the record chose,
because an app that misplaces a user's address can just as well have it as the name of a field.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from services.gateway.inbox.runs import NOT_MOVED, Place, Run
from streams.cloudevents import CloudEvent
from streams.dead_letter import DeadLetter
from streams.errors import BadEvent
from streams.events import DATA_TYPES
from streams.kafka_binding import CONTENT_TYPE, PREFIX
from streams.logs import events_log, inbox_topic
from streams.position import Position

HEADER_BYTES: Final = "meridian-record-bytes"
_SAID_MAX: Final = 200
_STEP: Final = re.compile(r"[.\[]")
_ATTRIBUTES: Final = {field.name for field in msgspec.structs.fields(CloudEvent)}
_NAMES: Final = {
    "body",
    "event",
    CONTENT_TYPE,
    *_ATTRIBUTES,
    *(PREFIX + name for name in _ATTRIBUTES),
    *(field.name for said in DATA_TYPES.values() for field in msgspec.structs.fields(said)),
}
_DIGITS_OR_REST: Final = re.compile(r"^(\d+\]|\.\.\.\]|)$")


class InboxReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of records `[start, end)` of one partition of the inbox.

    It lies in the partition of the same number. After a crash the same records may get a second one, with other
    coordinates: both are true, and the event counts once.
    """

    inbox: str
    partition: int
    start: int
    end: int
    log: str
    frames: list[Place]
    """Partition and offset of each frame that took some of them."""
    events: list[tuple[int, int, int]]
    """Offset in the inbox, place in `frames`, index in that frame. What is missing was refused, or is no event."""
    refused: dict[int, str]
    """By offset in the inbox: why the record went to the dead log."""


_encode: Final = msgspec.json.Encoder().encode


def receipt_of(run: Run, incarnation: str) -> bytes:
    """The receipt of a run that is settled, as JSON."""
    numbers: dict[Place, int] = {}
    events = [
        (offset, numbers.setdefault(frame, len(numbers)), index)
        for offset, frame, index in zip(run.offsets, run.frames, run.indexes, strict=True)
        if frame is not NOT_MOVED
    ]
    return _encode(
        InboxReceipt(
            inbox=inbox_topic(incarnation),
            partition=run.partition,
            start=run.offsets[0],
            end=run.end,
            log=events_log(incarnation),
            frames=list(numbers),
            events=events,
            refused=run.refused,
        )
    )


def reason_of(error: BadEvent) -> str:
    """Why a record is refused, without any word that it brought."""
    steps = [step for step in _STEP.split(error.field) if not _DIGITS_OR_REST.match(step)]
    field = error.field if all(step == "data" or step in _NAMES for step in steps) else "a field of it"
    return f"{field} {error.cause}"[:_SAID_MAX]


def letter_of(incarnation: str, partition: int, offset: int, value: bytes | None, reason: str) -> DeadLetter:
    """The letter for a record of the inbox."""
    return DeadLetter(
        origin=Position(inbox_topic(incarnation), partition, offset),
        reason=reason,
        value=b"",
        headers=((HEADER_BYTES, str(len(value or b"")).encode()),),
    )
