"""A small simulated deployment under a small load, and questions to it; for tests of the sites themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import msgspec

from region_sim.memory.processor import ProcessorPart
from region_sim.memory.world import World
from region_sim.spec import Drill, Kill, Topology
from services.controller.client import LeaseAnswer
from services.receipts.client import ReceiptsAnswer
from services.receipts.model import Receipt
from streams.cloudevents import BATCH, rfc3339

BEGIN_SECONDS = 40.0
Main = Callable[["SmallWorld"], Coroutine[Any, Any, None]]


class SmallWorld:
    """East, west and a witness. `accepted`: what was acknowledged, by id."""

    def __init__(self, seed: int = 1) -> None:
        topology = Topology(network="namespaces", pace="far")
        self.world = World(Drill(name="small", summary="", faults=[Kill()], topology=topology), seed)
        self.accepted: dict[str, dict[str, Any]] = {}
        self.statuses: list[tuple[str, str, int]] = []
        self.both_acted: list[float] = []
        """When two regions could have shown something."""
        self._count = 0
        self._load: asyncio.Task[None] | None = None

    def run(self, main: Main) -> None:
        """Start, wait for a region that serves, and run `main`. Nothing may have gone wrong unseen."""

        async def course() -> None:
            await self.world.start()
            watching = asyncio.ensure_future(self._watch())
            await self.until(lambda: self.serving() != "", BEGIN_SECONDS, "a region that serves")
            items = [self.event("item", f"i{number}") for number in range(12)]
            assert await self.publish(self.serving(), items) == 200
            await main(self)
            watching.cancel()

        self.world.kernel.run(course())
        assert not self.world.kernel.failures, self.world.kernel.failures

    async def until(self, holds: Callable[[], bool], seconds_max: float, what: str) -> float:
        """Wait; returns for how long."""
        began = self.world.kernel.time()
        while not holds():
            assert self.world.kernel.time() - began < seconds_max, f"waited {seconds_max:g} s for {what}"
            await asyncio.sleep(0.1)
        return self.world.kernel.time() - began

    def serving(self) -> str:
        """The region whose gate is open now; empty when none is."""
        return next((name for name in self.world.regions if self.may_act(name)), "")

    def may_act(self, region: str) -> bool:
        """Whether a region's running processor would let an effect out now."""
        site = self.world.sites[region]
        part, process = site.parts.get("processor"), site.processes.get("processor")
        if not isinstance(part, ProcessorPart) or process is None or not process.is_alive or process.is_paused:
            return False
        return part.gate is not None and part.gate.blocker(site.clock.unix_ms()) is None

    def cut_off(self, region: str, *, is_cut: bool = True) -> None:
        """Cut a site off from all others, or mend that."""
        for other in self.world.site_names:
            if other != region:
                self.world.network.link(region, other).is_cut = is_cut
                self.world.network.link(other, region).is_cut = is_cut

    # What apps do.

    def start_load(self) -> None:
        """Publish and search at both regions, twice a second."""
        self._load = asyncio.ensure_future(self._go_on())

    async def stop_load(self) -> None:
        """Say nothing more, and wait for the last answers."""
        assert self._load is not None
        self._load.cancel()
        await asyncio.sleep(6.0)

    async def _go_on(self) -> None:
        calls: list[asyncio.Future[Any]] = []
        while True:
            for region in self.world.regions:
                click = self.event("click", f"i{self._count % 12}", user=f"u{self._count % 7}", query="shoes")
                calls.append(asyncio.ensure_future(self.publish(region, [click])))
                calls.append(asyncio.ensure_future(self.search(region)))
            await asyncio.sleep(1.0)

    async def publish(self, region: str, events: list[dict[str, Any]]) -> int:
        """Publish at a region; the status, 0 for no answer."""
        status, body = await self._post(region, "/v1/events", msgspec.json.encode(events), BATCH)
        said = msgspec.json.decode(body) if status in (200, 207) else {"results": []}
        for event, result in zip(events, said["results"], strict=False):
            if result["status"] == "accepted":
                self.accepted[event["id"]] = result["coordinates"]
        return status

    async def search(self, region: str) -> tuple[int, dict[str, Any]]:
        """Search at a region: the status and the answer."""
        body = msgspec.json.encode({"user": f"u{self._count % 7}", "query": "shoes", "source": "/test"})
        status, raw = await self._post(region, "/v1/search", body, "application/json")
        return status, msgspec.json.decode(raw) if raw else {}

    async def _post(self, region: str, path: str, body: bytes, media: str) -> tuple[int, bytes]:
        url = self.world.url(region, "gateway") + path
        found = 0, b""
        try:
            async with (
                asyncio.timeout(5.0),
                self.world.session().post(url, data=body, headers={"Content-Type": media}) as response,
            ):
                found = response.status, await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        self.statuses.append((region, path, found[0]))
        return found

    def event(self, kind: str, item: str, **more: str) -> dict[str, Any]:
        self._count += 1
        data = {"item": item, **more} if kind != "item" else {"item": item, "title": item}
        return {
            "specversion": "1.0",
            "id": f"e{self._count}",
            "source": "/test",
            "type": f"meridian.{kind}.v1",
            "time": rfc3339(self.world.clock.unix_ms()),
            "datacontenttype": "application/json",
            "data": data,
        }

    # What regions say.

    def processor(self, region: str) -> ProcessorPart:
        """A region's processor."""
        part = self.world.sites[region].parts["processor"]
        assert isinstance(part, ProcessorPart)
        return part

    async def lease(self, region: str) -> LeaseAnswer:
        """What a region's controller says."""
        return msgspec.json.decode(await self.get(region, "control", "/v1/lease"), type=LeaseAnswer)

    async def receipts(self, region: str) -> list[Receipt]:
        """All receipts, as a region's controller shows them."""
        return msgspec.json.decode(await self.get(region, "control", "/v1/receipts"), type=ReceiptsAnswer).receipts

    async def state(self, region: str) -> dict[str, Any]:
        """What a region's processor says of its state."""
        found: dict[str, Any] = msgspec.json.decode(await self.get(region, "processor", "/v1/state"))
        return found

    async def get(self, region: str, listener: str, path: str) -> bytes:
        """The body of an answer."""
        async with asyncio.timeout(5.0), self.world.session().get(self.world.url(region, listener) + path) as response:
            response.raise_for_status()
            return await response.read()

    async def until_equal(self, seconds_max: float = 40.0) -> dict[str, Any]:
        """Wait until all regions are ready and stand at one frontier with one digest; returns what they say."""
        began = self.world.kernel.time()
        while True:
            try:
                found = [await self.state(region) for region in self.world.regions]
            except (aiohttp.ClientError, OSError, TimeoutError):
                found = []
            if found and all(each["frontier"] == found[0]["frontier"] for each in found):
                assert all(each["digest"] == found[0]["digest"] for each in found), "digests differ at one frontier"
                return found[0]
            assert self.world.kernel.time() - began < seconds_max, f"not equal after {seconds_max:g} s: {found}"
            await asyncio.sleep(0.5)

    async def _watch(self) -> None:
        while True:
            if sum(map(self.may_act, self.world.regions)) > 1:
                self.both_acted.append(self.world.kernel.time())
            await asyncio.sleep(0.05)
