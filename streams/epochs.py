"""EPOCH markers: where in every rankings log one term ends and the next begins.

Before a new holder serves, it writes a marker to every partition of its own rankings log. The marker says how much of
every *other* rankings log it accepts. So whether a ranking counts is a function of the logs alone: each reader, in
any order and at any time, comes to the same verdict.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from streams.asks import Epoch
from streams.frame import Headers, header
from streams.position import Frontier, Position

HEADER_EPOCH: Final = "meridian-epoch"
"""`b"generation:revision"`, on every record of a rankings log."""
HEADER_MARKER: Final = "meridian-epoch-marker"
"""Present (and `b"1"`) on a marker; its value is an `EpochMarker` in msgpack."""


class EpochMarker(msgspec.Struct, frozen=True):
    """The beginning of a term in one partition of the holder's rankings log."""

    region: str
    incarnation: str
    epoch: Epoch
    written_ms: int
    accepted: list[tuple[str, int, int]]
    """Rows `[rankings log, partition, next offset]`: of smaller epochs, everything from there on is stale."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(EpochMarker)


def epoch_header(epoch: Epoch) -> tuple[str, bytes]:
    """The header that says under which epoch an effect was made."""
    return HEADER_EPOCH, f"{epoch[0]}:{epoch[1]}".encode()


def read_epoch(raw: bytes | None) -> Epoch | None:
    """Read `b"0:1"`; None for anything else."""
    generation, _, revision = (raw or b"").partition(b":")
    if generation.isdigit() and revision.isdigit():
        return int(generation), int(revision)
    return None


def encode_marker(marker: EpochMarker) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Value and headers of a marker's record."""
    return _encoder.encode(marker), [epoch_header(marker.epoch), (HEADER_MARKER, b"1")]


def decode_marker(value: bytes | None, headers: Headers) -> EpochMarker | None:
    """The marker that a record is; None when it is none. Raises msgspec.DecodeError when it is malformed."""
    if header(headers, HEADER_MARKER) is None:
        return None
    return _decoder.decode(value or b"")


def is_stale(epoch: Epoch, position: Position, markers: Iterable[EpochMarker]) -> bool:
    """Whether a ranking made under `epoch` at `position` (log, partition, origin offset) counts no more.

    It does not when a larger epoch was begun whose marker does not accept that position.
    """
    return any(marker.epoch > epoch and not Frontier.from_rows(marker.accepted).covers(position) for marker in markers)
