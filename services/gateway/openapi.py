"""`/openapi.json`, generated from the types that the handlers decode and encode: it cannot say anything else."""

from typing import Any, Final

import msgspec

from services.common.problem import CONTENT_TYPE
from services.gateway.routes import PLAIN_ROUTES, ROUTES, UNAUTHORIZED, Route
from streams.cloudevents import BATCH, STRUCTURED, CloudEvent
from streams.events import DATA_TYPES

VERSION: Final = "1"
_TEMPLATE: Final = "#/components/schemas/{name}"
_BINARY_HEADERS: Final = ("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time")
_ENVELOPE: Final = msgspec.defstruct(
    "Envelope",
    [
        (attribute.name, attribute.type, attribute.default)
        if attribute.default is not msgspec.NODEFAULT
        else (attribute.name, attribute.type)
        for attribute in msgspec.structs.fields(CloudEvent)
        if attribute.name not in {"data", "data_base64"}
    ],
    kw_only=True,
)
"""What is read, without `data`, whose shape depends on the type."""


def document(*, secured: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 description. `secured`: a bearer token is required."""
    types: list[Any] = list(DATA_TYPES.values())
    for route in ROUTES:
        types += [kind for _, kind in route.answers.values()] + ([route.takes] if route.takes else [])
    unique = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_TEMPLATE)
    by_type = dict(zip(unique, schemas, strict=True))
    components |= {_name(name): _event_schema(name, by_type[said]) for name, said in DATA_TYPES.items()}
    components["Event"] = {
        "oneOf": [{"$ref": _TEMPLATE.format(name=_name(name))} for name in DATA_TYPES],
        "discriminator": {
            "propertyName": "type",
            "mapping": {name: _TEMPLATE.format(name=_name(name)) for name in DATA_TYPES},
        },
    }
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Meridian gateway",
            "version": VERSION,
            "description": "Events in, rankings out. Every refusal is a problem document (RFC 9457).",
        },
        "paths": {route.path: {route.method: _operation(route, by_type, secured=secured)} for route in ROUTES}
        | {path: {"get": _plain(path, summary)} for path, summary in PLAIN_ROUTES.items()},
        "components": {"schemas": components},
    }
    if secured:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return described


def _name(event_type: str) -> str:
    return event_type.split(".")[1].capitalize() + "Event"


def _event_schema(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """The envelope of one kind of event, in structured mode."""
    schema = msgspec.json.schema(_ENVELOPE)["$defs"]["Envelope"]
    properties = schema["properties"] | {"specversion": {"const": "1.0"}, "type": {"const": name}, "data": data}
    return {
        "title": _name(name),
        "type": "object",
        "properties": properties,
        "required": [*schema["required"], "data"],
    }


def _operation(route: Route, by_type: dict[Any, dict[str, Any]], *, secured: bool) -> dict[str, Any]:
    answers = route.answers | dict([UNAUTHORIZED] if secured else [])
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {str(status): _answer(status, *answers[status], by_type) for status in sorted(answers)},
    }
    headers = list(route.headers)
    if route.method == "post":
        operation["requestBody"] = {"required": True, "content": _takes(route, by_type)}
        if route.takes is None:
            headers += [(name, "Binary mode: an attribute of the event.") for name in _BINARY_HEADERS]
    if headers:
        operation["parameters"] = [
            {"name": name, "in": "header", "required": False, "description": said, "schema": {"type": "string"}}
            for name, said in headers
        ]
    if secured:
        operation["security"] = [{"token": []}]
    return operation


def _takes(route: Route, by_type: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    if route.takes is not None:
        return {"application/json": {"schema": by_type[route.takes]}}
    event = {"$ref": _TEMPLATE.format(name="Event")}
    return {
        STRUCTURED: {"schema": event},
        BATCH: {"schema": {"type": "array", "items": event, "minItems": 1}},
        "application/json": {"schema": {"anyOf": [by_type[said] for said in dict.fromkeys(DATA_TYPES.values())]}},
    }


def _answer(status: int, sentence: str, body: Any, by_type: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    media = "application/json" if status < 400 else CONTENT_TYPE
    answer: dict[str, Any] = {"description": sentence, "content": {media: {"schema": by_type[body]}}}
    if status == 307:
        answer["headers"] = {"Location": {"required": True, "schema": {"type": "string", "format": "uri"}}}
    if status in {207, 429, 503, 504}:
        answer["headers"] = {
            "Retry-After": {
                "description": "Whole seconds after which to try again.",
                "required": status != 207,
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return answer


def _plain(path: str, summary: str) -> dict[str, Any]:
    media = "application/json" if path.endswith(".json") else "text/plain"
    answers = {"200": {"description": summary, "content": {media: {}}}}
    if path == "/readyz":
        answers["503"] = {"description": "Something is missing; the lines say what.", "content": {media: {}}}
    return {"summary": summary, "operationId": path.strip("/").partition(".")[0], "responses": answers}
