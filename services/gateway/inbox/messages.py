"""What the gateway and its inbox worker tell each other, over one socket: length, then a tagged message in msgpack."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

LENGTH: Final = struct.Struct(">I")
MESSAGE_BYTES_MAX: Final = 8 << 20


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message to a worker: all that it has to know."""

    bootstrap: str
    incarnation: str
    key_file: str
    """Where the pseudonym key lies; the key itself is not sent."""
    key_fingerprint: str
    partitions: int
    """Of the events log."""
    frame_events_target: int
    frame_events_max: int
    frame_bytes_max: int
    frame_age_seconds: float
    frames_in_flight_max: int
    events_waiting_max: int
    """Events that were read and are not acknowledged by the events log."""
    bytes_waiting_max: int
    read_events_max: int
    """Records that are read in one go."""
    moved_before: dict[int, int]
    """By partition: what is known to be moved, should the broker have forgotten the position."""
    keep_seconds: float
    """For how long a record stays after it was moved."""
    commit_seconds: float
    report_seconds: float


class Done(msgspec.Struct, frozen=True, tag=True):
    """What became of a frame; `error` is empty when it is acknowledged, and known to the own disk."""

    sequence: int
    offset: int
    error: str = ""


class End(msgspec.Struct, frozen=True, tag=True):
    """Read nothing more, wait for what is under way, note the position, end."""


ToWorker = Begin | Done | End


class Packed(msgspec.Struct, frozen=True, tag=True):
    """A frame for the events log."""

    sequence: int
    partition: int
    key: int
    value: bytes
    events: int


class Gap(msgspec.Struct, frozen=True, tag=True):
    """Records of the inbox that are gone, and were not moved."""

    partition: int
    start: int
    end: int


class Report(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How the worker stands."""

    moved: dict[int, int]
    """By partition of the inbox: below it, everything is in an acknowledged frame or in the dead log."""
    outcomes: dict[str, int]
    """Records by what became of them, since the last report."""
    oldest_ms: int
    """When the oldest record was appended that was read and is not moved (unix ms); 0: none."""
    trouble: str = ""
    """Why nothing can be moved now."""


FromWorker = Packed | Gap | Report

_encode = msgspec.msgpack.Encoder().encode
decode_to_worker: Final = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker: Final = msgspec.msgpack.Decoder(FromWorker).decode


def framed(message: ToWorker | FromWorker) -> bytes:
    """The bytes that go over the socket."""
    body = _encode(message)
    return LENGTH.pack(len(body)) + body
