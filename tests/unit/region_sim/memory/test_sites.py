"""Simulated regions, built from the shipped parts: they serve, take over from each other, and come back."""

from __future__ import annotations

import asyncio

import pytest

from region_sim.memory.processor import ProcessorPart
from services.coordination.region_record import acknowledged_ends
from tests.support.memory_world import SmallWorld


def other_of(small: SmallWorld, region: str) -> str:
    """The other region."""
    return next(name for name in small.world.regions if name != region)


def test_one_region_serves_and_the_other_says_where() -> None:
    """Events are taken everywhere, rankings come from one place, and both states are equal."""

    async def main(small: SmallWorld) -> None:
        active = small.serving()
        passive = other_of(small, active)
        await asyncio.sleep(3.0)
        status, answer = await small.search(active)
        assert status == 200
        assert (answer["rung"], answer["region"]) == ("model", active)
        assert tuple(answer["epoch"]) == (await small.lease(active)).epoch
        assert len(answer["items"]) == 10
        status, elsewhere = await small.search(passive)
        assert status == 307, elsewhere
        assert elsewhere["region"] == active
        assert await small.publish(passive, [small.event("click", "i3", user="u1", query="shoes")]) == 200
        found = await small.until_equal()
        assert {log for log, _, end in found["frontier"] if end} == {f"{active}-1.events", f"{passive}-1.events"}

    SmallWorld().run(main)


def test_a_killed_region_is_taken_over_within_the_bound_and_comes_back() -> None:
    """Nothing is lost: the log is on its disk; the receipt about it ends healed."""

    async def main(small: SmallWorld) -> None:
        lost = small.serving()
        survivor = other_of(small, lost)
        small.world.etcd.move_leader("north")
        small.start_load()
        await asyncio.sleep(15.0)
        small.world.sites[lost].kill()
        waited = await small.until(lambda: small.serving() == survivor, 30.0, "the other region")
        found = small.world.settings
        # T + 0.5 s of expiry, a cycle to see it, two of asking to be sure of the own state, the markers.
        assert found.lease_ttl - found.renew_interval - 1.0 < waited
        assert waited < found.lease_ttl + 0.5 + found.cycle + 2 * found.rank_delay + 1.0
        await asyncio.sleep(5.0)
        small.world.sites[lost].start()
        await asyncio.sleep(15.0)
        await small.stop_load()
        state = await small.until_equal()
        assert small.world.sites[lost].incarnation == f"{lost}-1"
        assert ends_of(small) <= {(log, partition): end for log, partition, end in state["frontier"]}.items()
        (receipt,) = await small.receipts(survivor)
        assert (receipt.incarnation, receipt.was_active) == (f"{lost}-1", True)
        assert receipt.state == "healed"
        assert small.both_acted == []

    SmallWorld().run(main)


def ends_of(small: SmallWorld) -> set[tuple[tuple[str, int], int]]:
    """The ends of the events logs, as their own brokers hold them."""
    found = set()
    for site in small.world.sites.values():
        if not site.is_witness:
            log = f"{site.incarnation}.events"
            ends = site.broker.ends([(log, partition) for partition in range(small.world.settings.partitions)])
            found |= {(place, end.next_offset) for place, end in ends.items() if end.next_offset}
    return found


@pytest.mark.parametrize("which", ["active", "passive"])
def test_a_wiped_region_comes_back_as_its_next_life(which: str) -> None:
    """Same digest as the survivor's, the old life's receipt is confirmed, and the model predicts the same."""

    async def main(small: SmallWorld) -> None:
        active = small.serving()
        lost = active if which == "active" else other_of(small, active)
        survivor = other_of(small, lost)
        small.start_load()
        await asyncio.sleep(15.0)
        small.world.sites[lost].wipe()
        await small.until(lambda: small.serving() == survivor, 40.0, "the survivor")
        await asyncio.sleep(8.0)
        small.world.sites[lost].start()
        await small.until(lambda: small.world.sites[lost].incarnation == f"{lost}-2", 20.0, "the next life")
        await asyncio.sleep(20.0)
        await small.stop_load()
        state = await small.until_equal()
        assert {log for log, _, end in state["frontier"] if end} >= {f"{lost}-1.events", f"{lost}-2.events"}
        receipts = [each for each in await small.receipts(survivor) if each.incarnation == f"{lost}-1"]
        assert [each.state for each in receipts] == ["confirmed_lost"]
        said = [small.processor(name).predictions(["shoes", "hats"], 0) for name in small.world.regions]
        assert said[0] == said[1]
        assert [len(prediction.items) for prediction in said[0]] == [10, 10]
        assert small.both_acted == []

    SmallWorld().run(main)


