"""One search through a whole region leaves one tree behind, and `meridian trace` shows it."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from services.client import Item, MeridianClient
from services.common.trace_context import parse_parent
from services.demo.region import DemoRegion
from tests.support.poll import wait_until_async

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
STEPS = {
    "POST /v1/search": ("gateway", None),
    "prepare": ("gateway", "POST /v1/search"),
    "frame": ("gateway", "POST /v1/search"),
    "kafka.acknowledge": ("gateway", "frame"),
    "disk.keep": ("gateway", "frame"),
    "log.read": ("processor", "frame"),
    "fold": ("processor", "log.read"),
    "rank": ("processor", "POST /v1/search"),
    "catalogue": ("processor", "rank"),
    "features": ("processor", "rank"),
    "score": ("processor", "rank"),
    "infer": ("inference", "score"),
    "queue": ("inference", "infer"),
    "compute": ("inference", "infer"),
    "publish": ("processor", "rank"),
    "ranking.wait": ("gateway", "POST /v1/search"),
    "check": ("gateway", "POST /v1/search"),
    "write": ("gateway", "POST /v1/search"),
}
"""Each step, in which process it is, and what caused it."""
SERVICES = ("gateway", "processor", "inference")


async def search(region: DemoRegion, headers: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body of an answer from the model."""
    async with MeridianClient(region.addresses["gateway"], source="/apps/trace") as client:
        await client.publish([Item(item=f"elm-{word}", title=f"elm {word}", price=1.0) for word in ("lamp", "mug")])
    found: list[tuple[dict[str, str], dict[str, Any]]] = []
    async with aiohttp.ClientSession(region.addresses["gateway"]) as session:

        async def answered() -> bool:
            body = {"user": "nosy-nora", "query": "elm", "id": "nora-1", "time": "2026-01-01T00:00:00Z"}
            async with session.post("/v1/search", json=body | {"deadline_ms": 5_000}, headers=headers) as response:
                found[:] = [(dict(response.headers), await response.json())]
                return response.status == 200 and found[0][1]["rung"] == "model" and bool(found[0][1]["items"])

        await wait_until_async(answered, 30, "a ranking by the model")
    return found[0]


def shown(region: DemoRegion, wanted: str) -> dict[str, Any]:
    """What the verb prints for a program."""
    ended = region.command("trace", wanted, "--json")
    document: dict[str, Any] = json.loads(ended.stdout)
    assert ended.returncode == (0 if document["traces"] else 1), ended.stderr
    return document


async def test_a_search_is_one_tree_through_all_processes(region: DemoRegion) -> None:
    """With the caller's trace id everywhere, right parents, and times that follow each other."""
    headers, answer = await search(region, {"traceparent": f"00-{TRACE}-{CALLER}-01"})
    named = parse_parent(headers["traceparent"])
    assert named is not None
    assert (named.trace_id, named.sampled) == (TRACE, True)
    (trace,) = shown(region, answer["ranking_id"])["traces"]
    spans = {span["name"]: span for span in trace["spans"]}
    assert {span["trace_id"] for span in trace["spans"]} == {TRACE}
    by_id = {span["span_id"]: span["name"] for span in trace["spans"]}
    assert {name: (span["service"], by_id.get(span["parent_id"])) for name, span in spans.items()} == STEPS
    assert len(trace["spans"]) == len(STEPS)
    assert (spans["POST /v1/search"]["span_id"], spans["POST /v1/search"]["parent_id"]) == (named.span_id, CALLER)
    attributes = spans["rank"]["attributes"]
    assert (attributes["rung"], attributes["epoch"], attributes["ranking_id"]) == ("model", "0:1", answer["ranking_id"])
    order = ["POST /v1/search", "frame", "fold", "rank", "features", "score", "infer", "compute", "check", "write"]
    began = [spans[name]["began_us"] for name in order]
    assert began == sorted(began)
    place = answer["event"]
    other_names = ("nora-1", f"{place['log']}/{place['partition']}/{place['offset']}")
    for wanted in other_names:
        assert any(span["span_id"] == named.span_id for t in shown(region, wanted)["traces"] for span in t["spans"])
    plain = region.command("trace", answer["ranking_id"]).stdout
    for words in ("acknowledged by Kafka", "kept on disk", "folded", "waited for the engine", "published", "answered"):
        assert words in plain
    for kept in (plain, json.dumps(trace)):
        assert "nora" not in kept, "nothing that an app or a user chose is shown"
        assert "elm" not in kept


async def test_a_search_without_a_trace_gets_one_and_is_kept(region: DemoRegion) -> None:
    """Nobody has to ask beforehand; an id that nobody knows says why that may be."""
    headers, answer = await search(region, {"traceparent": "00-not-a-trace"})
    named = parse_parent(headers["traceparent"])
    assert named is not None
    assert not named.sampled
    (trace,) = shown(region, answer["ranking_id"])["traces"]
    assert trace["trace_id"] == named.trace_id
    assert {span["name"] for span in trace["spans"]} == set(STEPS)
    unknown = region.command("trace", "00" * 16)
    assert unknown.returncode == 1
    assert "was started after that ranking" in unknown.stderr


async def test_each_process_says_on_each_line_what_it_is(region: DemoRegion) -> None:
    """Region and service from the start; life and epoch once they are known; nobody's words."""
    await search(region, {})
    for service in SERVICES:
        text = (region.home / "logs" / f"{service}.log").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert lines, service
        for line in lines:
            assert {"service": service, "region": "east"}.items() <= line.items(), line
            assert {"event", "level", "logger", "timestamp"} <= line.keys(), line
        if service != "inference":
            assert (lines[-1]["incarnation"], lines[-1]["epoch"]) == (region.incarnation, [0, 1])
        assert "nora" not in text
