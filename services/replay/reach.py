"""Is there a gateway at all? Asked before a log is read, so that nobody waits minutes for the answer "no"."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from services.replay.errors import NobodyAnswers, ReplayMisused

CONNECT_SECONDS = 3.0


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a gateway. Raises ReplayMisused when the URL is none."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if not host or scheme not in ("http", "https"):
        raise ReplayMisused(f"{url!r} is not a gateway URL: write it like http://127.0.0.1:8080")
    return host, port or (443 if scheme == "https" else 80)


async def refuse_dead(gateways: Sequence[str]) -> None:
    """Raise NobodyAnswers when not one of the gateways takes a connection."""
    reasons = await asyncio.gather(*(_why_dead(url) for url in gateways))
    if all(reasons):
        raise NobodyAnswers(f"no gateway can be reached ({'; '.join(map(str, reasons))}): is the region up?")


async def _why_dead(url: str) -> str | None:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(*address_of(url))
    except TimeoutError:
        return f"{url}: no connection within {CONNECT_SECONDS:g} s"
    except OSError as error:
        return f"{url}: {error.strerror or error}"
    writer.close()
    return None
