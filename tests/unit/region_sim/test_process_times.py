"""What regions are set to is read from a controller that runs: nobody has to say it twice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from region_sim.backends.process_times import control_times
from services.region import run_file
from services.region.run_file import ProcessIdentity
from tests.support.poll import wait_until


class Hands:
    """A deployment of which one process runs."""

    region_names = ["east", "west"]  # noqa: RUF012 - a fake

    def __init__(self, running: dict[str, list[ProcessIdentity]]) -> None:
        self._running = running

    def processes(self, site: str, names: list[str]) -> list[ProcessIdentity]:
        """See ProcessBackend."""
        assert names == ["controller"]
        return self._running.get(site, [])


@contextmanager
def controller(**variables: str) -> Iterator[ProcessIdentity]:
    """A process with these variables."""
    with subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], **variables}) as child:
        environ = Path(f"/proc/{child.pid}/environ")
        wait_until(environ.read_bytes, 10, "the kernel to show what the process was given")
        identity = run_file.identify(child.pid)
        assert identity is not None
        try:
            yield identity
        finally:
            child.kill()


def test_the_settings_of_a_running_controller_are_found() -> None:
    """Those that its environment changes, and the defaults of the others."""
    variables = {"MERIDIAN_COORDINATION_LEASE_TTL_SECONDS": "5", "MERIDIAN_CONTROLLER_CYCLE_MS": "100"}
    with controller(**variables) as identity:
        times = control_times(Hands({"west": [identity]}))
    assert times is not None
    assert (times.lease_ttl, times.cycle) == (5.0, 0.1)
    assert (times.renew_interval, times.request_timeout, times.observe, times.rank_delay) == (0.4, 0.3, 0.5, 0.4)
    assert times.etcd_election == 2.0


def test_without_a_controller_nothing_is_known() -> None:
    """Nor from one whose settings cannot be read."""
    assert control_times(Hands({})) is None
    with controller(MERIDIAN_CONTROLLER_CYCLE_MS="often") as identity:
        assert control_times(Hands({"east": [identity]})) is None
