"""The history of a drill: what clients outside the regions asked and were told, one JSON object a line.

After Jepsen: each call is an `invoke`, and later an `ok` (it happened), a `fail` (it did not) or an `info` (nobody
knows, and nobody ever will). Checkers read this file and nothing else, so anybody can check again, with other tools.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

import msgspec

from region_sim.errors import HistoryDamaged
from region_sim.evidence import Epoch, Evidence
from services.common.clock import Clock
from services.ledger.acks import Ack

EntryType = Literal["invoke", "ok", "fail", "info"]
NO_CALL = -1


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that a client is about to publish."""

    source: str
    id: str
    time_ms: int
    kind: str
    user: str = ""
    item: str = ""
    query: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line."""

    index: int
    type: EntryType
    op: str
    """search, publish, fault, heal, phase, collect, ..."""
    process: str
    """Who: library-east, bare-west, nemesis, conductor, collector."""
    monotonic_seconds: float
    unix_ms: int
    call: int = NO_CALL
    """Index of the invoke that this completes."""
    region: str = ""
    """Who answered; for a fault: whom it hits."""
    epoch: Epoch | None = None
    url: str = ""
    said: list[Said] = []
    acks: list[Ack] = []
    """Events that were acknowledged, with their coordinates."""
    refused: list[str] = []
    unknown: list[str] = []
    """Ids of events whose fate nobody told."""
    rung: str = ""
    error: str = ""
    note: str = ""
    evidence: Evidence | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


class HistoryWriter:
    """Appends entries; a `with` block closes the file. All of a drill's clients share one.

    Without a path nothing is written to disk: whoever runs thousands of drills reads `entries` instead.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] | None = None if path is None else path.open("wb")
        self._clock = clock
        self.entries: list[Entry] = []
        """All of them, when there is no file."""
        self.written = 0
        self.answers: Counter[str] = Counter()
        """Accepted rankings by region, for whoever waits for the first of another one."""
        self.newest: tuple[str, Epoch] | None = None
        """The region and the epoch of the newest accepted ranking that bore a larger epoch than those before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(
        self,
        type: EntryType,
        op: str,
        process: str,
        *,
        call: int = NO_CALL,
        region: str = "",
        epoch: Epoch | None = None,
        url: str = "",
        said: list[Said] | None = None,
        acks: list[Ack] | None = None,
        refused: list[str] | None = None,
        unknown: list[str] | None = None,
        rung: str = "",
        error: str = "",
        note: str = "",
        evidence: Evidence | None = None,
    ) -> Entry:
        """Write one entry with the time of now, and return it."""
        entry = Entry(
            index=self.written,
            type=type,
            op=op,
            process=process,
            monotonic_seconds=round(self._clock.monotonic(), 6),
            unix_ms=self._clock.unix_ms(),
            call=call,
            region=region,
            epoch=epoch,
            url=url,
            said=said or [],
            acks=acks or [],
            refused=refused or [],
            unknown=unknown or [],
            rung=rung,
            error=error[:300],
            note=note,
            evidence=evidence,
        )
        if self._file is None:
            self.entries.append(entry)
        else:
            self._file.write(_encoder.encode(entry) + b"\n")
        self.written += 1
        if op == "search" and type == "ok":
            self.answers[region] += 1
            if epoch is not None and (self.newest is None or epoch > self.newest[1]):
                self.newest = region, epoch
        return entry

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if self._file is not None:
            self._file.flush()


def digest_of(entries: Iterable[Entry]) -> str:
    """A hash of a history: two runs that gave the same one did the same, entry for entry."""
    hashed = hashlib.sha256()
    for entry in entries:
        hashed.update(_encoder.encode(entry) + b"\n")
    return hashed.hexdigest()


def read_history(path: Path) -> Iterator[Entry]:
    """The entries of a file, in order. Raises HistoryDamaged for a damaged, missing or repeated line."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines):
                try:
                    entry = _decoder.decode(line)
                except msgspec.MsgspecError as error:
                    raise HistoryDamaged(f"{path}, line {number + 1}: {error}") from error
                if entry.index != number:
                    raise HistoryDamaged(f"{path}, line {number + 1} has index {entry.index}: lines are missing")
                yield entry
    except OSError as error:
        raise HistoryDamaged(f"{path} cannot be read: {error.strerror}") from error
