"""Clients that all ask a site's gateway at once, as when everybody comes back to it after a failback.

Their searches are in nobody's script: what matters is that the gateway sheds what it cannot answer, by 429 or 503 with
Retry-After, and that the drill's own load is answered afterwards. What they said stands in the fault's entry of the
history, because searches are events: what lies in the logs must have been said by somebody.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import msgspec

from region_sim.faults.base import Scene, wait_until_none
from region_sim.history import Said
from region_sim.spec import Herd
from services.client.events import rfc3339

ANSWER_SECONDS_MAX = 10.0
ALL_SECONDS_MAX = 60.0
OPEN_SECONDS_MAX = 90.0
"""Until the target's gateway says that it is ready; then they ask all the same."""
POLL_SECONDS = 0.2
SHED = (429, 503)
SOURCE = "/drill/herd"
HOPS_MAX = 2
QUERIES = ("red chair", "oaken table", "small lamp")


class HerdPlay:
    """Ask, and count. There is nothing to heal."""

    region_lost = False

    def __init__(self, scene: Scene, fault: Herd) -> None:
        self._scene = scene
        self._fault = fault
        self._url = scene.backend.deployment.site(scene.target).url("gateway")
        self._counts: Counter[str] = Counter()
        self._asked = 0
        self.said: list[Said] = []
        """Every search, whatever became of it."""

    async def inject(self) -> str:
        """See FaultPlay."""
        shut = await wait_until_none(self._scene.clock, self._shut, OPEN_SECONDS_MAX, POLL_SECONDS)
        began = self._scene.clock.monotonic()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            clients = [asyncio.create_task(self._client(session, number)) for number in range(self._fault.clients)]
            _, late = await asyncio.wait(clients, timeout=ALL_SECONDS_MAX)
            for client in late:
                client.cancel()
        took = self._scene.clock.monotonic() - began
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self._counts.items()))
        wanted = self._fault.clients * self._fault.searches_each
        left = wanted - self._counts.total()
        return (
            f"{self._fault.clients} clients asked {self._scene.target} {self._fault.searches_each} times each at once: "
            f"{counts}{f', {left} given up' if left else ''}, in {took:.1f} s"
            f"{f' ({shut})' if shut else ''}"
        )

    async def not_injected(self) -> str | None:
        """See FaultPlay."""
        return None if self._asked else "nobody asked"

    async def heal(self) -> None:
        """Nothing."""

    async def not_healed(self) -> str | None:
        """Nothing."""
        return None

    async def _shut(self) -> str | None:
        """Why nobody could come back yet: a herd at a door that is shut for all tests nothing."""
        limit = aiohttp.ClientTimeout(total=1.0)
        try:
            async with aiohttp.ClientSession(timeout=limit) as session, session.get(f"{self._url}/readyz") as answer:
                return None if answer.status == 200 else f"{self._scene.target} was not ready"
        except (aiohttp.ClientError, TimeoutError, OSError):
            return f"{self._scene.target} did not answer"

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        for search in range(self._fault.searches_each):
            now_ms = self._scene.clock.unix_ms()
            said = Said(
                source=SOURCE,
                id=f"herd-{self._scene.target}-{now_ms}-{number}-{search}",
                time_ms=now_ms,
                kind="search",
                user=f"herd-{number}",
                query=QUERIES[search % len(QUERIES)],
            )
            self.said.append(said)
            body = {"id": said.id, "time": rfc3339(now_ms), "user": said.user, "query": said.query, "source": SOURCE}
            self._asked += 1
            try:
                self._counts[await self._search(session, msgspec.json.encode(body))] += 1
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._counts[f"failed ({type(error).__name__})"] += 1

    async def _search(self, session: aiohttp.ClientSession, body: bytes) -> str:
        """What became of a search; a redirect to the active region is followed, as every client would."""
        url = f"{self._url}/v1/search"
        headers = {"Content-Type": "application/json"}
        for _ in range(HOPS_MAX):
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                await response.read()
                if response.status != 307 or "Location" not in response.headers:
                    return _named(response)
                url = response.headers["Location"]
        return "redirected twice"


def _named(response: aiohttp.ClientResponse) -> str:
    if response.status == 200:
        return "answered"
    if response.status in SHED:
        when = "with Retry-After" if "Retry-After" in response.headers else "without Retry-After"
        return f"refused with {response.status} {when}"
    return f"answered {response.status}"
