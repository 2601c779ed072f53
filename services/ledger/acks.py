"""What an app was promised: one line for each acknowledged event.

The app writes the line itself, when the acknowledgement arrives, so the file says what the app may rely on
and nothing that only the region knows. Each line holds what makes the event recognisable in the raw log."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from services.ledger.errors import AcksUnreadable


class Ack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An acknowledged event: where the region says it lies, and what it said."""

    source: str
    id: str
    time_ms: int
    kind: str
    log: str
    partition: int
    offset: int
    index: int = 0
    query: str = ""
    item: str = ""
    user: str = ""
    acknowledged_ms: int = 0
    """When the app had the acknowledgement, by its own clock; 0: not written down."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Ack)


class AckWriter:
    """Appends acknowledgements to a JSONL file; a `with` block closes it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab")
        self.written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, ack: Ack) -> None:
        """Add one line."""
        self._file.write(_encoder.encode(ack) + b"\n")
        self.written += 1


def read_acks(path: Path) -> Iterator[Ack]:
    """The acknowledgements in a file. Raises AcksUnreadable with the line that is damaged."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield _decoder.decode(line)
                except msgspec.MsgspecError as error:
                    raise AcksUnreadable(
                        f"{path}, line {number}: {error}; a last line that was cut short was being written "
                        "when the app died: remove it. Anywhere else, the file cannot be trusted"
                    ) from error
    except OSError as error:
        raise AcksUnreadable(f"{path} cannot be read: {error.strerror}; write it with --acks") from error
