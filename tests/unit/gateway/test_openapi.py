"""The description is true: every route is in it and nothing else, and what the gateway says fits its schemas."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from services.common.health import Health
from services.controller.client import Leader
from services.gateway.app import web_app
from services.gateway.openapi import document
from streams.events import DATA_TYPES
from tests.support.gateway_parts import BATCH, JSON, LOG, STRUCTURED, TIME, GatewayParts, event
from tests.support.gateway_rights import GivenRights

DESCRIBED = document(secured=False)
SEARCH = {"user": "u", "query": "q", "id": "1", "time": TIME}


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """A validator of one schema of the document, with its references."""
    return Draft202012Validator({**schema, "components": DESCRIBED["components"]})


def check_answer(path: str, status: int, headers: dict[str, str], body: object, method: str = "post") -> None:
    """The answer is one that the description promises for this route."""
    promised = DESCRIBED["paths"][path][method]["responses"][str(status)]
    (media,) = promised["content"]
    assert headers["Content-Type"].partition(";")[0] == media
    validator(promised["content"][media]["schema"]).validate(body)
    if "Location" in promised.get("headers", {}):
        assert headers["Location"].startswith("http")
    if promised.get("headers", {}).get("Retry-After", {}).get("required"):
        assert int(headers["Retry-After"]) >= 1


@pytest.mark.parametrize("secured", [False, True])
def test_the_document_is_valid_openapi(*, secured: bool) -> None:
    """Judged by the specification's own validator."""
    validate(json.loads(json.dumps(document(secured=secured))))


async def test_every_route_is_described_and_every_described_route_is_served() -> None:
    """The table that is served and the document agree, method by method."""
    async with GatewayParts() as gateway:
        app = web_app(gateway.core, Health())
        served = {
            (route.method.lower(), route.resource.canonical)
            for route in app.router.routes()
            if route.method != "HEAD" and route.resource is not None
        }
        described = {(method, path) for path, item in DESCRIBED["paths"].items() for method in item}
        assert served == described
        async with gateway.client.get("/openapi.json") as response:
            assert await response.json() == json.loads(json.dumps(DESCRIBED))


def test_with_tokens_the_document_says_so() -> None:
    """Every operation that needs one, and no other."""
    secured = document(secured=True)
    for path, item in secured["paths"].items():
        for operation in item.values():
            assert ("security" in operation) == path.startswith("/v1/")
            assert ("401" in operation["responses"]) == path.startswith("/v1/")


EXCHANGES: list[tuple[str, object, dict[str, str], int]] = [
    ("/v1/events", event(), STRUCTURED, 200),
    ("/v1/events", [event(1), event(2, type="x")], BATCH, 207),
    ("/v1/events", [event(2, type="x"), 17], BATCH, 400),
    ("/v1/events", b"{", BATCH, 400),
    ("/v1/events", event(), JSON, 415),
    ("/v1/events", b"x" * 10_000_000, BATCH, 413),
    ("/v1/search", SEARCH, JSON, 200),
    ("/v1/search", {}, JSON, 400),
    ("/v1/search", b"{", JSON, 400),
    ("/v1/recommendations", {"user": "u"}, JSON, 200),
    ("/v1/similar", {"item": "i"}, JSON, 200),
    ("/v1/similar", {"item": "i", "deadline_ms": "soon"}, JSON, 400),
]


@pytest.mark.parametrize(("path", "body", "headers", "status"), EXCHANGES)
async def test_answers_fit_the_description(path: str, body: object, headers: dict[str, str], status: int) -> None:
    """Status, media type, headers and body."""
    async with GatewayParts() as gateway:
        gateway.sink.on_ask = gateway.answer
        found, found_headers, answer = await gateway.post(path, body, headers)
        assert found == status
        check_answer(path, found, found_headers, answer)


async def test_refusals_for_want_of_room_or_log_fit_the_description() -> None:
    """429 and 503, of events and of rankings."""
    async with GatewayParts(asks_waiting_max=1, silent_asks_max=1) as gateway:
        gateway.core.admission.enter_events(gateway.settings.events_waiting_max)
        for path, body, headers in (("/v1/events", event(), STRUCTURED), ("/v1/search", SEARCH, JSON)):
            status, found, answer = await gateway.post(path, body, headers)
            assert status == 429
            check_answer(path, status, found, answer)
        gateway.core.admission.leave_events(gateway.settings.events_waiting_max)
        gateway.sink.fail = "gone"
        status, found, answer = await gateway.post("/v1/events", event(), STRUCTURED)
        assert status == 503
        check_answer("/v1/events", status, found, answer)
        gateway.core.close("closing")
        for path in ("/v1/events", "/v1/similar"):
            status, found, answer = await gateway.post(path, {"item": "i"}, STRUCTURED)
            check_answer(path, status, found, answer)


