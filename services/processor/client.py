"""Asking a processor: its state's frontier and digest, and whether its gate is open."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
import msgspec

ANSWER_SECONDS = 1.0
SNAPSHOT_SECONDS = 5.0
"""A processor that has no snapshot yet writes one first."""


class FoldReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far the fold is behind this region's own Kafka; part of the gate's answer, as one asks for both."""

    waiting_records: int | None
    """Records that are not folded yet; None: the logs' ends were not looked at yet."""
    waiting_events: int | None
    """About so many events are in them, by the mean of all frames."""
    events_per_second: float | None
    """How fast it folds when it is behind, smoothed; None: it never was, so nobody knows."""


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/gate`."""

    open: bool
    epoch: tuple[int, int]
    """The epoch under which effects are made, or were last."""
    reason: str
    """Why it is shut; empty when open."""
    markers_written: bool
    """Whether the EPOCH markers of this epoch were acknowledged by every partition of the rankings log."""
    fold: FoldReport | None = None
    """None while the state is not there yet."""


class StateSummary(msgspec.Struct, frozen=True):
    """The part of `GET /v1/state` that other processes use."""

    region: str
    incarnation: str
    frontier: list[tuple[str, int, int]]
    digest: str


class HeldDigest(msgspec.Struct, frozen=True):
    """The answer of `GET /v1/digest?frontier=...`: the digest at exactly that frontier."""

    digest: str
    frontier: list[tuple[str, int, int]]


class SnapshotOffer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/snapshots/latest?about`: what the newest snapshot is, and where its writer stands now."""

    digest: str
    frontier: list[tuple[str, int, int]]
    events: int
    """Distinct events that it knows."""
    size_bytes: int
    now: list[tuple[str, int, int]]
    events_now: int


class CanaryTrail(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/canary?id=...`: how far a canary came in this processor."""

    canary_id: str
    stages_ms: dict[str, float] = {}
    """How long each stage took that is behind it: log, features, score. Empty while its frame was not folded."""
    outcome: str = ""
    """How it ended: `answered` (published), `gate`, `expired`, `overflow`, ...; empty while it is under way."""
    rung: str = ""
    """Which step of the ladder scored it."""
    reason: str = ""
    """Why that was not the model; empty when it was."""
    detail: str = ""
    """The gate's words, when that stopped it."""


class FrontierPassed(Exception):
    """The processor is past the frontier that was asked for in some partition, or did not reach it in time: 409."""

    def __init__(self, frontier: list[tuple[str, int, int]]) -> None:
        super().__init__("the processor is not at the frontier that was asked for")
        self.frontier = frontier
        """Where it stands now."""


async def state(session: aiohttp.ClientSession, url: str, timeout_seconds: float = ANSWER_SECONDS) -> StateSummary:
    """Ask for frontier and digest of one moment. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError."""
    return msgspec.json.decode(await _get(session, f"{url}/v1/state", {}, timeout_seconds), type=StateSummary)


async def gate(session: aiohttp.ClientSession, url: str, timeout_seconds: float = ANSWER_SECONDS) -> GateReport:
    """Ask about the gate. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError."""
    return msgspec.json.decode(await _get(session, f"{url}/v1/gate", {}, timeout_seconds), type=GateReport)


async def canary_trail(session: aiohttp.ClientSession, url: str, canary_id: str, wait_seconds: float) -> CanaryTrail:
    """Ask how far a canary came, once it has ended or after the wait.

    Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError; ClientResponseError 404 from an older processor.
    """
    params = {"id": canary_id, "wait_ms": str(max(0, int(wait_seconds * 1000)))}
    return msgspec.json.decode(
        await _get(session, f"{url}/v1/canary", params, ANSWER_SECONDS + wait_seconds), type=CanaryTrail
    )


async def digest_at(
    session: aiohttp.ClientSession, url: str, frontier: list[tuple[str, int, int]], wait_ms: int
) -> HeldDigest:
    """Have the processor stop exactly at `frontier`, read its digest, and go on.

    Raises FrontierPassed, aiohttp.ClientError, TimeoutError, msgspec.DecodeError.
    """
    params = {"frontier": msgspec.json.encode(frontier).decode(), "wait_ms": str(wait_ms)}
    return msgspec.json.decode(
        await _get(session, f"{url}/v1/digest", params, ANSWER_SECONDS + wait_ms / 1000), type=HeldDigest
    )


async def hold(session: aiohttp.ClientSession, url: str, wait_ms: int) -> StateSummary:
    """Have the processor stand still until `digest_at` is asked, or `wait_ms` are over.

    The answer says where it stands. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError.
    """
    async with (
        asyncio.timeout(ANSWER_SECONDS),
        session.post(f"{url}/v1/hold", params={"wait_ms": str(wait_ms)}) as response,
    ):
        response.raise_for_status()
        return msgspec.json.decode(await response.read(), type=StateSummary)


async def digests_at_one_frontier(
    session: aiohttp.ClientSession, urls: Mapping[str, str], wait_ms: int = 2_000
) -> dict[str, HeldDigest]:
    """The digests of several regions at one frontier, by region; also under load.

    Each stands still first, then all of them go on to the furthest of these places. Raises FrontierPassed,
    aiohttp.ClientError, TimeoutError, msgspec.DecodeError; every hold ends by itself.
    """
    standing = await asyncio.gather(*(hold(session, url, wait_ms) for url in urls.values()))
    furthest: dict[tuple[str, int], int] = {}
    for summary in standing:
        for log, partition, next_offset in summary.frontier:
            furthest[log, partition] = max(next_offset, furthest.get((log, partition), 0))
    rows = [(log, partition, next_offset) for (log, partition), next_offset in sorted(furthest.items())]
    found = await asyncio.gather(*(digest_at(session, url, rows, wait_ms) for url in urls.values()))
    return dict(zip(urls, found, strict=True))


async def snapshot_offer(session: aiohttp.ClientSession, url: str) -> SnapshotOffer | None:
    """Ask what the newest snapshot is; None when nothing was folded there yet.

    Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError.
    """
    async with (
        asyncio.timeout(SNAPSHOT_SECONDS),
        session.get(f"{url}/v1/snapshots/latest", params={"about": "1"}) as response,
    ):
        if response.status == 404:
            return None
        response.raise_for_status()
        return msgspec.json.decode(await response.read(), type=SnapshotOffer)


async def _get(session: aiohttp.ClientSession, url: str, params: dict[str, str], timeout_seconds: float) -> bytes:
    async with asyncio.timeout(timeout_seconds), session.get(url, params=params) as response:
        body = await response.read()
        if response.status == 409:
            raise FrontierPassed(msgspec.json.decode(body, type=StateSummary).frontier)
        response.raise_for_status()
        return body
