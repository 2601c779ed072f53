"""Running the part of a drill that has to be inside the deployment's network, as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from region_sim.errors import DrillBroken
from region_sim.interrupted import undisturbed

LET_GO_SECONDS_MAX = 60.0


def carry_out_inside(directory: Path, enter: Callable[[list[str]], list[str]], *, quiet: bool) -> None:
    """Carry out the order that lies in `directory`, by a command that `enter` has made to run where clients are.

    Raises DrillBroken; interrupted, it first lets faults go.
    """
    command = enter([sys.executable, "-m", "region_sim.inside", str(directory)])
    # A session of its own: Ctrl-C on a terminal is for us, and passed on once, or its own tidying would be disturbed.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if quiet else None,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, said = child.communicate()
    except BaseException:
        with undisturbed():
            _end(child)
        raise
    if child.returncode != 0:
        raise DrillBroken(f"{said.strip()[-2000:]} (see {directory})")


def _end(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.communicate(timeout=LET_GO_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
