"""What can be set about a console."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec

from services.common.region_settings import LOOPBACK, Port
from services.common.settings import Secret, ServiceSettings

PORT_DEFAULT: Final = 8190
Positive = Annotated[int, msgspec.Meta(ge=1)]


class ConsoleSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One console; it keeps nothing, so any number of them may run."""

    TABLE: ClassVar[str] = "console"

    host: str = LOOPBACK
    """Where the console listens."""
    port: Port = PORT_DEFAULT
    """See `host`."""
    deployment: Path = Path("var/meridian")
    """The deployment's file, or the directory that holds it."""
    drills: Path = Path("drills")
    """Where `region-sim run` leaves its results; served read-only."""
    operate: bool = True
    """Whether operators may act from the page; where others than this machine reach it, only with a `token`."""
    token: Secret = Secret("")
    """What an operator types to act from the page; asked for whenever it is set."""
    names: tuple[str, ...] = ()
    """Under which names browsers may call it, besides localhost and addresses: of a proxy, of the machine."""
    look_ms: Positive = 1000
    """How often controllers and processes are asked; a change of the lease is heard at once."""
    lease_wait_ms: Annotated[int, msgspec.Meta(ge=50, le=10_000)] = 500
    """How long a controller may keep a question about the lease; the lease shown is at most so much older."""
    records_seconds: Annotated[float, msgspec.Meta(gt=0)] = 15.0
    """How often history and receipts are read when nothing points to a change of them."""
    drills_seconds: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    """How often the directory of drills is looked at."""
    watchers_max: Positive = 32
    """Pages that are kept up to date at the same time; one more is refused."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the page."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def why_read_only(self) -> str | None:
        """Return why nobody may act from the page, or None."""
        if not self.operate:
            return "this console was started read-only"
        if not self.is_local and not self.token:
            return (
                f"it listens on {self.host}, where others reach it, and has no token: set MERIDIAN_CONSOLE_TOKEN_FILE"
            )
        return None
