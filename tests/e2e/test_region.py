"""A whole region through `meridian up`: rankings know the last click, every process may be killed, `down` ends all.

Everything is seen from outside: the command line, the public API, the acknowledgements and the raw log.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.runtime.kafka import port_is_free
from services.client import Accepted, Body, Click, Event, Item, MeridianClient, Ranking, Search
from services.demo.region import DemoRegion, running_region
from services.ledger.acks import AckWriter
from services.ledger.region import examine
from services.region import run_file
from services.replay.tally import ack_of
from tests.support.poll import wait_until, wait_until_async

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

WORDS = ("lamp", "chair", "table", "mug", "rug", "clock", "shelf", "vase")


@asynccontextmanager
async def app(region: DemoRegion) -> AsyncIterator[MeridianClient]:
    """An upstream app."""
    async with MeridianClient(region.addresses["gateway"], source="/apps/e2e") as client:
        yield client


def ready(region: DemoRegion) -> bool:
    """Whether the supervisor says that everything is ready."""
    return region.command("status").returncode == 0


async def catalogue(client: MeridianClient, prefix: str) -> None:
    """Publish a few items whose titles share a word, so that one query finds all of them."""
    items: list[Body] = [Item(item=f"{prefix}-{word}", title=f"{prefix} {word}", price=1.0) for word in WORDS]
    assert all(isinstance(outcome, Accepted) for outcome in await client.publish(items))


async def found(client: MeridianClient, query: str, wanted: set[str]) -> Ranking:
    """Search until the wanted items are found (item events go other ways than a user's own)."""
    last: list[Ranking] = []

    async def all_there() -> bool:
        last[:] = [await client.search("browser", query, timeout_ms=5_000)]
        return wanted <= set(last[0].items)

    await wait_until_async(all_there, 20, f"{wanted} for {query!r}")
    return last[0]


async def test_the_next_ranking_knows_the_click(region: DemoRegion) -> None:
    """The item that was clicked comes first in the very next answer, though it was last before."""
    async with app(region) as client:
        await catalogue(client, "oaken")
        before = await found(client, "oaken", {f"oaken-{word}" for word in WORDS})
        wanted = [item for item in before.items if item.startswith("oaken")][-1]
        position = before.items.index(wanted) + 1
        assert position > 1
        click = Click(user="ann", item=wanted, query="oaken", ranking=before.ranking_id, position=position)
        (outcome,) = await client.publish([click])
        assert isinstance(outcome, Accepted)
        after = await client.search("ann", "oaken", timeout_ms=5_000)
        assert after.items[0] == wanted
        assert after.after_reached is True
        assert after.rung == "model"
        assert after.region == "east"
        assert after.epoch == (0, 1)
        assert after.event is not None


async def test_recommendations_and_similar_items_answer(region: DemoRegion) -> None:
    """The home page knows what the user's session was about; an item's page lists others than itself."""
    async with app(region) as client:
        await catalogue(client, "birch")
        await found(client, "birch", {f"birch-{word}" for word in WORDS})
        for item in ("birch-lamp", "birch-chair", "birch-lamp"):
            await client.publish([Click(user="bea", item=item, query="birch", session="s1")])
        home = await client.recommendations("bea", timeout_ms=5_000)
        like = await client.similar("birch-lamp", user="bea", timeout_ms=5_000)
        assert home.items
        assert "birch-chair" in like.items
        assert "birch-lamp" not in like.items


@pytest.mark.parametrize("victim", ["processor", "gateway", "inference", "kafka"])
async def test_killing_a_process_loses_nothing(region: DemoRegion, tmp_path: Path, victim: str) -> None:
    """Events are published around a kill -9; the region comes back by itself and each one counts once."""
    acks = tmp_path / "acks.jsonl"
    async with app(region) as client:
        await catalogue(client, victim)
        with AckWriter(acks) as lines:
            for number in range(60):
                if number == 20:
                    region.kill(victim)
                event = client.event(
                    Click(user=f"u{number % 7}", item=f"{victim}-mug", query=victim), id=f"{victim}-{number}"
                )
                (outcome,) = await client.publish([event], timeout_seconds=60)
                assert isinstance(outcome, Accepted)
                lines.write(ack_of(event, outcome.coordinates))
        await wait_until_async(lambda: ready(region), 60, "the region to be ready again")
        assert region.process(victim).restarts >= 1
        answer = await found(client, victim, {f"{victim}-mug"})
        assert answer.items[0] == f"{victim}-mug"
    ledger = await examine(acks, region.addresses["kafka"], region.log, region.addresses["processor"])
    assert (ledger.verdict, ledger.events_acknowledged) == ("valid", 60), ledger.sentence


async def test_the_same_event_through_a_restarted_gateway_counts_once(region: DemoRegion, tmp_path: Path) -> None:
    """The app did not hear the first answer; its second try meets another process."""
    acks = tmp_path / "acks.jsonl"
    async with app(region) as client:
        event = Event(
            body=Search(user="carl", query="twice"), id="twice-1", time_ms=1_700_000_000_000, source="/apps/e2e"
        )
        await client.publish([event])
        region.kill("gateway")
        (outcome,) = await client.publish([event], timeout_seconds=60)
        assert isinstance(outcome, Accepted)
        with AckWriter(acks) as lines:
            lines.write(ack_of(event, outcome.coordinates))
    ledger = await examine(acks, region.addresses["kafka"], region.log, region.addresses["processor"])
    assert ledger.verdict == "valid", ledger.sentence
    assert ledger.copies_in_log >= 1


def test_down_leaves_nothing_also_after_the_supervisor_was_killed(tmp_path: Path) -> None:
    """No process and no listener of the region survives; the next start finds its data again."""
    with running_region(tmp_path / "region") as running:
        record = run_file.read(running.home)
        assert record is not None
        members = [process.identity for process in record.processes if process.identity is not None]
        ports = [process.port for process in record.processes if process.port is not None]
        assert len(members) >= 4
        assert run_file.send(record.supervisor, signal.SIGKILL)
        wait_until(lambda: not any(map(run_file.is_alive, members)), 20, "the processes to end with their supervisor")
        again = running.command("up", "--detach", "--json")
        assert again.returncode == 0, again.stderr
        record = run_file.read(running.home)
        assert record is not None
        members = [record.supervisor, *(p.identity for p in record.processes if p.identity is not None)]
        assert running.command("down").returncode == 0
        assert not any(map(run_file.is_alive, members))
        wait_until(lambda: all(map(port_is_free, ports)), 10, "all ports to be free")
