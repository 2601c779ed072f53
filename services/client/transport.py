"""One request to one of several gateways, with the caller's own time-out.

The gateway in use stays in use until it cannot be reached or answers 503; then the next one is tried. A
passive gateway answers 307 with the active one's address, which is followed once: a second 307 means that
nobody knows who is active. The time-out counts from sending, on a clock that goes on while the process is
stopped: an answer that was read too late is thrown away even when it lay in the socket in time."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import aiohttp

from .clock import Clock
from .errors import AnswerTooLate, BadAddress, BadAnswer, GatewayUnavailable

REDIRECT = 307
UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that came in time."""

    status: int
    body: bytes
    retry_after_seconds: float | None
    url: str


class Gateways:
    """The addresses and which one is in use."""

    def __init__(self, urls: Sequence[str]) -> None:
        if not urls:
            raise BadAddress("MeridianClient needs at least one gateway URL, such as http://127.0.0.1:8080")
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise BadAddress(f"{url!r} is not a gateway URL: write it like http://127.0.0.1:8080")
        self._urls = [url.rstrip("/") for url in urls]
        self._current = 0

    def __len__(self) -> int:
        return len(self._urls)

    @property
    def current(self) -> str:
        """The address to try next."""
        return self._urls[self._current]

    def leave(self, url: str) -> None:
        """`url` did not serve: go to the next one, unless another request already has."""
        if url == self.current:
            self._current = (self._current + 1) % len(self._urls)


class Transport:
    """POSTs to the gateway in use."""

    def __init__(self, gateways: Gateways, clock: Clock, session: aiohttp.ClientSession) -> None:
        self._gateways = gateways
        self._clock = clock
        self._session = session

    async def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float) -> Reply:
        """One try. Raises GatewayUnavailable, AnswerTooLate or BadAnswer; any other status is returned."""
        base = self._gateways.current
        sent_at = self._clock.elapsed_seconds()
        try:
            async with asyncio.timeout(max(timeout_seconds, 0)):
                reply = await self._send(base + path, body, headers)
                if reply.status == REDIRECT:
                    reply = await self._send(reply.url, body, headers)
        except TimeoutError:
            self._gateways.leave(base)
            raise AnswerTooLate(f"{base} did not answer within {timeout_seconds * 1000:.0f} ms") from None
        except aiohttp.ClientPayloadError as error:
            self._gateways.leave(base)
            raise GatewayUnavailable(f"{base} broke off in the middle of its answer: {error}") from error
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            self._gateways.leave(base)
            raise GatewayUnavailable(f"{base} cannot be reached: {error}") from error
        except aiohttp.ClientError as error:
            self._gateways.leave(base)
            raise BadAnswer(f"{base} does not speak HTTP as expected: {error}") from error
        took_seconds = self._clock.elapsed_seconds() - sent_at
        if took_seconds > timeout_seconds:
            took = f"{took_seconds * 1000:.0f} ms of {timeout_seconds * 1000:.0f}"
            raise AnswerTooLate(f"{base} answered after {took}: thrown away")
        if reply.status in (REDIRECT, UNAVAILABLE):
            self._gateways.leave(base)
        if reply.status == REDIRECT:
            raise GatewayUnavailable(f"{base} passed the request on to a gateway that passes it on as well")
        return reply

    async def _send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            content = await response.read()
            location = response.headers.get("Location")
            if response.status == REDIRECT and location is None:
                raise BadAnswer(f"{url} answered 307 without saying where to go")
            return Reply(
                status=response.status,
                body=content,
                retry_after_seconds=self._retry_after(response.headers.get("Retry-After")),
                url=urljoin(url, location) if response.status == REDIRECT and location else url,
            )

    def _retry_after(self, text: str | None) -> float | None:
        """Seconds from a Retry-After header, which holds seconds or a date; None when it makes no sense."""
        if text is None:
            return None
        try:
            return max(float(text), 0.0)
        except ValueError:
            pass
        try:
            when = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        return max(when.timestamp() - self._clock.wall_ms() / 1000, 0.0)
