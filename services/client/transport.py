"""One request to one gateway, with the caller's own time-out.

A passive gateway answers 307 with the active one's address, which is followed once: a second 307 means that nobody
knows who is active. The time-out counts from sending, on a clock that goes on while the process is stopped: an answer
that was read too late is thrown away even when it lay in the socket in time."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

import aiohttp

from .clock import Clock
from .errors import AnswerTooLate, BadAnswer, GatewayUnavailable
from .gateways import Gateways, base_of

REDIRECT = 307
UNAVAILABLE = 503
SILENCE_SECONDS_MIN = 0.1
"""A gateway that had less time than this is not to blame for being silent: the caller's time was nearly over."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that came in time."""

    status: int
    body: bytes
    retry_after_seconds: float | None
    url: str


class Transport:
    """Asks gateways, and keeps note of which ones serve."""

    def __init__(self, gateways: Gateways, clock: Clock, session: aiohttp.ClientSession) -> None:
        self._gateways = gateways
        self._clock = clock
        self._session = session

    async def post(
        self, base: str, path: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float
    ) -> Reply:
        """One try at `base`. Raises GatewayUnavailable, AnswerTooLate or BadAnswer; any other status is returned."""
        sent_at = self._clock.elapsed_seconds()
        asked = base
        try:
            async with asyncio.timeout(max(timeout_seconds, 0)):
                reply = await self._send("POST", base + path, body, headers)
                if reply.status == REDIRECT:
                    self._gateways.reached(base)
                    asked = base_of(reply.url)
                    reply = await self._send("POST", reply.url, body, headers)
        except TimeoutError:
            self._silent(asked, timeout_seconds)
            raise AnswerTooLate(f"{asked} did not answer within {timeout_seconds * 1000:.0f} ms") from None
        except aiohttp.ClientPayloadError as error:
            self._gateways.fail(asked)
            raise GatewayUnavailable(f"{asked} broke off in the middle of its answer: {error}") from error
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            self._gateways.fail(asked)
            raise GatewayUnavailable(f"{asked} cannot be reached: {error}") from error
        except aiohttp.ClientError as error:
            self._gateways.fail(asked)
            raise BadAnswer(f"{asked} does not speak HTTP as expected: {error}") from error
        took_seconds = self._clock.elapsed_seconds() - sent_at
        if took_seconds > timeout_seconds:
            took = f"{took_seconds * 1000:.0f} ms of {timeout_seconds * 1000:.0f}"
            raise AnswerTooLate(f"{asked} answered after {took}: thrown away")
        self._gateways.reached(asked)
        if reply.status in (REDIRECT, UNAVAILABLE):
            self._gateways.leave(base)
        elif asked != base:
            self._gateways.use(asked)
        if reply.status == REDIRECT:
            raise GatewayUnavailable(f"{base} passed the request on to a gateway that passes it on as well")
        return reply

    async def get(self, url: str, timeout_seconds: float) -> Reply | None:
        """Ask for something that nobody waits for; None when there is no answer in time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._send("GET", url, None, {})
        except (TimeoutError, aiohttp.ClientError, ConnectionError, BadAnswer):
            return None

    def _silent(self, asked: str, timeout_seconds: float) -> None:
        if timeout_seconds >= SILENCE_SECONDS_MIN:
            self._gateways.fail(asked, silent=True)

    async def _send(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        async with self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as response:
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
