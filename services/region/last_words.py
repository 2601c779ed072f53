"""The last thing that a process said: what an operator wants to read first when it is gone."""

from __future__ import annotations

import json
from pathlib import Path

TAIL_BYTES = 16 << 10
WORDS_MAX = 400


def last_words(log: Path) -> str:
    """Return the last line of a log as one sentence: of a JSON line its reason or event, of a traceback its error."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        words = _sentence(line.strip())
        if words:
            return words[:WORDS_MAX]
    return ""


def _sentence(line: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return str(entry.get("reason") or entry.get("event") or "") if isinstance(entry, dict) else line
