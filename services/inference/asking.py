"""Asking a worker about its champion: apart from `client.py`, so that who only asks loads no NumPy."""

import asyncio
from typing import Final

import aiohttp
import msgspec

from services.inference.report import ChampionReport

ANSWER_SECONDS: Final = 1.0


async def champion(session: aiohttp.ClientSession, url: str, model: str = "ranker") -> ChampionReport:
    """What the worker at `url` says of its champion: `blocker` is None when it serves what the alias names, proven.

    Raises aiohttp.ClientError, TimeoutError after a second, msgspec.DecodeError: not known, which is never success.
    """
    async with (
        asyncio.timeout(ANSWER_SECONDS),
        session.get(f"{url}/v2/repository/models/{model}/champion") as response,
    ):
        response.raise_for_status()
        return msgspec.json.decode(await response.read(), type=ChampionReport)
