"""One site: its machine's clock, its broker, its disk, and the processes that its supervisor keeps running.

Disks outlive processes and do not outlive a wipe. A process that ends is started again after a second; a whole site
that was killed stays down until `start`. Before anything reads or writes logs, the preparing step finds out which life
this is, exactly as in a real region.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from region_sim.memory.clocks import MachineClock
from region_sim.memory.controller import ControllerPart
from region_sim.memory.gateway import GatewayPart
from region_sim.memory.inference import GOOD, WRONG, InferencePart, Model
from region_sim.memory.kafka import LocalKafka
from region_sim.memory.kernel import Process
from region_sim.memory.logs import Broker, BrokerError
from region_sim.memory.prepare import prepare
from region_sim.memory.processor import ProcessorPart
from region_sim.memory.replicator import ReplicatorPart
from services.common.region_settings import RegionSettings
from services.coordination.base import CoordinationError
from services.coordination.lease import LeaseStore
from services.gateway.errors import LogCut
from services.region.broker import BrokerSilent
from services.region.life import LifeDrained, LifeOver, PeersMissing
from services.region.supervision import RestartPolicy
from streams.errors import LogTruncated

if TYPE_CHECKING:
    from region_sim.memory.world import World

USERS: Final = ("inference", "processor", "gateway", "replicator", "controller")
"""What reads or writes logs, or asks those who do: runs once the preparing step is done."""
PROCESSES: Final = ("etcd", "kafka", *USERS)
SUPERVISOR: Final = "supervisor"
END_SECONDS_MAX: Final = RestartPolicy().stop_grace_seconds
"""What did not end so long after it was told to is killed, as by the shipped supervisor."""
END_LOOK_SECONDS: Final = 0.05
_SURVIVES_NEW_LOG: Final = ("epoch_seen", "receipts", "life")


class Part(Protocol):
    """What one start of a process does."""

    async def run(self) -> None:
        """Work until it is killed; returning or raising ends the process."""

    def blocker(self) -> str | None:
        """Why it is not ready, by its own word; None when it is."""


class MemorySite:
    """A site of a world. `name`; `is_witness`: it only votes."""

    def __init__(self, world: World, name: str, *, is_witness: bool) -> None:
        self.world = world
        self.name = name
        self.is_witness = is_witness
        number = world.site_names.index(name)
        self.clock = MachineClock(world.kernel, offset_seconds=1_000.0 * number)
        self._draw = random.Random(world.draw.getrandbits(64))  # noqa: S311 - chance of a simulation
        self.broker = Broker(name, self.clock, self._draw)
        self.kafka = LocalKafka(self.broker, self._kafka_is_up, self._kafka_stopped)
        self.disk: dict[str, Any] = {}
        """What survives a process and not a wipe."""
        self.model: Model = GOOD
        """What lies in the site's model directory; an inference worker loads it at its start."""
        self.parts: dict[str, Part] = {}
        """The last start of each process."""
        self.processes: dict[str, Process] = {"etcd": world.etcd.member(name).process}
        """By name; an entry of a process that ended says so by `is_alive`."""
        self.incarnation = ""
        """The life that the region is in, as its preparing step found it."""
        self.is_running = False
        """Whether its supervisor runs."""
        self.endings: list[str] = []
        """Why processes ended by themselves, in order."""
        self._supervisor: Process | None = None
        self._serving_kafka = False
        self._news: asyncio.Event
        self.region = self._region_settings()

    # What a drill does.

    def start(self) -> None:
        """Start what is not running; returns at once."""
        if self.is_running:
            return
        self.is_running = True
        if not self.processes["etcd"].is_alive:
            self.processes["etcd"] = self.world.etcd.restart(self.name)
        self._supervisor = self.processes[SUPERVISOR] = self.world.kernel.process(f"{self.name}/{SUPERVISOR}")
        self._launch(self._supervisor, self._supervise())

    def kill(self, names: Sequence[str] = ()) -> None:
        """SIGKILL to single processes, which their supervisor starts again; without names to all, it included."""
        if not names:
            self.is_running = False
        for name in names or [*self.processes]:
            self._kill(name)

    def pause(self, names: Sequence[str] = ()) -> None:
        """SIGSTOP."""
        for name in names or [*self.processes]:
            if name in self.processes:
                self.world.kernel.pause(self.processes[name])

    def resume(self, names: Sequence[str] = ()) -> None:
        """SIGCONT."""
        for name in names or [*self.processes]:
            if name in self.processes:
                self.world.kernel.resume(self.processes[name])

    async def end(self) -> list[str]:
        """SIGTERM to its supervisor: nothing is started again, what needs others ends before them.

        The gateway and the controller run their shipped endings. The others keep nothing that a log or a snapshot does
        not hold as well, so they are killed at once, which is harder on the region. etcd hands its lead on, as etcd
        does, and the broker ends last. Returns, when all ended, what had to be killed because it did not in time.
        """
        ending = dict(self.processes)
        self.is_running = False
        self._kill(SUPERVISOR)
        if self.world.etcd.leader == self.name:
            any(self.world.etcd.move_leader(other) for other in self.world.site_names if other != self.name)
        waited_for = [name for name in USERS if name in ending and ending[name].is_alive and self._told_to_end(name)]
        for name, process in ending.items():
            if name != "kafka" and name not in waited_for:
                self.world.kernel.kill(process)
        deadline = self.world.kernel.time() + END_SECONDS_MAX
        while any(ending[name].is_alive for name in waited_for) and self.world.kernel.time() < deadline:
            await self.world.clock.sleep(END_LOOK_SECONDS)
        forced: list[str] = [name for name in waited_for if ending[name].is_alive]
        for process in ending.values():
            self.world.kernel.kill(process)
        return forced

    def _told_to_end(self, name: str) -> bool:
        """Tell a process to end, if there is more to its end than to be gone."""
        part = self.parts.get(name)
        if not isinstance(part, GatewayPart | ControllerPart):
            return False
        part.end()
        return True

    def wipe(self) -> None:
        """SIGKILL to everything, and its disk is empty: the log, the snapshots, the etcd member."""
        self.kill()
        self.world.etcd.wipe(self.name)
        self.broker.wipe()
        self.disk = {}
        self.incarnation = ""

    def not_ready(self) -> str | None:
        """Why it is not up by its own word; None when all of its processes run."""
        wanted = ("etcd",) if self.is_witness else PROCESSES
        for name in wanted:
            process = self.processes.get(name)
            if process is None or not process.is_alive or process.is_paused:
                return f"{self.name}: {name} does not run"
            part = self.parts.get(name)
            if part is not None and (why := part.blocker()) is not None:
                return f"{self.name}: {name}: {why}"
        return None if self.is_witness or self._serving_kafka else f"{self.name}: kafka is starting"

    @property
    def model_is_good(self) -> bool:
        """Whether what lies in the model directory is what was put there; a worker loads it at its start."""
        return self.model == GOOD

    @model_is_good.setter
    def model_is_good(self, is_good: bool) -> None:
        self.model = GOOD if is_good else WRONG

    # What its parts need.

    def worker(self) -> InferencePart:
        """The inference worker that runs now."""
        found = self.parts["inference"]
        assert isinstance(found, InferencePart)
        return found

    def random_bytes(self, count: int) -> bytes:
        """Chance of this site, from the world's seed."""
        return self._draw.randbytes(count)

    def region_of_life(self) -> RegionSettings:
        """The settings with the life that the supervisor says."""
        return msgspec.structs.replace(self.region, incarnation=self.incarnation)

    def store(self, process: Process) -> LeaseStore:
        """The coordination store as a process of this site reaches it."""
        settings = self.world.settings
        return self.world.etcd.store(
            self.name,
            process,
            self.clock,
            request_timeout_seconds=settings.request_timeout,
            watch_silence_seconds=settings.watch_silence,
        )

    def _kafka_is_up(self) -> bool:
        process = self.processes.get("kafka")
        return self._serving_kafka and process is not None and process.is_alive and not process.is_paused

    def _kafka_stopped(self) -> Process | None:
        process = self.processes.get("kafka")
        is_stopped = self._serving_kafka and process is not None and process.is_alive and process.is_paused
        return process if is_stopped else None

    # Supervision.

    async def _supervise(self) -> None:
        self._news = asyncio.Event()
        self._wake: dict[str, asyncio.Event] = {}
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(self._keep("etcd"))]
        if self.is_witness:
            return
        self._keepers.append(loop.create_task(self._keep("kafka")))
        await self._lead()

    async def _lead(self) -> None:
        """Find out which life this is, run its users, and look again whenever the broker was started anew."""
        supervisor = self._supervisor
        assert supervisor is not None
        store = self.store(supervisor)
        keepers: list[asyncio.Task[None]] = []
        while True:
            self._news.clear()
            try:
                self.incarnation = await prepare(self, store, USERS if keepers else ())
            except LifeOver:
                self._end_users(keepers)
                continue
            except LifeDrained:
                self._begin_anew()
                continue
            except (BrokerSilent, BrokerError, PeersMissing, CoordinationError):
                await self.clock.sleep(self.world.settings.restart)
                continue
            if not keepers:
                keepers = [asyncio.get_running_loop().create_task(self._keep(name)) for name in USERS]
            await self._news.wait()

    def _end_users(self, keepers: list[asyncio.Task[None]]) -> None:
        for keeper in keepers:
            keeper.cancel()
        keepers.clear()
        for name in USERS:
            self._kill(name)

    def _begin_anew(self) -> None:
        """The broker's log is put aside: another cluster, and nothing that hung on the old one."""
        self.broker.wipe()
        self.disk = {name: kept for name, kept in self.disk.items() if name in _SURVIVES_NEW_LOG}
        self._kill("kafka")

    async def _keep(self, name: str) -> None:
        """Run a process, and run it again a moment after it ended, for ever."""
        first = True
        while True:
            process = self._new_process(name, first=first)
            wake = self._wake[name] = asyncio.Event()
            if name != "etcd":
                self._launch(process, self._main(name, process, wake))
            await wake.wait()
            self.world.kernel.kill(process)
            first = False
            await self.clock.sleep(self.world.settings.restart)

    def _new_process(self, name: str, *, first: bool) -> Process:
        if name == "etcd":
            if not first:
                self.processes["etcd"] = self.world.etcd.restart(self.name)
            return self.processes["etcd"]
        process = self.processes[name] = self.world.kernel.process(f"{self.name}/{name}")
        return process

    async def _main(self, name: str, process: Process, ended: asyncio.Event) -> None:
        """What a process does until it ends by itself; whatever it then raises, its supervisor is told."""
        try:
            if name == "kafka":
                await self._serve_kafka()
            else:
                part = self.parts[name] = self._part(name, process)
                await part.run()
        except (LogCut, LogTruncated) as over:
            self.endings.append(f"{name}: {over}")
            self._news.set()
        except Exception as failure:  # noqa: BLE001 - a process that fails is started again
            self.endings.append(f"{name}: {type(failure).__name__}: {failure}")
        # Dead at once, so that nothing of it cleans up behind the supervisor's back.
        self.world.kernel.kill(process)
        self._tell(ended)

    def _tell(self, event: asyncio.Event) -> None:
        """Wake the supervisor, from a process that has ended."""
        event.set()

    async def _serve_kafka(self) -> None:
        self._serving_kafka = False
        await self.clock.sleep(self.world.settings.boot)
        self.broker.restart()
        self._serving_kafka = True
        self._news.set()
        await asyncio.get_running_loop().create_future()

    def _part(self, name: str, process: Process) -> Part:
        store = self.store(process)
        if name == "inference":
            return InferencePart(self)
        if name == "processor":
            return ProcessorPart(self, store)
        if name == "gateway":
            return GatewayPart(self, store)
        return ReplicatorPart(self, store) if name == "replicator" else ControllerPart(self, store)

    def _kill(self, name: str) -> None:
        process = self.processes.get(name)
        if process is None:
            return
        self.world.kernel.kill(process)
        wake = self._wake.get(name) if hasattr(self, "_wake") else None
        if wake is not None:
            wake.set()

    def _launch(self, process: Process, work: Coroutine[Any, Any, None]) -> None:
        self._task = self.world.kernel.start(process, work)

    def _region_settings(self) -> RegionSettings:
        found = self.world.deployment.site(self.name)
        return RegionSettings(
            name=self.name,
            deployment=Path("/memory/deployment.json"),
            host=self.name,
            data_dir=Path("/memory") / self.name,
            bootstrap=found.bootstrap,
            partitions=self.world.settings.partitions,
            kafka_port=found.port("kafka"),
            controller_port=found.port("controller"),
            gateway_port=found.port("gateway"),
            processor_port=found.port("processor"),
            inference_port=found.port("inference"),
            replicator_port=found.port("replicator"),
            control_port=found.port("control"),
            pseudonym_key_file=Path("/memory/pseudonym.key"),
        )
