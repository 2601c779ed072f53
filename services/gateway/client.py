"""What regions tell each other about an origin's log: the origin what it acknowledged, the copier what it holds."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec

ANSWER_SECONDS = 0.5
KIND = "gateway"
"""Under which gateways register."""


class GatewayEntry(msgspec.Struct, frozen=True):
    """What a gateway says of itself in the registry."""

    url: str
    """Where apps and peers reach it."""


class HeldRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/replication/held`, from a replicator to the gateway of the log's origin."""

    region: str
    incarnation: str
    """The life of the region that copies: its watermarks end with it."""
    log: str
    held: dict[int, int]
    """By partition: next offset below which everything is in the copier's Kafka, acknowledged."""


class OriginPartition(msgspec.Struct, frozen=True, kw_only=True):
    """What the origin says about one partition."""

    acknowledged_end: int
    """Next offset after the last record that was acknowledged to somebody."""
    events_after_held: int | None
    """Events in `[held, acknowledged_end)`; None when this gateway does not know them all (it was started since)."""


class HeldAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    incarnation: str
    """The life that the origin is in."""
    partitions: dict[int, OriginPartition]
    eager: bool = False
    """Whether somebody waits for what is held: then every advance is worth a report of its own."""


async def report_held(session: aiohttp.ClientSession, url: str, body: HeldRequest, token: str = "") -> HeldAnswer:
    """Tell the origin what is held. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    async with (
        asyncio.timeout(ANSWER_SECONDS),
        session.post(f"{url}/v1/replication/held", data=msgspec.json.encode(body), headers=headers) as response,
    ):
        response.raise_for_status()
        return msgspec.json.decode(await response.read(), type=HeldAnswer)
