"""What the client library relies on, asked of the gateway in memory and of a real region alike.

A fake that drifts from the real thing makes tests that pass for nothing; so both pass this.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from services.client import Accepted, Click, Item, MeridianClient, Refused, Search
from services.client.answers import decode_results

Check = Callable[[str], Awaitable[None]]
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def cloud_event(number: int, kind: str, **data: Any) -> dict[str, Any]:
    """A CloudEvent as any language would send it."""
    return {
        "specversion": "1.0",
        "id": f"contract-{number}",
        "source": "/apps/contract",
        "type": f"meridian.{kind}.v1",
        "time": "2023-11-14T22:13:20.000Z",
        "datacontenttype": "application/json",
        "data": data,
    }


async def post(url: str, path: str, body: object, headers: dict[str, str] | None = None) -> tuple[int, str, bytes]:
    """Status, content type and body of the answer."""
    async with aiohttp.ClientSession() as session:
        sent = session.post(url + path, data=json.dumps(body).encode(), headers=headers)
        async with sent as response:
            return response.status, response.content_type, await response.read()


async def every_kind_is_accepted(url: str) -> None:
    """Whatever the library can say, the gateway takes, and says where it lies."""
    bodies = [
        Item(item="c-1", title="Contract", category="x", price=1.5, attributes={"colour": "red"}, stock=3),
        Search(user="u", query="contract", session="s"),
        Click(user="u", item="c-1", query="contract", session="s", ranking="0" * 32, position=1),
    ]
    async with MeridianClient(url, source="/apps/contract") as client:
        outcomes = await client.publish(bodies)
        assert all(isinstance(outcome, Accepted) for outcome in outcomes), outcomes
        assert client.read_token("u")


async def one_bad_event_does_not_take_the_others_with_it(url: str) -> None:
    """207, a result for each in order, the refusal with a problem that names a status."""
    batch = [cloud_event(1, "click", user="u", item="c-1"), cloud_event(2, "clack", user="u", item="c-1")]
    status, _, body = await post(url, "/v1/events", batch, BATCH)
    results = decode_results(body).results
    assert status == 207
    assert [(result.id, result.status) for result in results] == [("contract-1", "accepted"), ("contract-2", "refused")]
    assert results[0].coordinates is not None
    assert results[1].problem is not None
    assert 400 <= results[1].problem.status < 500


async def nothing_good_is_400(url: str) -> None:
    """And the library reports each event as refused."""
    status, _, _ = await post(url, "/v1/events", [cloud_event(3, "clack", user="u")], BATCH)
    assert status == 400
    async with MeridianClient(url, source="/apps/contract") as client:
        (outcome,) = await client.publish([Click(user="", item="")])
        assert isinstance(outcome, Refused)
        assert client.unacknowledged == 0


async def a_search_says_what_it_is_made_from(url: str) -> None:
    """Every field that the library shows is there, and the search event has coordinates."""
    async with MeridianClient(url, source="/apps/contract") as client:
        ranking = await client.search("u", "contract", timeout_ms=5_000)
        assert len(bytes.fromhex(ranking.ranking_id)) == 16
        assert ranking.rung in {"model", "counters", "popularity"}
        assert ranking.event is not None
        assert len(ranking.items) == len(ranking.scores)
        assert ranking.region
        assert ranking.after_reached is not None


CHECKS: list[Check] = [
    every_kind_is_accepted,
    one_bad_event_does_not_take_the_others_with_it,
    nothing_good_is_400,
    a_search_says_what_it_is_made_from,
]
