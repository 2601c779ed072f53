"""What all routes of a gateway share, from before the log is open until after it is closed."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from services.common.clock import Clock
from services.common.problem import Problem
from services.common.tracing import NO_TRACER, Tracer
from services.gateway.acks import Acks
from services.gateway.admission import Admission
from services.gateway.answers import AnswerDesk
from services.gateway.canary import Canaries
from services.gateway.directory import Directory
from services.gateway.events_log import EventsLog
from services.gateway.metrics import GatewayMetrics
from services.gateway.processor_watch import ProcessorWatch
from services.gateway.routing import Alone, Opening, Rights
from services.gateway.settings import GatewaySettings
from streams.asks import Epoch, Ranking
from streams.events import EventReader

Send = Callable[[web.Request, web.Response], Awaitable[None]]


async def write_out(request: web.Request, response: web.Response) -> None:
    """Write an answer into its socket at once: handing it back to the server would let other tasks run first."""
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        await response.write_eof()


class Core:
    """The parts of one gateway. `open` makes it serve; before, every request for data is answered 503."""

    def __init__(
        self,
        settings: GatewaySettings,
        region: str,
        reply_to: str,
        metrics: GatewayMetrics,
        clock: Clock,
        rights: Rights | None = None,
        addresses: Mapping[str, str] | None = None,
        send: Send = write_out,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self.settings = settings
        self.tracer = tracer
        self.send = send
        """How an answer that was just checked reaches its asker."""
        self.region = region
        self.metrics = metrics
        self.clock = clock
        self.admission = Admission(
            events_max=settings.events_waiting_max,
            bytes_max=settings.bytes_waiting_max,
            retry_after_seconds=settings.retry_after_seconds,
        )
        self.watch = ProcessorWatch(settings.watch_limits())
        self.rights: Rights = Alone() if rights is None else rights
        """Who may show rankings."""
        self.opening = Opening(self.rights, region, lambda: self._log.partitions if self._log else 0)
        self.desk = AnswerDesk(reply_to, settings.asks_waiting_max, self.watch, metrics, clock, self.rights)
        self.canaries = Canaries(reply_to)
        self.directory = Directory(region, self.rights, addresses or {})
        self.acks = Acks(settings, clock)
        self._reader: EventReader | None = None
        self.phase: str | None = "starting"
        """Why nothing is served yet, or any more; None while the log is open."""
        self._log: EventsLog | None = None
        metrics.events_waiting.set_function(lambda: self.admission.events)
        metrics.bytes_waiting.set_function(lambda: self.admission.bytes)
        metrics.asks_in_flight.set_function(lambda: self.desk.in_flight)
        metrics.peers.set_function(self.acks.peers)
        metrics.unreplicated_events.set_function(self.acks.unreplicated_events)
        metrics.frames_in_flight.set_function(lambda: self._log.in_flight if self._log else 0)

    def open(self, log: EventsLog, reader: EventReader) -> None:
        """Serve from now on."""
        self._log = log
        self._reader = reader
        self.phase = None

    @property
    def reader(self) -> EventReader:
        """What reads events: it has the pseudonym key, which is held against the store first. Raises Problem (503)."""
        if self._reader is None:
            raise self._not_serving()
        return self._reader

    def on_epoch(self, epoch: Epoch, partition: int) -> None:
        """A larger epoch was seen in a partition of the own rankings log."""
        self.desk.on_epoch(epoch)
        self.opening.on_epoch(partition, epoch)

    def on_ranking(self, ranking: Ranking, epoch: Epoch) -> None:
        """An answer addressed to this process came."""
        if self.canaries.take(ranking):
            self.desk.on_epoch(max(epoch, ranking.epoch))
            self.watch.answered()
        else:
            self.desk.on_ranking(ranking, epoch)

    def on_unreadable(self) -> None:
        """A record of the rankings log was not what it should be."""
        self.desk.on_unreadable()

    def close(self, reason: str) -> None:
        """Take nothing more."""
        self.phase = reason
        if self._log is not None:
            self._log.stop(reason)

    def open_log(self) -> EventsLog:
        """The events log once it is open, whether or not it takes events now. Raises Problem (503)."""
        if self._log is None:
            raise self._not_serving()
        return self._log

    def log(self) -> EventsLog:
        """The events log, if it takes events now. Raises Problem (503)."""
        if self._log is None or self.phase is not None:
            raise self._not_serving()
        blocker = self._log.blocker()
        if blocker is not None:
            raise blocker
        return self._log

    def processor_blocker(self, now: float) -> str | None:
        """For readiness: why the processor gives no rankings, or None."""
        # Silence says something only where asks go out: a region that may not act asks nobody, so nobody would ever
        # break the silence in which its term ended, and it would never be found fit to act again.
        if self.rights.term().active:
            return self.watch.blocker(now)
        illness = self.watch.illness
        return None if illness is None else f"the processor is not ready: {illness}"

    def log_blocker(self) -> str | None:
        """For readiness: why the log takes no events, or None."""
        try:
            self.log()
        except Problem as problem:
            return problem.detail
        return None

    def _not_serving(self) -> Problem:
        return Problem(
            503,
            "not-serving",
            f"the gateway is not serving: {self.phase}",
            remedy="Send it again after Retry-After, with the same ids.",
            retry_after_seconds=self.settings.retry_after_seconds,
        )
