"""A slow or lossy link: what a site and the others say to each other comes late, or some of it never."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from infra.runtime.network import NetworkError, SlowLink
from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.faults.reach import Reach, reaches
from region_sim.spec import Link

_slow: dict[tuple[int, str], LinkPlay] = {}
"""By the process that holds a network, and site: one slow link a site, as one process stands in each."""
READ_MIN = 20
"""Packets that passed before it counts as seen."""


class LinkPlay:
    """Put a process between a site and the bridge, and take it away."""

    region_lost = False

    def __init__(self, scene: Scene, fault: Link) -> None:
        self._scene = scene
        self._fault = fault
        self._network = scene.backend.network
        self._process: subprocess.Popen[bytes] | None = None
        # Beside the sites, not in one: it is no part of what a wipe destroys.
        self._said = Path(scene.backend.deployment.directory) / f".slow-link-{scene.target}"

    async def inject(self) -> str:
        """See FaultPlay."""
        key = (self._network.holder_pid, self._scene.target)
        if key in _slow:
            raise DrillBroken(f"refused: the link of {self._scene.target} is slow already; one at a time")
        link = SlowLink(self._fault.delay_ms / 1000, self._fault.jitter_ms / 1000, self._fault.loss_share)
        await asyncio.to_thread(self._forget)
        try:
            slowed = asyncio.to_thread(self._network.slow_down, self._scene.target, link, self._said)
            self._process = await slowed
        except NetworkError as error:
            raise DrillBroken(f"refused: this machine cannot slow a link down: {error}") from error
        _slow[key] = self
        return (
            f"every IPv4 packet between {self._scene.target} and other sites is {self._fault.delay_ms:g} to "
            f"{self._fault.delay_ms + self._fault.jitter_ms:g} ms late each way, {self._fault.loss_share:.1%} are "
            "lost; what comes from outside or goes there is not"
        )

    async def not_injected(self) -> str | None:
        """By what the process between says that it did, and by the time that a connection takes."""
        if self._process is None or self._process.poll() is not None:
            return f"nothing stands in the link of {self._scene.target}"
        counts = self._counts()
        if self._fault.loss_share > 0 and counts.get("lost", 0) == 0:
            return f"no packet of {self._scene.target} was lost yet, of {counts.get('delayed', 0)}"
        if counts.get("delayed", 0) < READ_MIN:
            return f"only {counts.get('delayed', 0)} packets of {self._scene.target} passed"
        took = await self._connect_seconds()
        if took < 2 * self._fault.delay_ms / 1000:
            return f"a connection from {self._scene.target} takes {took * 1000:.0f} ms, as if nothing were in between"
        return None

    async def heal(self) -> None:
        """See FaultPlay."""
        _slow.pop((self._network.holder_pid, self._scene.target), None)
        if self._process is None:
            return
        process, self._process = self._process, None
        try:
            await asyncio.to_thread(self._network.speed_up, self._scene.target, process)
        except NetworkError as error:
            raise DrillBroken(f"the link of {self._scene.target} could not be mended: {error}") from error
        await asyncio.to_thread(self._forget)

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        if self._process is not None:
            return f"the link of {self._scene.target} is still slow"
        return None

    def _forget(self) -> None:
        """Take away what the process between wrote down."""
        self._said.unlink(missing_ok=True)
        self._said.with_suffix(".log").unlink(missing_ok=True)

    def _counts(self) -> dict[str, int]:
        try:
            words = self._said.read_text(encoding="utf-8").split()
        except OSError:
            return {}
        return {name: int(count) for name, count in zip(words[::2], words[1::2], strict=False)}

    async def _connect_seconds(self) -> float:
        """The time of one connection, with that of starting what tries it; one that fails takes very long."""
        deployment = self._scene.backend.deployment
        other = next(site for site in deployment.sites if site.name != self._scene.target)
        began = self._scene.clock.monotonic()
        host = self._network.host(other.name)
        reach = await reaches(self._network, self._scene.target, host, other.port("etcd_peer"))
        took = self._scene.clock.monotonic() - began
        return float("inf") if reach is Reach.NOBODY else took
