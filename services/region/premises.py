"""What the step before the users of a region's logs has of its site: its broker, its disk, its processes, its peers.

The step itself (`life`) knows none of these, so that the simulator can give it others.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Final, Protocol

import aiohttp
import msgspec

from services.common.deployment import Deployment
from services.common.logging import get_logger
from services.common.own_ends import read_own_ends
from services.common.region_settings import RegionSettings
from services.region import run_file
from services.region.broker import log_ends
from services.region.renewal import Renewal, ask_for_renewal

LIFE_FILE: Final = "life.json"
USERS_OF_LOGS: Final = ("gateway", "processor", "replicator", "controller")

log = get_logger(__name__)


class OwnLife(msgspec.Struct, frozen=True):
    """Which life the region's directory is in, kept in it: what a store from an old backup does not know."""

    number: int
    cluster_id: str


class Premises(Protocol):
    """One site, as far as the step asks it."""

    @property
    def name(self) -> str:
        """The region's."""

    @property
    def partitions(self) -> int:
        """Of each of its logs."""

    def deployment(self) -> Deployment:
        """What the region is part of."""

    def session(self) -> aiohttp.ClientSession:
        """What peers are asked with; opened and closed by who asks."""

    async def ends(self, places: Iterable[tuple[str, int]]) -> dict[str, dict[int, int]]:
        """The offset after the last record of each (log, partition) of its broker. Raises BrokerSilent."""

    def acknowledged(self, log: str) -> dict[int, int]:
        """How far its own disk knows a log to be acknowledged, by partition. Raises OSError."""

    def own_life(self) -> OwnLife | None:
        """What was remembered last; None: nothing was, or it cannot be read."""

    def remember(self, own: OwnLife) -> None:
        """Keep which life this is, before anything is written under its name. Raises OSError."""

    def users(self) -> list[str]:
        """The names of its processes that read or write its logs now."""

    def ask_for_renewal(self, renewal: Renewal) -> None:
        """Leave the wish that Kafka begin anew where the broker's next start finds it. Raises OSError."""


class SitePremises:
    """A site on this machine."""

    def __init__(self, region: RegionSettings) -> None:
        self._region = region

    @property
    def name(self) -> str:
        """See Premises."""
        return self._region.name

    @property
    def partitions(self) -> int:
        """See Premises."""
        return self._region.partitions

    def deployment(self) -> Deployment:
        """See Premises. Raises SettingsError."""
        return self._region.load_deployment()

    def session(self) -> aiohttp.ClientSession:
        """See Premises."""
        return aiohttp.ClientSession()

    async def ends(self, places: Iterable[tuple[str, int]]) -> dict[str, dict[int, int]]:
        """See Premises."""
        return await asyncio.to_thread(log_ends, self._region.bootstrap, places)

    def acknowledged(self, log: str) -> dict[int, int]:
        """See Premises."""
        return read_own_ends(self._region.data_dir, log)

    def own_life(self) -> OwnLife | None:
        """See Premises."""
        try:
            return msgspec.json.decode((self._region.data_dir / LIFE_FILE).read_bytes(), type=OwnLife)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as problem:
            log.warning("which life this was cannot be read; the coordination store says it", reason=str(problem))
            return None

    def remember(self, own: OwnLife) -> None:
        """See Premises."""
        path = self._region.data_dir / LIFE_FILE
        beside = path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(msgspec.json.encode(own))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    def users(self) -> list[str]:
        """See Premises."""
        record = run_file.read(self._region.data_dir)
        return [
            process.name
            for process in (record.processes if record else [])
            if process.name in USERS_OF_LOGS and run_file.is_alive(process.identity)
        ]

    def ask_for_renewal(self, renewal: Renewal) -> None:
        """See Premises."""
        ask_for_renewal(self._region, renewal)
