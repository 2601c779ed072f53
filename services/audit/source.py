"""Where receipts and history are read from: any controller that answers, else the files that every region keeps.

A failover is when somebody wants to read a receipt and part of the deployment does not answer, so each region is asked
in turn and the files are the last resort: they say what was known when their region last wrote them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from services.common.deployment import Deployment
from services.coordination.base import StoreDamaged
from services.coordination.history import HistoryAnswer
from services.receipts import Receipt
from services.receipts import client as controllers
from services.receipts.book import read_receipts

RECEIPTS_DIRECTORY = "receipts"
_T = TypeVar("_T")


class NothingAnswered(Exception):
    """No controller answered, and there is no file either."""


def receipts_from(deployment: Deployment | None, url: str) -> tuple[list[Receipt], str]:
    """Return all receipts and where they come from, in words. Raises NothingAnswered, StoreDamaged."""
    urls = [url] if url else [site.url("control") for site in deployment.regions] if deployment else []
    try:
        found, where = asyncio.run(_first(urls, controllers.receipts))
    except NothingAnswered as silence:
        if url or deployment is None:
            raise
        found = merged(_files(deployment))
        if not found:
            raise NothingAnswered(f"{silence}, and no region has receipts on disk") from None
        return found, "the files of the regions, as no controller answered: they may be older than the truth"
    return found, where


def history_from(deployment: Deployment | None, url: str) -> HistoryAnswer:
    """Return the history as a controller has it. Raises NothingAnswered."""
    urls = [url] if url else [site.url("control") for site in deployment.regions] if deployment else []
    return asyncio.run(_first(urls, controllers.history))[0]


def merged(receipts: Iterable[Receipt]) -> list[Receipt]:
    """Return one of each id, oldest first: a closed one, or else the one that has seen most."""
    best: dict[str, Receipt] = {}
    for receipt in receipts:
        known = best.get(receipt.receipt_id)
        if known is None or _progress(receipt) > _progress(known):
            best[receipt.receipt_id] = receipt
    return sorted(best.values(), key=lambda receipt: (receipt.created_ms, receipt.receipt_id))


def _progress(receipt: Receipt) -> tuple[bool, int]:
    return receipt.state != "open", -sum(left.end - left.start for left in receipt.remaining)


def _files(deployment: Deployment) -> Iterable[Receipt]:
    for site in deployment.regions:
        directory = deployment.site_dir(site.name) / RECEIPTS_DIRECTORY
        try:
            yield from read_receipts(directory)
        except OSError as error:
            raise StoreDamaged(f"{directory} cannot be read: {error.strerror}") from error


async def _first(urls: list[str], ask: Callable[[aiohttp.ClientSession, str], Awaitable[_T]]) -> tuple[_T, str]:
    problems: list[str] = []
    async with aiohttp.ClientSession() as session:
        for url in urls:
            try:
                return await ask(session, url), url
            except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, OSError) as problem:
                problems.append(f"{url}: {problem!r}")
    raise NothingAnswered(f"no controller answered ({'; '.join(problems)})")


def receipt_in(place: str) -> Receipt | None:
    """Return the receipt in a file of that name, None when there is no such file. Raises StoreDamaged."""
    path = Path(place)
    return read_receipts(path)[0] if path.is_file() else None
