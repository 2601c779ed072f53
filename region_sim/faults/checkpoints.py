"""What a broker's log directory remembers of its partitions beside their segments, and how to make it forget some."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

CHECKPOINTS: Final = (
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    "log-start-offset-checkpoint",
    "cleaner-offset-checkpoint",
)
CLEAN_SHUTDOWN: Final = ".kafka_cleanshutdown"
KEPT: Final = ("partition.metadata",)
"""Which topic the directory belongs to: without it a broker would not take it for a partition's."""


def without(checkpoint: str, partitions: Collection[str]) -> str:
    """A checkpoint file's text (version, count, `topic partition offset` lines) without some partitions.

    Partitions are named as their directories are: `topic-3`. Raises ValueError when it is no such text.
    """
    if not checkpoint:
        return checkpoint  # as a broker makes them, before it writes them for the first time
    version, count, *lines = checkpoint.splitlines()
    if int(count) != len(lines):
        raise ValueError(f"the checkpoint counts {count} partitions and lists {len(lines)}")
    kept = [line for line in lines if _directory(line) not in partitions]
    return "\n".join([version, str(len(kept)), *kept]) + "\n"


def forget(logs: Path, partitions: Collection[str]) -> int:
    """Delete what these partitions hold, and what is remembered of their length; returns the bytes taken.

    The broker that owns the directory must not run. Blocks. Raises OSError, ValueError.
    """
    paths = [logs / name for name in CHECKPOINTS if (logs / name).exists()]
    changed = {path: without(path.read_text(encoding="utf-8"), partitions) for path in paths}
    taken = 0
    for name in partitions:
        for file in sorted((logs / name).iterdir()):
            if file.is_file() and file.name not in KEPT:
                taken += file.stat().st_size if file.suffix == ".log" else 0
                file.unlink()
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")
    (logs / CLEAN_SHUTDOWN).unlink(missing_ok=True)
    return taken


def _directory(line: str) -> str:
    topic, partition, _ = line.rsplit(" ", 2)
    return f"{topic}-{partition}"
