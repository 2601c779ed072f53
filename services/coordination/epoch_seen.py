"""The largest epoch that was ever seen here, on disk: what an etcd that was restored from a backup cannot know.

After a restore, etcd's revisions start again from the backup, so a new leader key could be created at a revision that
was used before. Whoever remembers a larger epoch raises the generation first, and a holder that meets a larger epoch
than its own does not serve.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from services.common.logging import get_logger

Epoch = tuple[int, int]
NOTHING_SEEN: Final[Epoch] = (-1, -1)

log = get_logger(__name__)


class Seen(msgspec.Struct, frozen=True):
    """What was seen, as it stands on disk."""

    epoch: Epoch = NOTHING_SEEN
    holder: str = ""
    """Which claim it was; empty when that is not known."""


class EpochSeen:
    """Grows only. Without a file it lasts as long as the process."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._seen = _read(file) if file is not None else Seen()

    @property
    def epoch(self) -> Epoch:
        """The largest epoch seen."""
        return self._seen.epoch

    def admits(self, epoch: Epoch, holder: str) -> bool:
        """Whether `holder` may act under `epoch`: it is larger than all others that were seen."""
        return epoch > self._seen.epoch or (epoch == self._seen.epoch and holder == self._seen.holder)

    def observe(self, epoch: Epoch, holder: str = "") -> bool:
        """Take note of an epoch; True when it is the largest yet. On disk before this returns. Raises OSError."""
        if epoch <= self._seen.epoch:
            return False
        seen = Seen(epoch, holder)
        if self._file is not None:
            _write(self._file, seen)
        self._seen = seen
        return True


def _read(file: Path) -> Seen:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Seen)
    except FileNotFoundError:
        return Seen()
    except (OSError, msgspec.DecodeError) as problem:
        # Forgetting is safe as long as the store was not restored; refusing to start would never be mended by itself.
        log.warning("what epoch was seen cannot be read, starting without it", file=str(file), reason=str(problem))
        return Seen()


def _write(file: Path, seen: Seen) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    with beside.open("wb") as out:
        out.write(msgspec.json.encode(seen))
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)
