"""An app without the library: plain HTTP to one region's gateway, one redirect followed, nothing tried again.

It keeps no memory of epochs, so it accepts whatever a gateway says: the fence alone protects it. It is pinned to its
region, so that both sides of a partition are asked for events and rankings for as long as it lasts.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from region_sim.history import Entry, HistoryWriter, Said
from region_sim.load.base import acked, conclude_publish, said_events, said_search, search_acks
from region_sim.load.script import EventSaid, SearchSaid
from region_sim.spec import Load
from services.client import Coordinates
from services.common.clock import Clock

_BATCH = "application/cloudevents-batch+json"
_HTTP_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)


class _Answer(msgspec.Struct, frozen=True):
    """What is read of a ranking."""

    region: str = ""
    epoch: tuple[int, int] = (0, 0)
    rung: str = ""
    event: Coordinates | None = None


class _Result(msgspec.Struct, frozen=True):
    """What is read of one event's result."""

    status: str
    coordinates: Coordinates | None = None


class _Results(msgspec.Struct, frozen=True):
    results: list[_Result]


class BareApp:
    """Use with `async with`."""

    def __init__(self, process: str, url: str, load: Load, history: HistoryWriter, clock: Clock) -> None:
        self.process = process
        self._url = url
        self._source = f"/drill/{process}"
        self._load = load
        self._history = history
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        no_limit = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
        self._session = aiohttp.ClientSession(timeout=no_limit, connector=aiohttp.TCPConnector(limit=256))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def search(self, said: SearchSaid) -> None:
        """See App."""
        now_ms = self._clock.unix_ms()
        event = said_search(self._source, now_ms, said)
        invoke = self._history.add("invoke", "search", self.process, said=[event], url=self._url)
        body = msgspec.json.encode(
            {
                "user": said.user,
                "query": said.query,
                "id": said.id,
                "source": self._source,
                "time": _time(now_ms),
                "deadline_ms": self._load.search_timeout_ms,
            }
        )
        try:
            limit_seconds, ack = self._load.search_timeout_ms / 1000, self._load.search_ack
            status, answer, url = await self._post("/v1/search", body, "application/json", limit_seconds, ack)
            ranking = msgspec.json.decode(answer, type=_Answer) if status == 200 else None
        except (*_HTTP_ERRORS, msgspec.DecodeError) as error:
            self._info("search", invoke, error)
            return
        if ranking is None:
            said_instead = f"{status} {answer[:150].decode(errors='replace')}"
            self._history.add("info", "search", self.process, call=invoke.index, url=url, error=said_instead)
            return
        self._history.add(
            "ok",
            "search",
            self.process,
            call=invoke.index,
            url=url,
            region=ranking.region,
            epoch=ranking.epoch,
            rung=ranking.rung,
            acks=search_acks(self._load, event, ranking.event),
        )

    async def publish(self, said: list[EventSaid]) -> None:
        """See App."""
        now_ms = self._clock.unix_ms()
        events = said_events(self._source, now_ms, said)
        invoke = self._history.add("invoke", "publish", self.process, said=events, url=self._url)
        body = msgspec.json.encode([_cloud_event(one) for one in events])
        ids = [one.id for one in events]
        try:
            status, answer, url = await self._post(
                "/v1/events", body, _BATCH, self._load.bare_timeout_seconds, self._load.ack
            )
            results = msgspec.json.decode(answer, type=_Results).results
        except _HTTP_ERRORS as error:
            conclude_publish(self._history, invoke, acks=[], refused=[], unknown=ids, error=_text(error))
            return
        except msgspec.DecodeError:
            # A refusal of the whole request keeps nothing; anything else leaves the question open.
            kept_nothing = status in (400, 401, 413, 415, 429)
            conclude_publish(
                self._history,
                invoke,
                acks=[],
                refused=ids if kept_nothing else [],
                unknown=[] if kept_nothing else ids,
                url=url,
                error=f"{status} {answer[:150].decode(errors='replace')}",
            )
            return
        self._conclude(invoke, events, results, url, f"{status}")

    def _conclude(self, invoke: Entry, events: list[Said], results: list[_Result], url: str, status: str) -> None:
        pairs = list(zip(events, results, strict=False))
        conclude_publish(
            self._history,
            invoke,
            acks=[acked(one, r.coordinates) for one, r in pairs if r.status == "accepted" and r.coordinates],
            refused=[one.id for one, r in pairs if r.status == "refused"],
            unknown=[
                *(one.id for one, r in pairs if r.status not in ("accepted", "refused")),
                *(one.id for one in events[len(results) :]),
            ],
            url=url,
            error="" if status == "200" else status,
        )

    async def settle(self, timeout_seconds: float) -> None:
        """Nothing: what was not answered stays unknown."""

    async def _post(
        self, path: str, body: bytes, media_type: str, limit_seconds: float, ack: str
    ) -> tuple[int, bytes, str]:
        assert self._session is not None
        headers = {"Content-Type": media_type}
        if ack:
            headers["Meridian-Ack"] = ack
        url = self._url + path
        async with asyncio.timeout(limit_seconds):
            for hop in range(2):
                async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                    answer = await response.read()
                    location = response.headers.get("Location")
                    if response.status != 307 or location is None or hop == 1:
                        return response.status, answer, url
                    url = location
        raise AssertionError("unreachable")

    def _info(self, op: str, invoke: Entry, error: Exception) -> None:
        self._history.add("info", op, self.process, call=invoke.index, error=_text(error))


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _cloud_event(said: Said) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": said.id,
        "source": said.source,
        "type": f"meridian.{said.kind}.v1",
        "time": _time(said.time_ms),
        "data": {"user": said.user, "item": said.item, "query": said.query},
    }


def _time(time_ms: int) -> str:
    from services.client.events import rfc3339

    return rfc3339(time_ms)
