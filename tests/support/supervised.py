"""Runs the real supervisor over small child processes, in a process of its own: what the tests of supervision kill.

python -m tests.support.supervised DATA_DIR PORT_A PORT_B
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from services.region.errors import RegionError
from services.region.plan import Launch, ProcessPlan, RegionPlan
from services.region.supervision import RestartPolicy
from services.region.supervisor import Supervisor

CHILD = Path(__file__).with_name("child_process.py")
POLICY = RestartPolicy(backoff_first_seconds=0.1, backoff_seconds_max=0.4, stop_grace_seconds=5.0)


def plan(data_dir: Path, ports: list[int]) -> RegionPlan:
    """A log, a step that succeeds unless `refuse` exists, and a reader that needs the step."""
    step = (
        "import pathlib, sys; p = pathlib.Path(sys.argv[1]); refuse = p / 'refuse'; (p / 'steps').open('a').write('x');"
        "print(refuse.read_text()) if refuse.exists() else None; sys.exit(66 if refuse.exists() else 0)"
    )
    return RegionPlan(
        "test",
        data_dir,
        (
            process(data_dir, "log", [str(CHILD), str(ports[0]), str(data_dir / "exit-log")], (), ports[0]),
            process(data_dir, "step", ["-c", step, str(data_dir)], ("log",), None),
            process(
                data_dir, "reader", [str(CHILD), str(ports[1]), str(data_dir / "exit-reader")], ("step",), ports[1]
            ),
        ),
    )


def process(data_dir: Path, name: str, words: list[str], needs: tuple[str, ...], port: int | None) -> ProcessPlan:
    """One child."""
    return ProcessPlan(
        name,
        lambda: Launch([sys.executable, *words], dict(os.environ)),
        data_dir / f"{name}.log",
        needs=needs,
        is_step=port is None,
        port=port,
        ready_path=None if port is None else "/readyz?verbose",
    )


def main() -> int:
    """Supervise until a signal; progress goes to standard output."""
    data_dir = Path(sys.argv[1])
    supervisor = Supervisor(
        plan(data_dir, [int(word) for word in sys.argv[2:]]),
        POLICY,
        lambda name, sentence: print(name, sentence, flush=True),
        lambda _: print("READY", flush=True),
    )
    try:
        return supervisor.run()
    except RegionError as error:
        print(error)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
