"""Disks of their own for sites, small enough to be filled: a tmpfs on a site's directory, mounted before it starts.

A limit on the size of files would make writes fail too, but with another error than a full disk's, and would spare who
writes small files. Filling the machine's own disk was turned down for everybody else's sake.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from region_sim.errors import DrillBroken

MEBIBYTES = 512
"""etcd alone sets 128 aside for its log, before anything was written."""
UNMOUNT_SECONDS_MAX = 10.0
FILLER = ".filler"
LOGS = "logs"
CHUNK = bytes(1 << 20)


@contextlib.contextmanager
def small_disks(
    directory: Path, sites: Sequence[str], *, keep: bool = False, mebibytes: int = MEBIBYTES
) -> Iterator[None]:
    """Give each site's directory in a deployment's a disk of its own. Raises DrillBroken when that is refused.

    For the time of a block, after which nothing of the sites may run any more; of what they wrote only their programs'
    logs are left then. With `keep` the disks stay, and `umount` is for who keeps them.
    """
    if sites and os.geteuid() != 0:
        raise DrillBroken("refused: a disk of its own for a site needs root, to mount it: run the drill as root")
    mounted: list[Path] = []
    try:
        for site in sites:
            place = directory / site
            place.mkdir(parents=True, exist_ok=True)
            _mount(place, mebibytes)
            mounted.append(place)
        yield
    finally:
        for place in [] if keep else mounted:
            _unmount(place)


def is_small_disk(place: Path) -> bool:
    """Say whether a site's directory is a disk of its own."""
    return place.is_mount()


def fill(place: Path) -> int:
    """Write until the disk has no byte left; returns how many were written. Blocks. Raises DrillBroken."""
    if not is_small_disk(place):
        raise DrillBroken(
            f"refused: {place} is on the machine's own disk, which is not filled. A drill with a disk-full fault gives "
            "each region a small disk when it starts the deployment itself: leave out --attach"
        )
    written = 0
    with (place / FILLER).open("ab", buffering=0) as file:
        for size in (len(CHUNK), 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    written += file.write(CHUNK[:size])
    return written


def room(place: Path) -> int:
    """Bytes that can still be written."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def empty(place: Path) -> None:
    """Take away what `fill` wrote."""
    (place / FILLER).unlink(missing_ok=True)


def _mount(place: Path, mebibytes: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "meridian-drill", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DrillBroken(f"refused: this machine does not let us mount a disk for a site: {done.stderr.strip()}")


def _unmount(place: Path) -> None:
    """A process that has just ended may hold it for a moment. Raises DrillBroken."""
    beside = place.with_name(f".{place.name}-logs")
    if (place / LOGS).is_dir():
        shutil.copytree(place / LOGS, beside, dirs_exist_ok=True)
    deadline = time.monotonic() + UNMOUNT_SECONDS_MAX
    while True:
        done = subprocess.run(["umount", str(place)], capture_output=True, text=True, check=False)
        if done.returncode == 0 or not is_small_disk(place):
            if beside.is_dir():
                beside.replace(place / LOGS)
            return
        if time.monotonic() > deadline:
            subprocess.run(["umount", "--lazy", str(place)], check=False)
            raise DrillBroken(f"{place} was unmounted, but somebody still uses it: {done.stderr.strip()}")
        time.sleep(0.05)
