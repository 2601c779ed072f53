"""What other processes ask a gateway: how far a log is acknowledged and held, and whether the region serves."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import aiohttp
import msgspec

from services.common.problem import TYPE_PREFIX
from services.gateway.wire import DeadlineMs, RungWord
from streams.errors import DECODE_ERRORS

ANSWER_SECONDS = 0.5
CANARY_SLACK_SECONDS = 0.5
"""Beyond a canary's deadline, for the gateway to say that it was lost."""
CANARIES_FULL = "canaries-full"
"""The kind of problem that others' canaries are, when they leave no place for one."""
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


CanaryStep = Literal["", "log", "fold", "features", "score", "published", "gate", "answer"]


class CanaryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A heartbeat search. Leave everything out for a usual one."""

    query: Annotated[str, msgspec.Meta(max_length=256)] = ""
    """What is searched for; empty: what is popular."""
    deadline_ms: DeadlineMs | None = None


class CanaryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How far a heartbeat search came. It never shows items."""

    canary_id: str
    """Empty when it was turned away before it began."""
    region: str
    reached: Literal["answer", "gate", ""]
    """`answer`: a user would have been shown this; `gate`: up to where a passive region stops; empty: it was lost."""
    step: CanaryStep
    """The last step that it is known to have made; empty: it was not written to the log."""
    latency_ms: float | None
    """Until it reached that; null when it was lost."""
    stages_ms: dict[str, float]
    """How long the stages took that are known: acknowledged (from the start), log, features, score."""
    rung: RungWord | None
    """Which step of the ladder scored it; null when none did, or it is not known."""
    reason: str = ""
    """Why that was not the model; empty when it was."""
    stopped_by: str = ""
    """The gate's words, when it reached that and no more."""
    problem: str = ""
    """Why it was lost."""


class CanaryRefused(Exception):
    """The gateway did not send it: the region's own word why."""

    def __init__(self, status: int, detail: str, kind: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        """Of the problem; empty when the answer names none."""


async def send_canary(
    session: aiohttp.ClientSession, url: str, body: CanaryRequest, deadline_seconds: float, token: str = ""
) -> CanaryAnswer:
    """Have a heartbeat search sent, and learn how far it came.

    Raises CanaryRefused, aiohttp.ClientError, TimeoutError, and DECODE_ERRORS for an answer that is none.
    """
    headers = _headers(token)
    async with (
        asyncio.timeout(deadline_seconds + CANARY_SLACK_SECONDS),
        session.post(f"{url}/v1/canary", data=msgspec.json.encode(body), headers=headers) as response,
    ):
        said = await response.read()
        if response.status != 200:
            problem = _problem(said)
            kind = str(problem.get("type", "")).removeprefix(TYPE_PREFIX)
            raise CanaryRefused(response.status, str(problem.get("detail", "")) or f"HTTP {response.status}", kind)
        return msgspec.json.decode(said, type=CanaryAnswer)


def _problem(said: bytes) -> dict[str, Any]:
    """The problem document of a refusal; empty when it is none."""
    try:
        return msgspec.json.decode(said, type=dict[str, Any])
    except DECODE_ERRORS:
        return {}


def _headers(token: str) -> dict[str, str]:
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})


async def report_held(session: aiohttp.ClientSession, url: str, body: HeldRequest, token: str = "") -> HeldAnswer:
    """Tell the origin what is held. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError."""
    headers = _headers(token)
    async with (
        asyncio.timeout(ANSWER_SECONDS),
        session.post(f"{url}/v1/replication/held", data=msgspec.json.encode(body), headers=headers) as response,
    ):
        response.raise_for_status()
        return msgspec.json.decode(await response.read(), type=HeldAnswer)
