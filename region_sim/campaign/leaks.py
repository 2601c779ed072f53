"""What a deployment holds of the machine: processes, network namespaces, files. What it still holds afterwards leaked.

Found by the deployment's own directory, which every one of its processes names on its command line or works in, so
that nothing of another deployment is counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SELF = Path("/proc")
TEMPORARY = Path("/tmp")  # noqa: S108 - looked at, never written
OURS = "meridian"


@dataclass(frozen=True, slots=True)
class Held:
    """What is held at one moment."""

    processes: dict[int, str]
    """By process id: the beginning of the command line."""
    namespaces: frozenset[str]
    """Network namespaces of all processes that can be seen, by their numbers."""
    files: frozenset[str]
    """Files and directories beside the deployment's, and those in the machine's temporary directory that bear the
    project's name."""


def held(directory: Path) -> Held:
    """Look at what the deployment in `directory` holds now."""
    processes: dict[int, str] = {}
    namespaces: set[str] = set()
    for place in SELF.glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            works_in = (place / "cwd").readlink().as_posix()
            namespaces.add((place / "ns" / "net").readlink().as_posix())
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
        # With what ends it, so that a directory of a longer name is another one.
        named = re.search(rf"{re.escape(str(directory))}(/|\s|$)", words) is not None
        if named or f"{works_in}/".startswith(f"{directory}/"):
            processes[int(place.name)] = words[:160]
    beside = {path.name for path in directory.parent.iterdir()} if directory.parent.is_dir() else set()
    temporary = {path.name for path in TEMPORARY.glob(f"*{OURS}*")}
    return Held(processes, frozenset(namespaces), frozenset(beside | temporary))


def grown(before: Held, after: Held) -> list[str]:
    """What one run of a drill left behind in a deployment that goes on; other processes in equal number are no leak."""
    found = []
    if len(after.processes) > len(before.processes):
        extra = [words for pid, words in sorted(after.processes.items()) if pid not in before.processes]
        found.append(f"{len(after.processes)} processes instead of {len(before.processes)}, such as {extra[0]}")
    if len(after.namespaces) > len(before.namespaces):
        found.append(f"{len(after.namespaces)} network namespaces instead of {len(before.namespaces)}")
    new = sorted(after.files - before.files)
    if new:
        found.append(f"files were left: {', '.join(new[:5])}")
    return found


def left(before: Held, after: Held) -> list[str]:
    """What a deployment that has ended still holds."""
    found = [f"process {pid} lives on: {words}" for pid, words in sorted(after.processes.items())]
    new = sorted(after.namespaces - before.namespaces)
    if new:
        found.append(f"{len(new)} network namespaces are left")
    return found
