"""Two regions and a witness for one demonstration: their own directory, free ports, and down again in all cases.

They are started, healed and ended by the commands that a user has. Losing a region is real: every process of it ends by
signal 9 at once, by its number together with its start time, and then everything that it had on disk is deleted.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from infra.runtime.kafka import port_is_free
from services.common.clock import Clock
from services.common.deployment import DEPLOYMENT_FILE, SITE_PORTS, Deployment, load_deployment
from services.controller.client import LeaseAnswer
from services.demo.errors import DemoError
from services.demo.region import MARK
from services.processor.client import StateSummary, state
from services.receipts.model import Receipt
from services.region import run_file

REGIONS = ("east", "west")
WITNESS = "north"
SITE_STEP = 20
FIRST_PORT, LAST_PORT = 20_000, 31_000
UP_SECONDS_MAX = 240
DOWN_SECONDS_MAX = 120
POLL_SECONDS = 0.25
ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class DemoDeployment:
    """Running regions."""

    home: Path
    sites: Deployment

    @property
    def gateways(self) -> list[str]:
        """Where events and questions go."""
        return [site.url("gateway") for site in self.sites.regions]

    def lose(self, region: str) -> None:
        """Kill everything of a region at once, and delete all that it had. Raises DemoError when it does not run."""
        directory = self.sites.site_dir(region)
        record = run_file.read(directory)
        if record is None:
            raise DemoError(f"region {region} does not run: {directory / run_file.RUN_FILE} is not there")
        members = [record.supervisor, *(process.identity for process in record.processes)]
        for member in members:
            if member is not None:
                run_file.send(member, signal.SIGKILL)
        shutil.rmtree(directory)

    def heal(self, region: str) -> None:
        """Start a lost region again, on an empty disk. Raises DemoError."""
        self._meridian("up", "--site", region, "--data-dir", str(self.home), "--detach", seconds_max=UP_SECONDS_MAX)

    def processor_starts(self, region: str) -> int:
        """How often the region's processor was started since the region itself was; 0 when it does not live."""
        record = run_file.read(self.sites.site_dir(region))
        found = [p for p in record.processes if p.name == "processor"] if record is not None else []
        return found[0].restarts + 1 if found and run_file.is_alive(found[0].identity) else 0

    async def leader(self) -> str | None:
        """The region that serves rankings now, as the controllers see it; None when nobody does."""
        async with _session() as session:
            for site in self.sites.regions:
                try:
                    async with session.get(f"{site.url('control')}/v1/lease") as response:
                        answer = msgspec.json.decode(await response.read(), type=LeaseAnswer)
                except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
                    continue
                if answer.leader is not None and answer.leader.serving:
                    return answer.leader.region
        return None

    async def receipts(self) -> list[Receipt]:
        """All receipts, as the first controller that answers knows them. Raises DemoError when none does."""
        async with _session() as session:
            for site in self.sites.regions:
                try:
                    async with session.get(f"{site.url('control')}/v1/receipts") as response:
                        return msgspec.json.decode(await response.read(), type=ReceiptList).receipts
                except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
                    continue
        raise DemoError("no controller shows its receipts")

    async def states(self) -> dict[str, StateSummary]:
        """Frontier and digest of every region that answers."""
        found = {}
        async with _session() as session:
            for site in self.sites.regions:
                try:
                    found[site.name] = await state(session, site.url("processor"))
                except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
                    continue
        return found

    async def agreed(self, wait_seconds: float, clock: Clock) -> dict[str, StateSummary] | None:
        """The regions' states once all stand at one frontier and nothing moves; None when they do not in time."""
        deadline = clock.monotonic() + wait_seconds
        while clock.monotonic() < deadline:
            found = await self.states()
            frontiers = [[row for row in summary.frontier if row[2]] for summary in found.values()]
            if len(found) == len(self.sites.regions) and all(frontier == frontiers[0] for frontier in frontiers):
                return found
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def receipt_about(self, incarnation: str, wait_seconds: float, clock: Clock) -> Receipt | None:
        """The receipt about a lost life, once it is closed; as it stands when that takes too long; None without one."""
        deadline = clock.monotonic() + wait_seconds
        while True:
            about = [receipt for receipt in await self.receipts() if receipt.incarnation == incarnation]
            closed = [receipt for receipt in about if receipt.state != "open"]
            if closed or clock.monotonic() >= deadline:
                return next(iter(closed or about), None)
            await asyncio.sleep(POLL_SECONDS)

    def _meridian(self, *words: str, seconds_max: float) -> None:
        run_meridian(*words, seconds_max=seconds_max, logs=self.home)


class ReceiptList(msgspec.Struct):
    """The answer of `GET /v1/receipts`."""

    receipts: list[Receipt]


@contextmanager
def running_deployment(home: Path) -> Iterator[DemoDeployment]:
    """Start two regions and a witness in `home`, fresh, and take them down at the end whatever happens.

    Raises DemoError.
    """
    home = home.absolute()
    _remove_previous(home)
    home.mkdir(parents=True)
    (home / MARK).touch()
    try:
        run_meridian(
            "up", "--regions", ",".join(REGIONS), "--witness", WITNESS, "--data-dir", str(home), "--base-port",
            str(_free_base()), "--detach", seconds_max=UP_SECONDS_MAX, logs=home,
        )  # fmt: skip
        yield DemoDeployment(home, load_deployment(home))
    finally:
        _take_down(home)


def run_meridian(*words: str, seconds_max: float, logs: Path) -> None:
    """Run a `meridian` command to its end. Raises DemoError."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_REGION_")}
    try:
        ended = subprocess.run(  # noqa: S603 - this project's own command
            [sys.executable, "-m", "services.cli", *words],
            env={**environment, "MERIDIAN_KAFKA_BOOTSTRAP": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=seconds_max,
        )
    except subprocess.TimeoutExpired:
        raise DemoError(f"`meridian {words[0]}` took more than {seconds_max:g} s; see the logs in {logs}") from None
    if ended.returncode != 0:
        raise DemoError(f"`meridian {' '.join(words)}` ended with {ended.returncode}: {ended.stderr.strip()[-800:]}")


def _free_base() -> int:
    ports = [SITE_STEP * site + offset for site in range(len(REGIONS) + 1) for offset in range(SITE_PORTS)]
    start = FIRST_PORT + os.getpid() * 61 % (LAST_PORT - FIRST_PORT)
    base: int
    for base in [*range(start, LAST_PORT, 100), *range(FIRST_PORT, start, 100)]:
        if all(port_is_free(base + port) for port in ports):
            return base
    raise DemoError(f"no free ports for {len(REGIONS)} regions between {FIRST_PORT} and {LAST_PORT}")


def _remove_previous(home: Path) -> None:
    if not home.exists():
        return
    if not (home / MARK).exists():
        raise DemoError(
            f"{home} was not made by a demonstration: move it away, or choose another directory with --home"
        )
    _take_down(home)
    shutil.rmtree(home)


def _take_down(home: Path) -> None:
    """End all sites. Raises DemoError when something of them lives on."""
    if not (home / DEPLOYMENT_FILE).exists():
        return
    records = [run_file.read(site) for site in home.iterdir() if site.is_dir()]
    run_meridian("down", "--data-dir", str(home), seconds_max=DOWN_SECONDS_MAX, logs=home)
    members = [
        identity
        for record in records
        if record is not None
        for identity in (record.supervisor, *(process.identity for process in record.processes))
    ]
    alive = [member.pid for member in members if member is not None and run_file.is_alive(member)]
    if alive:
        raise DemoError(f"processes {alive} of the regions in {home} live on: end them by hand")


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS))