HELD: dict[str, Any] = {"region": "west", "incarnation": "west-1", "log": LOG, "held": {"0": 0}}


async def test_answers_among_regions_fit_the_description() -> None:
    """The way to the active region, who is active, what a copier is told, and what no peer confirmed."""
    rights = GivenRights(leader=Leader(region="west", epoch=(0, 7), gateway_url="http://west", serving=True))
    async with GatewayParts(rights=rights, ack_timeout_ms=10) as gateway:
        status, found, answer = await gateway.post("/v1/recommendations", {"user": "u"})
        assert status == 307
        check_answer("/v1/recommendations", status, found, answer)
        async with gateway.client.get("/v1/regions") as response:
            check_answer("/v1/regions", response.status, dict(response.headers), await response.json(), "get")
        for change, expected in (({}, 200), ({"incarnation": "west-0"}, 409), ({"region": 1}, 400)):
            status, found, answer = await gateway.post("/v1/replication/held", {**HELD, **change})
            assert status == expected
            check_answer("/v1/replication/held", status, found, answer)
        rights.give((0, 1))
        gateway.sink.on_ask = gateway.answer
        remote = {"Meridian-Ack": "remote"}
        for path, body, headers in (
            ("/v1/events", [event(1), event(2)], BATCH),
            ("/v1/events", event(), STRUCTURED),
            ("/v1/search", {**SEARCH, "deadline_ms": 100}, JSON),
        ):
            status, found, answer = await gateway.post(path, body, {**headers, **remote})
            assert (status, answer["stored"]) == (504, "local")
            check_answer(path, status, found, answer)


GOOD_DATA: dict[str, dict[str, Any]] = {
    "search": {"user": "u", "query": "q"},
    "click": {"user": "u", "item": "i", "ranking": "0" * 32, "position": 1},
    "cart": {"user": "u", "item": "i", "quantity": 2},
    "purchase": {"user": "u", "item": "i", "price": 2.5},
    "view": {"user": "u", "item": "i", "session": "s"},
    "item": {"item": "i", "title": "t", "attributes": {"a": ["x"], "b": 1}},
    "impression": {"user": "u", "ranking": "0" * 32, "items": ["i"]},
    "feedback": {"user": "u", "value": 1},
}
BAD_DATA = [{}, {"user": ""}, {"user": "u\n"}, {"user": "u", "item": "i", "query": "q", "oops": 1}, {"user": 1}]


@pytest.mark.parametrize("kind", GOOD_DATA)
async def test_schema_and_gateway_agree_about_events(kind: str) -> None:
    """What the schema allows is taken; what is refused because of its fields, the schema forbids."""
    assert len(GOOD_DATA) == len(DATA_TYPES)
    schema = validator({"$ref": "#/components/schemas/Event"})
    async with GatewayParts() as gateway:
        for data in [GOOD_DATA[kind], *BAD_DATA]:
            sent = event(1, kind, data=data)
            status, _, answer = await gateway.post("/v1/events", sent, STRUCTURED)
            assert (status == 200) == schema.is_valid(sent), (data, answer)


async def test_schema_and_gateway_agree_about_searches() -> None:
    """The same for a request body."""
    schema = validator({"$ref": "#/components/schemas/SearchRequest"})
    async with GatewayParts() as gateway:
        gateway.sink.on_ask = gateway.answer
        changes: tuple[dict[str, Any], ...] = (
            {},
            {"size": 0},
            {"exclude": [1]},
            {"exlude": []},
            {"filter": {"a": {"min": 1, "max": 2}, "b": "x", "c": ["y"], "d": True}},
            {"filter": {"a": {"min": 1, "lte": 2}}},
            {"filter": {"a": ["x"] * 101}},
            {"filter": {"a": "x" * 257}},
            {"user": ""},
        )
        for change in changes:
            body = {**SEARCH, **change}
            status, _, _ = await gateway.post("/v1/search", body, JSON)
            assert (status == 200) == schema.is_valid(body), change
