"""Whether this region may act, and everything that hangs on it: gate, lease, markers, and the producer of rankings.

A region that is alone needs none of it: its gate is open. The producer of rankings is one of its own, because it must
give up soon: a ranking that was not written within the time that effects may take is worth nothing, and must not be
written by a process that lost its term meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import aiohttp
from confluent_kafka import KafkaError, Message

from services.common.clock import Clock
from services.common.logging import bind_process
from services.common.region_settings import RegionSettings
from services.common.tracing import Trace, current
from services.controller.client import LeaseAnswer, LeaseFollower
from services.coordination.region_record import EPOCH_OPEN
from services.processor.answering import Publish
from services.processor.gate import Gate, LeasedGate
from services.processor.logs import KnownLogs
from services.processor.markers import Markers, RankingsEnds
from services.processor.metrics import ProcessorMetrics
from services.processor.settings import ProcessorSettings
from services.processor.terms import TermKeeper
from streams.asks import Epoch, Ranking, encode_ranking
from streams.delivery import Delivery, OnReport
from streams.epochs import epoch_header
from streams.logs import rankings_log


@dataclass(frozen=True, slots=True)
class Election:
    """The parts that only a region of a deployment has."""

    session: aiohttp.ClientSession
    follower: LeaseFollower
    keeper: TermKeeper
    markers: Markers
    ends: RankingsEnds


class Leadership:
    """The gate of one processor, and what opens it."""

    def __init__(self, gate: Gate, rankings: Delivery, election: Election | None, clock: Clock) -> None:
        self.gate = gate
        self.rankings = rankings
        self._election = election
        self._clock = clock

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run; none of it ends by itself."""
        found = self._election
        return [] if found is None else [found.follower.run(), found.keeper.run(), found.markers.keep_ready()]

    def blocker(self) -> str | None:
        """Why this region shows no effects now; None when it does."""
        return self.gate.blocker(self._clock.unix_ms())

    @property
    def leader_epoch(self) -> Epoch:
        """The epoch of whoever leads, as last heard; the own one where there is no election."""
        if self._election is None:
            return self.gate.epoch
        leader = self._election.follower.leader
        return self._election.follower.largest_epoch if leader is None else leader.epoch

    async def close(self) -> None:
        """Let everything go."""
        self.gate.end("the processor has ended")
        await self.rankings.close(0.2)
        if self._election is not None:
            await self._election.session.close()
            await asyncio.to_thread(self._election.ends.close)


def lead(
    group: str,
    logs: KnownLogs,
    region: RegionSettings,
    settings: ProcessorSettings,
    clock: Clock,
) -> Leadership:
    """Build the gate of a region. Call it in the loop that it will run in."""
    rankings = Delivery(
        region.bootstrap,
        delivery_timeout_ms=settings.rankings_timeout_ms,
        queue_messages_max=settings.rankings_queue_max,
        idempotent=False,
    )
    if region.is_alone:
        bind_process(epoch=list(EPOCH_OPEN))
        return Leadership(Gate(EPOCH_OPEN), rankings, None, clock)
    session = aiohttp.ClientSession()
    ends = RankingsEnds(region.bootstrap, f"{group}.rankings", logs, settings.broker_timeout_seconds)
    markers = Markers(region.name, rankings, ends, logs, clock)
    news = asyncio.Event()

    def heard(answer: LeaseAnswer) -> None:
        bind_process(epoch=list(answer.largest_epoch))
        news.set()

    follower = LeaseFollower(region.control_url, session, clock, heard)
    gate = LeasedGate(follower.term, lambda: follower.largest_epoch, clock)
    keeper = TermKeeper(gate, markers, follower, news, clock)
    return Leadership(gate, rankings, Election(session, follower, keeper, markers, ends), clock)


def publisher(delivery: Delivery, incarnation: str, metrics: ProcessorMetrics) -> Publish:
    """Return what puts a ranking into the rankings log; undelivered ones are counted."""
    topic = rankings_log(incarnation)

    def report(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            metrics.rankings_lost.inc()

    def traced(trace: Trace) -> OnReport:
        began = trace.now()

        def report_traced(error: KafkaError | None, message: Message) -> None:
            trace.add("publish", began, kind="producer", error="" if error is None else error.str())
            report(error, message)

        return report_traced

    def publish(ranking: Ranking) -> None:
        trace = current()
        delivery.send(
            topic,
            encode_ranking(ranking),
            key=ranking.reply_to.encode(),
            headers=[epoch_header(ranking.epoch)],
            on_report=traced(trace) if trace.recorded else report,
        )

    return publish