def test_a_region_that_is_cut_off_stops_before_another_starts() -> None:
    """It goes on taking events; afterwards both know everything."""

    async def main(small: SmallWorld) -> None:
        lost = small.serving()
        small.start_load()
        await asyncio.sleep(10.0)
        small.cut_off(lost)
        await small.until(lambda: small.serving() == "", 15.0, "nobody")
        await small.until(lambda: small.serving() == other_of(small, lost), 40.0, "the other region")
        before = len([one for one in small.statuses if one == (lost, "/v1/events", 200)])
        await asyncio.sleep(5.0)
        assert len([one for one in small.statuses if one == (lost, "/v1/events", 200)]) > before
        small.cut_off(lost, is_cut=False)
        await asyncio.sleep(10.0)
        await small.stop_load()
        state = await small.until_equal()
        assert ends_of(small) <= {(log, partition): end for log, partition, end in state["frontier"]}.items()
        assert small.both_acted == []

    SmallWorld().run(main)


def test_a_region_that_was_stopped_past_its_lease_acts_no_more() -> None:
    """SIGSTOP to the whole site; when it goes on, another one is active."""

    async def main(small: SmallWorld) -> None:
        lost = small.serving()
        await asyncio.sleep(2.0)
        small.world.sites[lost].pause()
        await small.until(lambda: small.serving() == other_of(small, lost), 40.0, "the other region")
        small.world.sites[lost].resume()
        await asyncio.sleep(10.0)
        assert small.serving() == other_of(small, lost)
        assert not (await small.lease(lost)).active
        assert small.both_acted == []

    SmallWorld().run(main)


def test_a_log_that_lost_records_is_sealed_and_the_region_begins_anew() -> None:
    """What nobody else held stands in the receipt; the next life goes on."""

    async def main(small: SmallWorld) -> None:
        lost = small.serving()
        survivor = other_of(small, lost)
        await asyncio.sleep(5.0)
        small.world.sites[survivor].kill(["replicator"])
        small.world.sites[survivor].disk["nothing"] = True
        await asyncio.sleep(0.1)
        unseen = [small.event("click", f"i{number}", user=f"u{number}", query="hats") for number in range(8)]
        assert await small.publish(lost, unseen) == 200
        log = f"{lost}-1.events"
        await asyncio.sleep(0.6)
        site = small.world.sites[lost]
        site.kill(["kafka"])
        lost_at = {(partition, site.broker.cut(log, partition, 1).start) for partition in range(2)}
        await small.until(lambda: site.incarnation == f"{lost}-2", 60.0, "the next life")
        await asyncio.sleep(20.0)
        state = await small.until_equal()
        assert {(log, partition, start) for partition, start in lost_at} <= {tuple(row) for row in state["frontier"]}
        receipt = next(each for each in await small.receipts(survivor) if each.kind == "cut")
        assert {(each.partition, each.start) for each in receipt.ranges} == lost_at
        assert small.both_acted == []

    SmallWorld().run(main)


@pytest.mark.parametrize("recorded_since", [True, False])
def test_a_power_loss_soon_after_an_acknowledgement_does_not_go_unseen(*, recorded_since: bool) -> None:
    """Nobody else saw the record: what the gateway recorded is all that says that it was there.

    In the coordination store, when the next recording was due; before that on its own disk only.
    """

    async def main(small: SmallWorld) -> None:
        lost = small.serving()
        survivor = other_of(small, lost)
        await asyncio.sleep(5.0)
        small.world.sites[survivor].pause(["replicator"])
        # The first is recorded in the store at once; the second, of the same partition, when the next one is due.
        said = [small.event("click", f"i{number}", user="u", query="hats") for number in range(2)]
        for event in said:
            assert await small.publish(lost, [event]) == 200
        place = small.accepted[said[1]["id"]]
        if recorded_since:
            await asyncio.sleep(0.5)
        site = small.world.sites[lost]
        site.kill()
        cut = site.broker.cut(place["log"], place["partition"], 1)
        assert cut.start == place["offset"]
        small.world.sites[survivor].resume(["replicator"])
        site.start()
        await small.until(lambda: site.incarnation == f"{lost}-2", 60.0, "the next life")
        await asyncio.sleep(20.0)
        receipt = next(each for each in await small.receipts(survivor) if each.kind == "cut")
        assert [(each.log, each.partition, each.start, each.end) for each in receipt.ranges] == [tuple(cut)]
        assert receipt.state == "confirmed_lost"

    SmallWorld().run(main)


