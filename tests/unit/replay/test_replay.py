"""A whole replay against a gateway in memory: order, honesty, acknowledgements, failures."""

import json
from pathlib import Path

import pytest

from models.records import ItemRecord, SearchRecord, Source
from services.client import MeridianClient, SystemClock
from services.ledger.acks import AckWriter, read_acks
from services.ledger.errors import AcksUnreadable
from services.replay.errors import NobodyAnswers, ReplayMisused
from services.replay.judge import Judge
from services.replay.player import Player, PlayerSettings
from services.replay.progress import ProgressBoard, Quiet
from services.replay.report import ReplayReport
from services.replay.run import Replay, ReplayOptions
from services.replay.script import Script
from services.replay.tally import Tally
from tests.support.fake_gateway import Behaviour, FakeGateway, Json
from tests.support.manual_clock import SkippingClock

OPEN_LOOP = 12.0
"""Searches a second: slow enough that an answer in memory always comes before the next step."""


def log(searches: int = 6) -> Source:
    """Searches one second apart, each clicked half a second later, all for item b."""
    return Source(
        name="log",
        items=[ItemRecord(time_ms=0, item=item, title=item.upper()) for item in ("a", "b")],
        searches=[
            SearchRecord(
                index=n,
                time_ms=1000 * (n + 1),
                user=f"u{n % 2}",
                query="q",
                clicked="b",
                click_time_ms=1000 * n + 1500,
            )
            for n in range(searches)
        ],
    )


async def play(gateway: FakeGateway, source: Source, **options: object) -> ReplayReport:
    """Replay against the fake; only an open loop needs real time, a fraction of a second of it."""
    chosen = ReplayOptions(gateways=[gateway.url], **options)  # type: ignore[arg-type]
    clock = SkippingClock() if chosen.rate is None else SystemClock()
    return await Replay(source, chosen, ProgressBoard(quiet=True), clock).run()


def said(gateway: FakeGateway) -> list[str]:
    """Ids in the order in which the gateway kept them."""
    return [event["id"] for event in gateway.log]


async def test_bulk_publishes_everything_once_catalogue_first() -> None:
    """All events of the log, none of them ranked."""
    async with FakeGateway() as gateway:
        report = await play(gateway, log())
        assert said(gateway)[:2] == ["item-a-0", "item-b-0"]
        assert sorted(said(gateway)[2:]) == sorted([f"{n}-{kind}" for n in range(6) for kind in ("search", "click")])
        assert not gateway.bodies("/v1/search")
    assert report.complete and report.published.acknowledged == 14
    assert report.bulk_events_per_second and report.rankings is None and report.quality is None


async def test_a_second_run_says_the_same() -> None:
    """A replay that was interrupted can be run again: the identities do not change."""
    async with FakeGateway() as gateway:
        await play(gateway, log())
        await play(gateway, log())
        assert len(gateway.log) == 28 and len(set(gateway.identities())) == 14


@pytest.mark.parametrize("rate", [OPEN_LOOP, None])
async def test_each_search_is_ranked_before_its_click_is_published(rate: float | None) -> None:
    """In the open loop every click is out before the next search; in waves it is out before the next wave."""
    async with FakeGateway(rank=lambda request: ["a", "b"]) as gateway:
        options = PlayerSettings(wave_searches=1)
        report = await play(gateway, log(), rank=True, bulk_searches=2, rate=rate, player=options)
        order = said(gateway)
        assert order[2:6] == ["0-search", "0-click", "1-search", "1-click"]
        assert order[6:] == [f"{n}-{kind}" for n in range(2, 6) for kind in ("search", "click")]
        asked = gateway.bodies("/v1/search")
    assert [request["id"] for request in asked] == [f"{n}-search" for n in range(2, 6)]
    assert asked[0]["at"] == asked[0]["time"] == "1970-01-01T00:00:03.000Z"
    assert report.rankings is not None and report.rankings.served == 4 and report.published.acknowledged == 14
    assert report.quality is not None and report.quality.judged == 4
    assert report.quality.methods["ours"].overall.mrr_at_5 == 0.5
    # Both baselines know the clicks of the bulk part, so they put b first.
    assert report.quality.methods["query_table"].overall.mrr_at_5 == 1.0


