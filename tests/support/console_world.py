"""Two regions as a console sees them: real controllers over the fake store, small regions, and a console."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from services.common.clock import SystemClock
from services.common.deployment import Deployment
from services.console.server import Console, running
from services.console.settings import ConsoleSettings
from services.coordination.memory import MemoryStore
from tests.support.poll import wait_until_async
from tests.support.small_region import RunningController, SmallRegion, copied, deployment_of, running_controller

START_SECONDS = 20.0


@dataclass(slots=True)
class ConsoleWorld:
    """Everything that a test may break, and where the page is."""

    deployment: Deployment
    store: MemoryStore
    console: Console
    url: str
    controllers: dict[str, RunningController] = field(default_factory=dict)
    regions: dict[str, SmallRegion] = field(default_factory=dict)

    def knows(self) -> str:
        """Which region serves, by the controllers that live; empty while they know of none."""
        for each in self.controllers.values():
            if not each.killed and (leader := each.controller.board.answer().leader) is not None and leader.serving:
                return leader.region
        return ""

    def refresh_copies(self) -> None:
        """Every copy is level, and its origin was heard just now."""
        now_ms = SystemClock().unix_ms()
        for name, region in self.regions.items():
            peers = [other for other in self.regions if other != name]
            region.logs = [copied(peer, held=100, end=100, last_contact_ms=now_ms) for peer in peers]


@asynccontextmanager
async def console_world(
    tmp_path: Path, *, drills: Path | None = None, port: int = 0, **settings: object
) -> AsyncIterator[ConsoleWorld]:
    """East and west with a console at a free port; returns to the block once a region serves."""
    deployment = deployment_of(tmp_path, "east", "west")
    store = MemoryStore(SystemClock())
    wanted = msgspec.convert(
        {"drills": drills or tmp_path / "drills", **settings},
        ConsoleSettings,
        dec_hook=lambda _, value: value,
    )
    async with AsyncExitStack() as stack:
        console, url = await stack.enter_async_context(running(deployment, wanted, SystemClock(), port=port))
        world = ConsoleWorld(deployment, store, console, url)
        world.regions = {name: SmallRegion(name, deployment) for name in ("east", "west")}
        world.refresh_copies()
        for name in world.regions:
            controller = running_controller(deployment, name, store, operation_step_seconds=3.0)
            world.controllers[name] = await stack.enter_async_context(controller)
        for region in world.regions.values():
            await stack.enter_async_context(region.running())
        await wait_until_async(world.knows, START_SECONDS, "a region to serve")
        yield world