def test_single_processes_come_back_and_a_processor_knows_what_it_knew() -> None:
    """Its state is rebuilt from a snapshot and the log; the gateway records what it acknowledged."""

    async def main(small: SmallWorld) -> None:
        active = small.serving()
        site = small.world.sites[active]
        small.start_load()
        await asyncio.sleep(25.0)
        before = small.world.counts["replays"]
        for name in ("processor", "gateway", "replicator", "inference"):
            site.kill([name])
            await asyncio.sleep(1.5)
            assert site.processes[name].is_alive
        await asyncio.sleep(5.0)
        await small.stop_load()
        await small.until_equal()
        assert small.world.counts["replays"] == before + 1
        recorded = await acknowledged_ends(small.world.etcd.store(active), f"{active}-1.events")
        assert recorded == {place[1]: end for place, end in ends_of(small) if place[0] == f"{active}-1.events"}
        assert site.endings == []

    SmallWorld().run(main)


def test_a_record_that_a_hold_keeps_back_is_delivered_once() -> None:
    """A processor that stands still to be compared was given it: reading it again and again would stop the world."""

    async def main(small: SmallWorld) -> None:
        active = small.serving()
        processor = small.world.sites[active].parts["processor"]
        assert isinstance(processor, ProcessorPart)
        await small.until(lambda: processor.gate is not None, 30.0, "the processor's own work")
        hold = processor.intake.hold()
        steps = small.world.kernel.steps
        event = small.event("click", "i3", user="u1", query="shoes")
        assert await small.publish(active, [event]) == 200
        await asyncio.sleep(1.0)
        assert len(hold.kept) == 1
        assert small.world.kernel.steps - steps < 2_000
        await processor.intake.release(hold)
        await small.until_equal()

    SmallWorld().run(main)


def test_a_model_that_fails_its_golden_set_is_not_served() -> None:
    """Answers come from the counters until the good one is back."""

    async def main(small: SmallWorld) -> None:
        active = small.serving()
        await asyncio.sleep(2.0)
        site = small.world.sites[active]
        site.model_is_good = False
        site.kill(["inference"])
        await asyncio.sleep(1.5)
        assert (await small.search(active))[1]["rung"] != "model"
        site.model_is_good = True
        site.kill(["inference"])
        await asyncio.sleep(1.5)
        assert (await small.search(active))[1]["rung"] == "model"

    SmallWorld().run(main)


def test_records_that_are_no_frames_become_dead_letters() -> None:
    """Both regions step over them, and the fold goes on behind them."""

    async def main(small: SmallWorld) -> None:
        active = small.serving()
        site = small.world.sites[active]
        await asyncio.sleep(2.0)
        site.broker.append(f"{active}-1.events", 0, b"no frame", [])
        await asyncio.sleep(3.0)
        assert await small.publish(active, [small.event("click", "i3", user="u1", query="shoes")]) == 200
        state = await small.until_equal()
        assert state["dead"] == 1
        letters = site.broker.ends([(f"{active}-1.dead", partition) for partition in range(2)])
        assert sum(end.next_offset for end in letters.values()) == 1

    SmallWorld().run(main)


def test_one_seed_gives_one_course() -> None:
    """Every answer, every step and the end are the same again; another seed gives another course."""

    def course(seed: int) -> tuple[int, list[tuple[str, str, int]], str]:
        digests: list[str] = []

        async def main(small: SmallWorld) -> None:
            small.start_load()
            await asyncio.sleep(10.0)
            small.world.sites[small.serving()].kill()
            await asyncio.sleep(20.0)
            for site in small.world.sites.values():
                site.start()
            await asyncio.sleep(12.0)
            await small.stop_load()
            digests.append((await small.until_equal())["digest"])

        small = SmallWorld(seed)
        small.run(main)
        return small.world.kernel.steps, small.statuses, digests[0]

    first = course(3)
    assert course(3) == first
    assert course(4) != first
