"""Proving that a rebuilt state equals another region's: both digests, at exactly the same frontier.

A region that lost its data and was rebuilt must not be promoted on the hope that the copy worked. Both processors stand
still for a moment, then go on to the larger of where they are in every partition; rankings wait meanwhile, and a
proof that does not come about in that time is tried again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.logging import get_logger
from services.controller.observe import ASK_FAILED, named
from services.processor import client as processor_client

RETRY_SECONDS: Final = 1.0
RECORDS_BEHIND_MAX: Final = 200
"""While one state lacks more than this of the other, nobody is asked to stand still."""
MISMATCH_RETRY_SECONDS: Final = 10.0
RETRY_SECONDS_MAX: Final = 16.0

log = get_logger(__name__)


Row = tuple[str, int, int]


def records_behind(own: Iterable[Row], peer: Iterable[Row]) -> int:
    """How many records of all logs the frontier `own` lacks that `peer` covers."""
    held = {(log, partition): end for log, partition, end in own}
    return sum(max(0, end - held.get((log, partition), 0)) for log, partition, end in peer)


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """That the states were equal once since this life began; kept in the region's directory, which a wipe empties."""

    incarnation: str
    peer: str
    digest: str
    frontier: list[tuple[str, int, int]]
    at_ms: int


class Prover:
    """Compares the digests of two processors."""

    def __init__(self, session: aiohttp.ClientSession, clock: Clock, file: Path, *, wait_ms: int) -> None:
        self._session = session
        self._clock = clock
        self._file = file
        self._wait_ms = wait_ms
        self._stood_in_vain = 0

    @property
    def retry_seconds(self) -> float:
        """When to try again: later and later while processors stand still in vain, because rankings wait for that."""
        return min(RETRY_SECONDS * 2.0**self._stood_in_vain, RETRY_SECONDS_MAX)

    def known(self, incarnation: str) -> Proof | None:
        """The proof of this very life, if there is one."""
        try:
            proof = msgspec.json.decode(self._file.read_bytes(), type=Proof)
        except (OSError, msgspec.DecodeError):
            return None
        return proof if proof.incarnation == incarnation else None

    def _keep(self, proof: Proof) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(msgspec.json.encode(proof))

    async def prove(self, incarnation: str, own_url: str, peers: dict[str, str]) -> str | None:
        """Try once, with the first peer (name to processor URL) that answers. Return why it is not proven, or None."""
        reason = "no other region answers, with which its state could be compared"
        for peer, url in peers.items():
            try:
                found = await self._compare(own_url, url)
            except ASK_FAILED as problem:
                reason = f"its state since the rebuild is not proven equal to {peer}'s yet ({named(problem)})"
                continue
            own, other = found
            if own.digest != other.digest:
                log.error("states differ at the same frontier", peer=peer, own=own.digest, other=other.digest)
                return f"its state differs from {peer}'s at the same frontier: {own.digest} and {other.digest}"
            proof = Proof(
                incarnation=incarnation,
                peer=peer,
                digest=own.digest,
                frontier=own.frontier,
                at_ms=self._clock.unix_ms(),
            )
            self._keep(proof)
            log.info("the rebuilt state is proven equal", peer=peer, digest=own.digest)
            return None
        return reason

    async def _compare(
        self, own_url: str, peer_url: str
    ) -> tuple[processor_client.HeldDigest, processor_client.HeldDigest]:
        """Both digests at one frontier. Raises what asking raises, FrontierPassed included."""
        own, peer = await asyncio.gather(
            processor_client.state(self._session, own_url), processor_client.state(self._session, peer_url)
        )
        apart = max(records_behind(own.frontier, peer.frontier), records_behind(peer.frontier, own.frontier))
        if apart > RECORDS_BEHIND_MAX:
            # Standing still delays the active region's answers: not before it can succeed.
            raise processor_client.FrontierPassed(own.frontier)
        urls = {"own": own_url, "peer": peer_url}
        self._stood_in_vain = min(self._stood_in_vain + 1, 10)
        found = await processor_client.digests_at_one_frontier(self._session, urls, self._wait_ms)
        self._stood_in_vain = 0
        return found["own"], found["peer"]
