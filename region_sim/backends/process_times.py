"""What the regions of a running deployment are set to, read from a controller's own environment."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from region_sim.evidence import ControlTimes
from services.common.settings import SettingsError, load
from services.controller import settings
from services.controller.settings import ControllerSettings
from services.coordination.settings import CoordinationSettings
from services.region.run_file import ProcessIdentity

CONTROLLER = "controller"


class Hands(Protocol):
    """The part of ProcessBackend that is needed here."""

    @property
    def region_names(self) -> list[str]:
        """The regions."""

    def processes(self, site: str, names: list[str]) -> list[ProcessIdentity]:
        """The living processes of a site."""


def control_times(hands: Hands) -> ControlTimes | None:
    """The settings of the first controller that runs; None when none does, or it cannot be read."""
    for region in hands.region_names:
        for process in hands.processes(region, [CONTROLLER]):
            found = _times(Path(f"/proc/{process.pid}"))
            if found is not None:
                return found
    return None


def _times(process: Path) -> ControlTimes | None:
    """From the environment of a process that runs as this user."""
    try:
        raw = (process / "environ").read_bytes()
    except OSError:
        return None
    if not raw:
        return None  # The kernel shows it a moment after a process has begun; defaults would pass for what is set.
    pairs = (pair.partition("=") for pair in raw.decode(errors="replace").split("\0"))
    environment = {name: value for name, equals, value in pairs if equals}
    try:
        store = load(CoordinationSettings, environment)
        controller = load(ControllerSettings, environment)
    except SettingsError:
        return None
    return settings.control_times(store, controller)
