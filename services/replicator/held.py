"""Telling an origin's gateway what is held of its log, and learning from its answer how far that goes."""

from __future__ import annotations

import asyncio
from typing import Protocol

import aiohttp
import msgspec

from services.common.clock import Clock
from services.common.waiting import news_within
from services.gateway.client import HeldRequest, report_held
from services.replicator.copied_log import CopiedLog
from services.replicator.peer import Peer
from services.replicator.settings import ReplicatorSettings
from streams.logs import events_log


class Holds(Protocol):
    """What is asked of the replicator."""

    @property
    def logs(self) -> dict[str, CopiedLog]:
        """Every copied log by name."""

    @property
    def incarnation(self) -> str:
        """The life of the region that copies."""


async def tell(
    holds: Holds,
    region: str,
    peer: Peer,
    settings: ReplicatorSettings,
    clock: Clock,
    http: aiohttp.ClientSession,
    advanced: asyncio.Event,
) -> None:
    """Report to one origin on advances and at least every interval, one report at a time, for ever."""
    eager = False
    while True:
        advanced.clear()
        copied = _current(holds, peer)
        if copied is not None and holds.incarnation:
            held = {control.place[1]: control.held for control in copied.controls if control.is_known}
            body = HeldRequest(region=region, incarnation=holds.incarnation, log=copied.name, held=held)
            try:
                answer = await report_held(http, peer.site.url("gateway"), body, settings.gateway_token.reveal())
                copied.take_answer(answer, held)
                eager = answer.eager
            except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
                pass  # It hears the next one; that it is away shows in the contact with its Kafka.
        await clock.sleep((settings.report_gap_ms if eager else settings.report_calm_gap_ms) / 1000)
        await news_within(advanced, settings.report_interval_ms / 1000)


def _current(holds: Holds, peer: Peer) -> CopiedLog | None:
    """The events log that the peer writes now, if it is copied here."""
    newest: CopiedLog | None = None
    for copied in holds.logs.values():
        life = copied.life
        is_its = life.region == peer.region and not life.sealed and copied.name == events_log(life.incarnation)
        if is_its and (newest is None or life.number > newest.life.number):
            newest = copied
    return newest