@pytest.mark.parametrize("rate", [OPEN_LOOP, None])
async def test_no_method_knows_a_click_before_it_was_published(rate: float | None) -> None:
    """When every search is for something new, no table can have it: knowing it would be cheating."""
    searches = [
        SearchRecord(index=n, time_ms=1000 * n, user="u", query=f"q{n}", clicked=f"i{n}", click_time_ms=1000 * n + 1)
        for n in range(4)
    ]
    async with FakeGateway() as gateway:
        source = Source(name="log", items=[], searches=searches)
        report = await play(gateway, source, rank=True, rate=rate, player=PlayerSettings(wave_searches=1))
    assert report.quality is not None and report.quality.judged == 4
    assert {f.overall.mrr_at_5 for f in report.quality.methods.values()} == {0.0}


async def test_a_search_without_an_answer_is_said_all_the_same() -> None:
    """It happened: the event is published under the identity that the ranking request had."""
    async with FakeGateway() as gateway:
        refusal = Behaviour(status=503, headers={"Retry-After": "9"})
        gateway.script.extend([Behaviour(), Behaviour(), refusal])
        report = await play(gateway, log(1), rank=True, rate=OPEN_LOOP)
        asked = gateway.bodies("/v1/search")[0]
        said_later = next(event for event in gateway.log if event["type"] == "meridian.search.v1")
    assert (said_later["id"], said_later["source"], said_later["time"]) == (
        asked["id"],
        asked["source"],
        asked["time"],
    )
    assert report.rankings is not None and report.rankings.failed == 1
    assert report.complete and report.published.acknowledged == 4


async def test_a_ranking_asks_for_the_users_own_last_event() -> None:
    """`after` names what was acknowledged for this user last, from the bulk part too."""
    async with FakeGateway() as gateway:
        await play(gateway, log(), rank=True, bulk_searches=2, rate=OPEN_LOOP)
        asked = gateway.bodies("/v1/search")
        where = {event["id"]: offset for offset, event in enumerate(gateway.log)}
    assert [request["after"][0]["offset"] for request in asked] == [
        where["0-click"],
        where["1-click"],
        where["2-click"],
        where["3-click"],
    ]


async def test_a_wave_waits_for_the_clicks_of_the_one_before() -> None:
    """The next wave names the newest click of the last one, so it knows all of them."""
    async with FakeGateway() as gateway:
        await play(gateway, log(), rank=True, player=PlayerSettings(wave_searches=3))
        asked = gateway.bodies("/v1/search")
        where = {event["id"]: offset for offset, event in enumerate(gateway.log)}
    assert all("after" not in request for request in asked[:3])
    assert {request["after"][0]["offset"] for request in asked[3:]} == {where["2-click"]}


async def test_a_failed_ranking_is_counted_and_judged_for_nobody() -> None:
    """Search and click are published all the same."""
    async with FakeGateway(rank=lambda request: ["b"]) as gateway:
        gateway.script.extend([Behaviour()] * 2 + [Behaviour(status=503, headers={"Retry-After": "9"})])
        report = await play(gateway, log(4), rank=True, rate=OPEN_LOOP)
        assert {"0-click", "0-search"} <= set(said(gateway))
    assert report.rankings is not None and report.quality is not None and report.latency is not None
    assert (report.rankings.served, report.rankings.failed) == (3, 1)
    assert {f.overall.searches for f in report.quality.methods.values()} == {3}
    assert report.latency.measured == 3 and report.latency.outages == 1


async def test_the_schedule_does_not_wait_for_answers() -> None:
    """Open loop: while the first answer hangs, the others are asked and served."""
    async with FakeGateway() as gateway:
        gateway.script.extend([Behaviour(), Behaviour(), Behaviour(hang=True)])
        report = await play(gateway, log(4), rank=True, rate=1000.0, player=PlayerSettings(ranking_timeout_ms=200))
        assert len(gateway.bodies("/v1/search")) == 4
    assert report.rankings is not None and (report.rankings.served, report.rankings.failed) == (3, 1)


async def test_at_a_rate_events_keep_their_intended_times() -> None:
    """Events that are due together go in one call; every event has a latency of its own."""
    async with FakeGateway() as gateway:
        report = await play(gateway, log(), rate=1e9)
        assert len(gateway.bodies("/v1/events")) <= 14
    assert report.complete and report.latency is not None and report.latency.measured == 12


