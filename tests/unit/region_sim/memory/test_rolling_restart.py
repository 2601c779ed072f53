"""An upgrade in virtual time: sites end in order, and the drill tells a good upgrade from a bad one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from region_sim.memory.gateway import GatewayPart, SimSink
from region_sim.memory.run import run_in_memory
from region_sim.spec import load_drill
from region_sim.verdict import Verdict
from services.coordination.keys import LEADER
from tests.support.memory_world import SmallWorld
from tests.unit.region_sim.memory.test_sites import other_of

SHORT = (
    "load.searches_per_second=10",
    "load.events_per_second=20",
    "phases.warm_up_seconds=3",
    "phases.steady_seconds=2",
    "phases.fault_seconds=4",
    "phases.after_seconds=2",
    "faults.0.for_seconds=2",
    "faults.2.for_seconds=2",
    "faults.2.at_seconds=2",
)
NOWHERE = 1_000_000


def upgraded(seed: int, *changes: str) -> Verdict:
    """The verdict over the shipped drill, in a shorter time and under less load."""
    return run_in_memory(load_drill("rolling-restart", [*SHORT, *changes]), seed).verdict


def test_nobody_waits_for_an_upgrade_and_nothing_is_lost() -> None:
    """Passive region, switchover, the other one."""
    found = upgraded(1)
    assert found.verdict == "valid", found.sentence
    assert (found.failover_count, found.lost) == (1, 0)
    assert found.gap_seconds is not None
    assert found.gap_seconds <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 5))
def test_whatever_the_seed(seed: int) -> None:
    """And under the drill's own times."""
    drill = load_drill("rolling-restart", ["load.searches_per_second=25", "load.events_per_second=100"])
    found = run_in_memory(drill, seed).verdict
    assert (found.verdict, found.lost) == ("valid", 0), found.sentence


@pytest.mark.slow
def test_who_ends_the_active_region_first_is_told_that_it_moved_and_paused() -> None:
    """The mistake that the order in the guide is there for."""
    found = upgraded(1, "faults.0.target=active")
    assert found.verdict == "invalid"
    assert "failover_count is 2, at most 1" in found.sentence
    assert found.lost == 0


@pytest.mark.slow
def test_a_gateway_that_acknowledges_what_it_does_not_write_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: from half a second before its end it says yes to everything."""
    lying: set[int] = set()
    send, end = SimSink.send, GatewayPart.end

    def sent(sink: SimSink, partition: int, key: bytes, value: bytes, headers: Any, done: Any) -> None:
        if id(sink._producer._kafka) in lying:
            asyncio.get_running_loop().call_soon(done, None, NOWHERE)
        else:
            send(sink, partition, key, value, headers, done)

    def ended(part: GatewayPart) -> None:
        lying.add(id(part._site.kafka))
        asyncio.get_running_loop().call_later(0.5, end, part)

    monkeypatch.setattr(SimSink, "send", sent)
    monkeypatch.setattr(GatewayPart, "end", ended)
    found = upgraded(1)
    assert found.verdict == "invalid"
    assert found.lost


def test_an_active_region_that_is_ended_lets_its_lease_go() -> None:
    """The others need not wait until it runs out, and the end of its log is recorded."""

    async def main(small: SmallWorld) -> None:
        ended = small.serving()
        site = small.world.sites[ended]
        small.start_load()
        await asyncio.sleep(10.0)
        assert await site.end() == []
        assert not any(process.is_alive for process in site.processes.values())
        found = await small.world.etcd.store(other_of(small, ended)).get(LEADER)
        assert found is None or f'"{ended}"'.encode() not in found.value
        waited = await small.until(lambda: small.serving() == other_of(small, ended), 10.0, "the other region")
        assert waited < small.world.settings.lease_ttl - small.world.settings.renew_interval
        site.start()
        await asyncio.sleep(15.0)
        await small.stop_load()
        await small.until_equal()
        assert site.incarnation == f"{ended}-1"
        assert small.both_acted == []

    SmallWorld().run(main)


def test_a_process_that_stands_still_is_killed_when_its_time_is_over() -> None:
    """As a supervisor does; a site that is down already has no end."""

    async def main(small: SmallWorld) -> None:
        passive = other_of(small, small.serving())
        site = small.world.sites[passive]
        await asyncio.sleep(3.0)
        site.pause(["gateway"])
        assert await site.end() == ["gateway"]
        assert await site.end() == []
        assert small.serving() == other_of(small, passive)

    SmallWorld().run(main)
