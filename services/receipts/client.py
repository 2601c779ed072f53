"""Asking a controller for receipts and history."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import aiohttp
import msgspec

from services.coordination.history import HistoryAnswer
from services.receipts.model import Receipt

ANSWER_SECONDS = 5.0
_T = TypeVar("_T")


class ReceiptsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/receipts` on a controller; `GET /v1/receipts/ID` answers one Receipt, or 404."""

    receipts: list[Receipt]
    """Oldest first."""


async def receipts(session: aiohttp.ClientSession, url: str) -> list[Receipt]:
    """Ask for all receipts. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError."""
    return (await _get(session, f"{url}/v1/receipts", ReceiptsAnswer)).receipts


async def history(session: aiohttp.ClientSession, url: str) -> HistoryAnswer:
    """Ask for the history. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError."""
    return await _get(session, f"{url}/v1/history", HistoryAnswer)


async def _get(session: aiohttp.ClientSession, url: str, shape: type[_T]) -> _T:
    async with asyncio.timeout(ANSWER_SECONDS), session.get(url) as response:
        response.raise_for_status()
        return msgspec.json.decode(await response.read(), type=shape)
