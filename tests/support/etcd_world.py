"""A modelled etcd of three sites in virtual time, and what a test does to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from region_sim.memory.etcd import EtcdModel
from region_sim.memory.kernel import Kernel
from region_sim.memory.network import Network

SITES = ("east", "west", "north")


class World:
    """Three sites; `east` leads."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.network = Network(self.kernel, random.Random(1))
        self.model = EtcdModel(self.kernel, self.network, SITES, random.Random(1))
        self.model.move_leader("east")
        self.east, self.west, self.north = (self.model.store(site) for site in SITES)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run it, and nothing may have gone wrong unseen."""

        async def body() -> None:
            await asyncio.sleep(0.5)
            assert self.model.leader == "east"
            await main()

        self.kernel.run(body())
        assert self.kernel.failures == []

    def cut(self, *pairs: tuple[str, str], is_cut: bool = True) -> None:
        """Cut directed links, or mend them."""
        for pair in pairs:
            self.network.link(*pair).is_cut = is_cut

    def pause(self, site: str) -> None:
        """Stop a member."""
        self.kernel.pause(self.model.member(site).process)

    def resume(self, site: str) -> None:
        """Let it go on."""
        self.kernel.resume(self.model.member(site).process)

    def kill(self, site: str) -> None:
        """Kill a member."""
        self.kernel.kill(self.model.member(site).process)

    async def seconds_until_led(self, *not_by: str) -> float:
        """How long until somebody (else) leads."""
        began = self.kernel.time()
        while self.model.leader in ("", *not_by):
            await asyncio.sleep(0.05)
            assert self.kernel.time() - began < 30, "nobody leads"
        return self.kernel.time() - began

    async def seconds_until_gone(self, key: str) -> float:
        """How long until a key is gone, seen from outside."""
        began = self.kernel.time()
        while key in self.model.state.table.entries:
            await asyncio.sleep(0.01)
            assert self.kernel.time() - began < 60, f"{key} stays"
        return self.kernel.time() - began
