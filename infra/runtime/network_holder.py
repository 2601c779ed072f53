"""Holds the network namespaces of a deployment open: they last as long as somebody refers to them.

It runs in the outside namespace, makes one namespace a site, and keeps each under a known file descriptor, so that
`/proc/PID/fd/N` is the way in: no mounts, no names in /run, and nothing to clean up when it ends. It ends by a signal,
or by itself when the deployment's directory is gone.

    python -I -S network_holder.py DIRECTORY COUNT
"""

import ctypes
import os
import sys
import time

CLONE_NEWNET = 0x40000000
SITE_FD_FIRST = 100
LOOK_SECONDS = 5.0


def main() -> None:
    """Make the namespaces, say so, and hold them."""
    directory, count = sys.argv[1], int(sys.argv[2])
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    for index in range(count):
        _check(libc.unshare(CLONE_NEWNET), "unshare")
        made = os.open("/proc/self/ns/net", os.O_RDONLY)
        os.dup2(made, SITE_FD_FIRST + index)
        os.close(made)
    _check(libc.setns(outside, CLONE_NEWNET), "setns")
    print("ready", flush=True)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    while os.path.isdir(directory):  # noqa: PTH112 - without site-packages and as small as it gets
        time.sleep(LOOK_SECONDS)


def _check(outcome: int, call: str) -> None:
    if outcome != 0:
        sys.exit(f"{call}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
