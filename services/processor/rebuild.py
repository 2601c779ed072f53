"""A region that comes back empty: what a peer knows is taken as a snapshot, or replayed from the copies as they arrive.

Either way the region is not done before its own Kafka holds the copies of all that the peer knew when it was asked: a
state whose events are nowhere near is no second copy of anything. So both ways wait for the replicator; they differ in
what has to be done meanwhile, and `auto` takes the one whose estimate is lower.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp
import msgspec

from services.common.logging import get_logger
from services.common.region_settings import RegionSettings
from services.processor import client
from services.processor.client import SnapshotOffer
from services.processor.settings import ProcessorSettings
from streams.position import Frontier
from streams.snapshot import load
from streams.snapshot_tar import TransferError, unpack
from streams.state import State
from streams.truncation import Place

log = get_logger(__name__)

TRANSFER_SECONDS = 600.0
SNAPSHOT_FIXED_SECONDS = 0.5
"""Asking, unpacking and checking even the smallest snapshot."""
_ASK_FAILED = (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError)


@dataclass(frozen=True, slots=True)
class Peer:
    """A region that is up, and what it offers."""

    name: str
    url: str
    offer: SnapshotOffer

    def target(self, own_log: str) -> Frontier:
        """What the copies here must hold before the rebuild is done."""
        return Frontier.from_rows(row for row in self.offer.now if row[0] != own_log)


def choose(offer: SnapshotOffer, settings: ProcessorSettings) -> tuple[Literal["snapshot", "replay"], str]:
    """How to rebuild, and why, in one sentence."""
    if settings.rebuild != "auto":
        return settings.rebuild, "the setting says so"
    late_events = max(0, offer.events_now - offer.events)
    by_snapshot = (
        SNAPSHOT_FIXED_SECONDS
        + offer.size_bytes / settings.rebuild_snapshot_bytes_per_second
        + late_events / settings.rebuild_replay_events_per_second
    )
    by_replay = offer.events_now / settings.rebuild_replay_events_per_second
    said = f"the snapshot would take {by_snapshot:.1f} s, the replay {by_replay:.1f} s"
    return ("snapshot" if by_snapshot < by_replay else "replay"), said


async def find_peer(region: RegionSettings) -> Peer | None:
    """The peer that knows the most; None when none is up or none knows anything."""
    found: list[Peer] = []
    async with aiohttp.ClientSession() as session:
        for site in region.load_deployment().peers_of(region.name):
            url = site.url("processor")
            try:
                offer = await client.snapshot_offer(session, url)
            except _ASK_FAILED as problem:
                log.info("no snapshot from a peer", peer=site.name, reason=str(problem) or type(problem).__name__)
                continue
            if offer is not None and offer.events_now + len(offer.now) > 0:
                found.append(Peer(site.name, url, offer))
    return max(found, key=lambda peer: peer.offer.events_now, default=None)


async def fetch(peer: Peer, region: RegionSettings, settings: ProcessorSettings) -> State | None:
    """Take the peer's newest snapshot; None when it did not come whole, or is not one that this release reads."""
    archive = region.snapshot_dir / ".peer.tar"
    try:
        await asyncio.to_thread(region.snapshot_dir.mkdir, parents=True, exist_ok=True)
        async with (
            aiohttp.ClientSession() as session,
            asyncio.timeout(TRANSFER_SECONDS),
            session.get(f"{peer.url}/v1/snapshots/latest") as response,
        ):
            response.raise_for_status()
            with archive.open("wb") as file:
                async for chunk in response.content.iter_chunked(1 << 20):
                    await asyncio.to_thread(file.write, chunk)
        await asyncio.to_thread(unpack, archive, region.snapshot_dir)
        state = await asyncio.to_thread(load, region.snapshot_dir, settings.parameters, _skipped)
    except (*_ASK_FAILED, TransferError) as problem:
        log.warning("the peer's snapshot did not come", peer=peer.name, reason=str(problem) or type(problem).__name__)
        return None
    finally:
        await asyncio.to_thread(archive.unlink, missing_ok=True)
    return state


def _skipped(reason: str) -> None:
    log.warning("snapshot skipped", reason=reason)


class Copying:
    """How far the copies are on their way to a target, and when they will be there. Pure: time is an argument."""

    def __init__(self, target: Frontier, patience_seconds: float) -> None:
        self._target = target
        self._patience_seconds = patience_seconds
        self._total = sum(target.values())
        self._first: tuple[float, int] | None = None
        self._moved_at = 0.0
        self._held = -1

    def done(self, now_seconds: float, held: Mapping[Place, int]) -> bool:
        """Note how much is held; whether that is all, or nothing has come for so long that waiting is over."""
        count = sum(min(held.get(place, 0), wanted) for place, wanted in self._target.items())
        if self._first is None:
            self._first = (now_seconds, count)
        if count > self._held:
            self._held, self._moved_at = count, now_seconds
        return count >= self._total or self.stuck(now_seconds)

    def stuck(self, now_seconds: float) -> bool:
        """Whether nothing has come for too long."""
        return self._held < self._total and now_seconds - self._moved_at >= self._patience_seconds

    def sentence(self, now_seconds: float) -> str:
        """For an operator who waits."""
        percent = 100 * self._held // max(1, self._total)
        left = self._left_seconds(now_seconds)
        remaining = "time left unknown" if left is None else f"about {left:.0f} s left"
        return f"rebuilding: {percent} % of the copies are here ({self._held} of {self._total} records), {remaining}"

    def _left_seconds(self, now_seconds: float) -> float | None:
        if self._first is None or self._held <= self._first[1] or now_seconds <= self._first[0]:
            return None
        rate = (self._held - self._first[1]) / (now_seconds - self._first[0])
        return (self._total - self._held) / rate
