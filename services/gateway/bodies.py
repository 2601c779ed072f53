"""Reading request bodies within bounds of size, time and total memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError

from services.common.problem import Problem
from services.gateway.admission import Admission
from services.gateway.settings import GatewaySettings


def too_large(bytes_max: int) -> Problem:
    """The refusal of a body that is too big."""
    return Problem(
        413,
        "body-too-large",
        f"the body has more than {bytes_max} bytes; nothing of it was kept",
        remedy="Send several smaller requests.",
    )


@asynccontextmanager
async def received_body(request: web.Request, settings: GatewaySettings, admission: Admission) -> AsyncIterator[bytes]:
    """The whole body, its memory reserved for the length of the block. Raises Problem (400, 408, 413, 429)."""
    announced = request.content_length
    if announced is not None and announced > settings.body_bytes_max:
        raise too_large(settings.body_bytes_max)
    # A compressed or chunked body may turn out to be as big as is allowed.
    bounded = announced is not None and "Content-Encoding" not in request.headers
    reserved = announced if bounded and announced is not None else settings.body_bytes_max
    admission.enter_bytes(reserved)
    try:
        try:
            async with asyncio.timeout(settings.body_seconds):
                body = await request.read()
        except TimeoutError:
            raise Problem(408, "body-too-slow", f"the body did not come within {settings.body_seconds:g} s") from None
        except web.HTTPRequestEntityTooLarge:
            raise too_large(settings.body_bytes_max) from None
        except (PayloadEncodingError, web.RequestPayloadError) as error:
            raise Problem(
                400,
                "body-broken",
                "the body is not what its Content-Encoding or Transfer-Encoding says",
                remedy="Check Content-Encoding, and send the whole body.",
                members={"field": "body"},
            ) from error
        yield body
    finally:
        admission.leave_bytes(reserved)


def media_type(request: web.Request) -> str:
    """The media type of the body, without parameters. Raises Problem (415) for a charset other than UTF-8."""
    media, _, parameters = request.headers.get("Content-Type", "").partition(";")
    name, _, value = parameters.strip().lower().partition("=")
    if name.strip() == "charset" and value.strip(' "') not in {"utf-8", "utf8", "us-ascii"}:
        raise Problem(415, "charset", "bodies are UTF-8", remedy="Encode the body as UTF-8.")
    return media.strip().lower()