async def test_acknowledgements_are_written_with_what_identifies_the_event(tmp_path: Path) -> None:
    """One line an event, published and ranked alike; appended, so two runs keep both."""
    acks = tmp_path / "acks.jsonl"
    async with FakeGateway() as gateway:
        await play(gateway, log(2), rank=True, bulk_searches=1, rate=OPEN_LOOP, acks=acks)
        written = {ack.id: ack for ack in read_acks(acks)}
        assert set(written) == set(said(gateway))
        for offset, event in enumerate(gateway.log):
            assert written[event["id"]].offset == offset
    click = written["0-click"]
    assert (click.kind, click.item, click.query, click.time_ms, click.user) == ("click", "b", "q", 1500, "u0")
    assert written["1-search"].kind == "search" and written["item-a-0"].item == "a"


async def test_what_was_unknown_is_settled_by_the_flush(tmp_path: Path) -> None:
    """Unknown outcomes are not success; the flush at the end turns them into acknowledgements."""
    async with FakeGateway() as gateway:
        gateway.script.extend([Behaviour()] + [Behaviour(unknown_ids=frozenset({"0-click"}))] * 8)
        report = await play(gateway, log(2), player=PlayerSettings(publish_timeout_seconds=2.0))
    assert report.complete and report.published.acknowledged == 6


async def test_a_region_that_is_down_ends_the_replay() -> None:
    """Rather than waiting out the time for each piece of the log; the message says what to look at."""
    async with FakeGateway() as gone:
        url = gone.url
    options = ReplayOptions(gateways=[url], player=PlayerSettings(publish_timeout_seconds=0.2))
    with pytest.raises(BaseExceptionGroup) as caught:
        await Replay(log(), options, ProgressBoard(quiet=True), SkippingClock()).run()
    (error,) = caught.value.exceptions
    assert isinstance(error, NobodyAnswers)
    assert "meridian status" in str(error)


async def test_refused_events_make_the_replay_incomplete() -> None:
    """The report counts them and gives an example."""
    async with FakeGateway() as gateway:
        gateway.script.extend([Behaviour(), Behaviour(refuse_ids=frozenset({"0-click", "1-click"}))])
        report = await play(gateway, log(2))
    assert not report.complete and report.published.refused == 2
    assert report.published.examples == ["400 bad event: no such kind (2 times)"]


async def test_the_barrier_waits_until_everything_is_taken_in() -> None:
    """It asks with the newest coordinates until the answer says that they have been reached."""
    answers = iter([False, False, True])

    class Slow(FakeGateway):
        def ranking_fields(self, request: Json) -> Json:
            return {"after_reached": next(answers)}

    async with Slow() as gateway, MeridianClient(gateway.url, source="/replay/log") as client:
        tally = Tally()
        player = Player(client, SkippingClock(), tally, Judge())
        await player.bulk(Script(log()).catalogue(), Quiet())
        assert await player.barrier(at_ms=5)
        asked = gateway.bodies("/v1/recommendations")
    assert len(asked) == 3
    assert asked[0]["after"] == [{"log": "east-1.events", "partition": 0, "offset": 1, "index": 0}]


def test_options_that_do_not_fit_are_named() -> None:
    """Each message names the option."""
    with pytest.raises(ReplayMisused, match="--gateway"):
        ReplayOptions(gateways=[])
    with pytest.raises(ReplayMisused, match="--rate"):
        ReplayOptions(gateways=["http://x"], rate=0)
    with pytest.raises(ReplayMisused, match="--limit"):
        ReplayOptions(gateways=["http://x"], limit=-1)


def test_a_damaged_acknowledgements_file_is_named(tmp_path: Path) -> None:
    """With the line; a missing one says how to make it."""
    acks = tmp_path / "acks.jsonl"
    with pytest.raises(AcksUnreadable, match="--acks"):
        list(read_acks(acks))
    with AckWriter(acks) as writer:
        assert writer.written == 0
    assert list(read_acks(acks)) == []
    acks.write_text(json.dumps({"id": "x"}) + "\n")
    with pytest.raises(AcksUnreadable, match="line 1"):
        list(read_acks(acks))
