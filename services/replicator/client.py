"""What a replicator says of itself, and asking it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import aiohttp
import msgspec

ANSWER_SECONDS = 1.0


class PartitionReport(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of one copied log. Offsets are those of the origin log, `next` ones: the first that is missing."""

    partition: int
    held: int
    """Everything below is in this region's copy, contiguous and acknowledged by its Kafka."""
    origin_end: int
    """The largest end that the origin was ever seen at; at least `held`."""
    lag_events: int | None
    """Events between `held` and `origin_end`; None when the origin's gateway did not say."""
    leader_epoch: int
    """Of the last copied record, at the origin; -1 when unknown."""
    checksum: str
    """16 hex digits: checksum of the last copied record's value; empty before the first."""
    alarm: str = ""
    """Why this partition is not copied any further; empty when it is."""


class LogReport(msgspec.Struct, frozen=True, kw_only=True):
    """One log that is copied into this region."""

    log: str
    origin: str
    """The region whose life wrote it."""
    incarnation: str
    source: str
    """The region from which it is copied now: the origin, or another that holds more than we do; empty for none."""
    reachable: bool
    """Whether the origin's Kafka answered lately."""
    last_contact_ms: int
    """Unix ms before *sending* the last poll of the origin that was answered; 0 for never."""
    sealed: bool
    """Whether its life is over: nothing new will be written."""
    caught_up: bool
    lag_records: int
    lag_events: int | None
    lag_seconds: float
    """For how long the copy has been behind what the origin was seen at; 0 when it is not."""
    partitions: list[PartitionReport]
    walked: bool = True
    """Whether `held` is what the copies themselves showed; until then it is less than they hold."""


class ReplicationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/replication`."""

    region: str
    incarnation: str
    """Of the region that copies: what it holds is bound to this life."""
    at_ms: int
    logs: list[LogReport]
    alarms: list[str]
    records_per_second: float
    eta_seconds: float | None
    """When the copies will have caught up, from the measured rate; 0 when they have, None when unknown."""

    def log(self, name: str) -> LogReport | None:
        """Return the report of one log."""
        return next((found for found in self.logs if found.log == name), None)


class HoleRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/holes`: an operator accepts that these records will never come."""

    log: str
    partition: int
    start: Annotated[int, msgspec.Meta(ge=0)]
    end: Annotated[int, msgspec.Meta(ge=1)]
    """The first offset after the hole."""
    by: str
    reason: str


async def replication(
    session: aiohttp.ClientSession, url: str, timeout_seconds: float = ANSWER_SECONDS
) -> ReplicationReport:
    """Ask a replicator. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError."""
    async with asyncio.timeout(timeout_seconds), session.get(f"{url}/v1/replication") as response:
        response.raise_for_status()
        return msgspec.json.decode(await response.read(), type=ReplicationReport)
