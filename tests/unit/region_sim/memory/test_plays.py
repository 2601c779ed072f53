"""Faults of a simulated world: every kind has a play, overlapping ones are counted, and each is seen to take."""

from __future__ import annotations

from typing import get_args

import pytest

from region_sim.campaign.generate import generate
from region_sim.history import HistoryWriter
from region_sim.load.script import Script
from region_sim.memory.inference import GOOD
from region_sim.memory.plays import Hands, play_of
from region_sim.memory.world import World
from region_sim.spec import Fault, Kill, Link, Partition, kind_of


@pytest.fixture
def hands() -> Hands:
    """The hands of a drill in a world that was not started."""
    drill = generate(1)
    world = World(drill, 1)
    script = Script(1, drill.load, "run")
    return Hands(world, script, HistoryWriter(None, world.clock), drill.load, is_alone=False)


@pytest.mark.parametrize("kind", get_args(Fault), ids=lambda kind: kind.__name__)
def test_every_kind_has_a_play(hands: Hands, kind: type) -> None:
    """Whatever a drill file can say can be done here."""
    fault = kind(target="east")
    play = play_of(hands, fault, "east", "north", "east-1")
    assert callable(play.inject)
    takes_a_region = kind_of(fault) in ("kill", "wipe", "pause", "partition", "restart")
    assert play.region_lost is takes_a_region


def test_what_takes_only_a_process_is_no_lost_region(hands: Hands) -> None:
    """No receipt is due for a gateway that is started again, nor for a witness."""
    assert play_of(hands, Kill(target="east", processes=["gateway"]), "east", "", "east-1").region_lost is False
    assert play_of(hands, Kill(target="north"), "north", "", "").region_lost is False
    assert play_of(hands, Partition(target="east", shape="data"), "east", "", "east-1").region_lost is False


async def test_a_link_that_two_faults_cut_is_whole_when_both_are_healed(hands: Hands) -> None:
    """The first heal must not end the second fault."""
    full = play_of(hands, Partition(target="east"), "east", "", "east-1")
    incoming = play_of(hands, Partition(target="east", shape="incoming"), "east", "", "east-1")
    link = hands.world.network.link
    await full.inject()
    await incoming.inject()
    assert await full.not_injected() is None
    await full.heal()
    assert link("west", "east").is_cut
    assert not link("east", "west").is_cut
    await incoming.heal()
    assert not link("west", "east").is_cut


async def test_shapes_cut_what_they_say(hands: Hands) -> None:
    """`peer` leaves the witness, `etcd` and `data` leave the other half of what is said."""
    link = hands.world.network.link
    for shape, cut in (
        ("peer", {("east", "west", "is_cut"), ("west", "east", "is_cut")}),
        ("outgoing", {("east", "west", "is_cut"), ("east", "north", "is_cut")}),
        (
            "etcd",
            {(a, b, "etcd_cut") for pair in (("east", "west"), ("east", "north")) for a, b in (pair, pair[::-1])},
        ),
    ):
        play = play_of(hands, Partition(target="east", shape=shape), "east", "", "east-1")  # type: ignore[arg-type]
        await play.inject()
        sites = hands.world.site_names
        found = {
            (a, b, what)
            for a in sites
            for b in sites
            for what in ("is_cut", "etcd_cut", "data_cut")
            if getattr(link(a, b), what)
        }
        assert found == cut
        await play.heal()


async def test_of_two_bad_links_the_worst_of_each_kind_counts(hands: Hands) -> None:
    """And what is left when one is healed is the other's alone."""
    link, plain = hands.world.network.link, hands.world.network.link("west", "north").delay_seconds
    slow = play_of(hands, Link(target="east", delay_ms=200), "east", "", "east-1")
    lossy = play_of(hands, Link(target="west", delay_ms=50, loss_share=0.3), "west", "", "west-1")
    await slow.inject()
    await lossy.inject()
    assert link("east", "west").delay_seconds == pytest.approx(plain + 0.2)
    assert link("east", "west").loss_share == 0.3
    assert link("east", "north").loss_share == 0
    await slow.heal()
    assert link("west", "east").delay_seconds == pytest.approx(plain + 0.05)
    await lossy.heal()
    assert link("west", "east").loss_share == 0


def test_disks_and_models_are_given_back_by_the_last_one(hands: Hands) -> None:
    """As links are."""
    site = hands.world.sites["east"]
    hands.fill("east")
    hands.fill("east")
    hands.drain("east")
    assert site.broker.disk_full
    hands.drain("east")
    assert not site.broker.disk_full
    hands.spoil("east", "corrupt")
    hands.spoil("east", "wrong")
    assert not hands.restore("east")
    assert site.model is not GOOD
    assert hands.restore("east")
    assert site.model is GOOD
