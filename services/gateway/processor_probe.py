"""Asks the processor how it is. The rule that makes use of it is in `processor_watch`."""

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp

from services.common.logging import get_logger
from services.gateway.processor_watch import ProcessorWatch

_SICK_FACTOR: Final = 5
"""A processor that was not ready is asked this many times as often: it may be back at any moment."""
_ANSWER_SECONDS: Final = 1.0
log = get_logger(__name__)


class ProcessorProbe:
    """Looks at `/readyz` of the processor now and then."""

    def __init__(
        self,
        url: str,
        watch: ProcessorWatch,
        interval_seconds: float,
        session: Callable[[], aiohttp.ClientSession] = aiohttp.ClientSession,
    ) -> None:
        self._session = session
        self._url = f"{url}/readyz"
        self._watch = watch
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Look until cancelled."""
        async with self._session() as session:
            while True:
                illness = await self._look(session)
                if (illness is None) != (self._watch.illness is None):
                    log.info("processor ready" if illness is None else "processor not ready", reason=illness or "")
                self._watch.health(illness)
                factor = 1 if illness is None else _SICK_FACTOR
                await asyncio.sleep(self._interval_seconds / factor)

    async def _look(self, session: aiohttp.ClientSession) -> str | None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), session.get(self._url) as response:
                if response.status == 200:
                    return None
                said = (await response.text())[:500].splitlines()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return f"it cannot be reached ({type(error).__name__})"
        return next((line.removeprefix("[-] ") for line in said if line.startswith("[-] ")), f"HTTP {response.status}")
