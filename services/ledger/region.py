"""Asking a running region, and putting the pieces together."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import msgspec

from services.common.clock import Clock, SystemClock
from services.ledger.acks import read_acks
from services.ledger.count import LogCount, LogCounter, Place
from services.ledger.errors import ClaimsUnavailable
from services.ledger.rawlog import RawLog
from services.ledger.verdict import Claims, Ledger, judge, missing_cover

POLL_SECONDS = 0.25
TRY_SECONDS = 5.0


async def fetch_claims(processor_url: str) -> Claims:
    """What the region says now. Raises ClaimsUnavailable."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TRY_SECONDS)) as session,
            session.get(f"{processor_url.rstrip('/')}/v1/state") as response,
        ):
            body = await response.read()
            if response.status != 200:
                raise ClaimsUnavailable(f"{response.url} answered {response.status}")
            return msgspec.json.decode(body, type=Claims)
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
        raise ClaimsUnavailable(f"{processor_url}/v1/state: {type(error).__name__} {error}") from error


async def claims_covering(
    processor_url: str, needed: Mapping[Place, int], timeout_seconds: float, clock: Clock
) -> tuple[Claims | None, str | None]:
    """Wait until the frontier covers `needed`. Returns the last claims and what is still missing."""
    deadline = clock.monotonic() + timeout_seconds
    claims: Claims | None = None
    while True:
        try:
            claims = await fetch_claims(processor_url)
            missing = missing_cover(needed, claims.places())
        except ClaimsUnavailable as error:
            missing = str(error)
        if missing is None or clock.monotonic() >= deadline:
            return claims, missing
        await clock.sleep(POLL_SECONDS)


def count_log(raw: RawLog, counter: LogCounter, frontier: dict[int, int] | None) -> LogCount:
    """Read the whole log into the counter; only what lies below `frontier` counts (None: all of it)."""
    for record in raw.read(raw.ends()):
        counter.take(record, counted=frontier is None or record.offset < frontier.get(record.partition, 0))
    return counter.result()


async def examine(
    acks: Path,
    bootstrap: str,
    log: str,
    processor_url: str,
    *,
    wait_seconds: float = 60.0,
    clock: Clock | None = None,
) -> Ledger:
    """Count everything about one log of a running region. Raises LedgerError when that cannot be done."""
    counter = LogCounter([log], read_acks(acks))
    needed = counter.newest_acknowledged()
    claims, uncovered = await claims_covering(processor_url, needed, wait_seconds, clock or SystemClock())
    frontier = None if claims is None else claims.next_offsets(log)
    count = await asyncio.to_thread(count_log, RawLog(bootstrap, log), counter, frontier)
    return judge(count, claims, uncovered)
