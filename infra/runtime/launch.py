"""Becomes another program that the kernel ends together with the process that started it.

A supervisor that is killed with SIGKILL cannot clean up after itself, so its children must not need it: before it
becomes the real program, this one asks the kernel (PR_SET_PDEATHSIG) to be killed when its parent ends. The setting
survives exec. It is bound to the parent's *thread*, so children are started from a thread that lives as long as the
process. Elsewhere than on Linux the program runs without that tie.

    python -I -S launch.py PARENT_PID PROGRAM [ARGUMENT...]
"""

import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def launch_command(command: list[str]) -> list[str]:
    """Return `command` tied to the calling process: what to give to Popen."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), *command]


def main() -> None:
    """Tie this process to its parent and become the program."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended already")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
