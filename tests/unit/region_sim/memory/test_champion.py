"""Simulated regions whose ranking model is not the champion: who may take over, and who keeps the lease."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from region_sim.memory.controller import ControllerPart
from region_sim.memory.inference import GOOD
from region_sim.memory.site import MemorySite
from services.controller.answers import CHAMPION, ExplainAnswer, explain
from tests.support.memory_world import SmallWorld


def explained(site: MemorySite) -> ExplainAnswer:
    """What `meridian explain` shows of a region."""
    part = site.parts["controller"]
    assert isinstance(part, ControllerPart)
    controller = part.controller
    return explain(controller.view(), controller.limits, controller.now(), controller.sentence)


def blocker(site: MemorySite) -> str:
    """Why a region could not be promoted now."""
    return explained(site).promotion_blocker


def lacks(site: MemorySite) -> bool:
    """Whether a region's controller knows that the champion is another version than the one that serves."""
    found = {each.name: each for each in explained(site).predicates}[CHAMPION]
    return not found.holds and "ranker/2 is champion" in found.value


def both(small: SmallWorld) -> tuple[MemorySite, MemorySite]:
    """The active region and the other one."""
    active = small.serving()
    return small.world.sites[active], small.world.sites[next(name for name in small.world.regions if name != active)]


def test_a_region_takes_over_only_when_its_champion_is_proven() -> None:
    """The passive one refuses what is damaged; its controller says why, until the right version is there again."""

    async def main(small: SmallWorld) -> None:
        active, passive = both(small)
        passive.model_is_good = False
        passive.kill(["inference"])
        await small.until(lambda: "golden set" in blocker(passive), 30.0, "the blocker")
        active.kill()
        await asyncio.sleep(60.0)
        assert small.serving() == "", "nothing that is proven ranks in the only region that is left"
        passive.model_is_good = True
        passive.kill(["inference"])
        await small.until(lambda: small.serving() == passive.name, 30.0, "the region with its champion back")

    SmallWorld().run(main)


def test_the_champion_is_promoted_and_one_region_has_it() -> None:
    """The holder that lacks it is not deposed for that; when the lease is free, the region that has it goes first."""

    async def main(small: SmallWorld) -> None:
        active, passive = both(small)
        small.world.champion = "ranker/2"
        passive.model = replace(GOOD, version="ranker/2")
        passive.kill(["inference"])
        await small.until(lambda: lacks(active), 30.0, "the active region to miss it")
        await asyncio.sleep(40.0)
        assert small.serving() == active.name
        active.kill(["controller"])
        await small.until(lambda: small.serving() == passive.name, 60.0, "the region that has the champion")
        assert blocker(passive) == ""

    SmallWorld().run(main)


def test_a_region_without_its_champion_leaves_a_free_lease_to_the_one_that_had_it() -> None:
    """Its controller was only started again: without that rule the other region would take the lease first."""

    async def main(small: SmallWorld) -> None:
        active, passive = both(small)
        small.world.champion = "ranker/2"
        active.model = replace(GOOD, version="ranker/2")
        active.kill(["inference"])
        await small.until(lambda: lacks(passive) and not lacks(active), 30.0, "the passive region to miss it")
        await asyncio.sleep(10.0)
        active.kill(["controller"])
        await small.until(lambda: small.serving() == "", 30.0, "the end of the term")
        await small.until(lambda: small.serving() != "", 60.0, "the next term")
        assert small.serving() == active.name
        assert f"{active.name} could take over with it" in blocker(passive)

    SmallWorld().run(main)


def test_a_version_that_no_region_can_serve_locks_nobody_out() -> None:
    """What was champion before is proven and ranks: the survivor takes the lease as a last resort, and says so."""

    async def main(small: SmallWorld) -> None:
        active, passive = both(small)
        small.world.champion = "ranker/2"
        await small.until(lambda: lacks(active) and lacks(passive), 30.0, "both to miss it")
        active.kill()
        await small.until(lambda: small.serving() == passive.name, 60.0, "the last resort")
        found = {each.name: each for each in explained(passive).predicates}
        assert found["as a last resort"].holds and not found[CHAMPION].holds
        status, answer = await small.search(passive.name)
        assert (status, answer["rung"], answer["model_version"]) == (200, "model", "ranker/1")

    SmallWorld().run(main)
