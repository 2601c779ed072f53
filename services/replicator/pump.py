"""The thread that carries records: from one peer's Kafka, through the flows, into the own one.

It knows nothing of why a partition is copied from here, and repairs nothing: what to read is handed to it, and a flow
that ended is left alone until it is taken away.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.common.clock import Clock
from services.replicator.flow import Flow, Sent, Why
from services.replicator.kafka import reader_settings
from services.replicator.positions import Place
from services.replicator.progress import TokenBucket
from services.replicator.settings import ReplicatorSettings
from services.replicator.target import Target
from streams.copies import HEADER_HOLE, HEADER_ORIGIN, Origin, hole_headers, origin_header
from streams.logs import record_checksum

_POLL_SECONDS: Final = 0.1
_RECORDS_MAX: Final = 1000
_SILENT_SECONDS: Final = 10.0
_AT_END: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
_NOT_THERE: Final = (
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - its public name
    KafkaError._LOG_TRUNCATION,  # noqa: SLF001 - its public name
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lane:
    """A flow and what goes with it."""

    flow: Flow
    report: Callable[[Any, Message], None]
    since: float
    """When its reading was asked for, on the monotonic clock."""
    heard: bool = False
    """Whether anything came: a record, an error, or that the end is reached, which is said at once."""


class Pump:
    """Reads one peer. `is_fresh(contact)` says whether the contact under which a flow began is still unbroken."""

    def __init__(
        self,
        region: str,
        bootstrap: str,
        settings: ReplicatorSettings,
        clock: Clock,
        *,
        is_fresh: Callable[[int], bool],
        on_end: Callable[[], None],
        throttle: TokenBucket,
    ) -> None:
        self.region = region
        self._bootstrap = bootstrap
        self._settings = settings
        self._clock = clock
        self._is_fresh = is_fresh
        self._on_end = on_end
        self._throttle = throttle
        self._commands: deque[tuple[str, Flow, Target | None]] = deque()
        self._lanes: dict[Place, _Lane] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pump-{region}", daemon=True)
        self._started = False
        self.failure: Exception | None = None
        self.records = 0
        self.bytes = 0
        """Handed to the own Kafka since the start."""

    def attach(self, flow: Flow, target: Target) -> None:
        """Begin to read for `flow`."""
        self._commands.append(("attach", flow, target))
        if not self._started:
            self._started = True
            self._thread.start()

    def detach(self, flow: Flow) -> None:
        """Read no more for `flow`, which has ended."""
        self._commands.append(("detach", flow, None))

    def close(self) -> None:
        """End the thread. Blocks."""
        self._ending.set()
        if self._started:
            self._thread.join(5.0)

    def _run(self) -> None:
        consumer = self._new_consumer()
        try:
            while not self._ending.is_set():
                if self._must_renew():
                    consumer.close()
                    consumer = self._new_consumer()
                self._obey(consumer)
                self._carry(consumer)
        except Exception as failure:  # noqa: BLE001 - the outermost loop of this thread: its owner raises it
            self.failure = failure
            self._on_end()
        finally:
            consumer.close()

    def _new_consumer(self) -> Consumer:
        return Consumer(reader_settings(self._bootstrap, self._settings.fetch_kbytes_max))

    def _must_renew(self) -> bool:
        """Whether the client is given up, and every flow with it: it may never find a broker that came back.

        It is for a new contact, and when a partition is silent: its end is said at once when there is nothing more.
        """
        contact = max((flow.contact for command, flow, _ in list(self._commands) if command == "attach"), default=-1)
        now = self._clock.monotonic()
        silent = any(
            not lane.heard and lane.flow.ended is None and now - lane.since > _SILENT_SECONDS
            for lane in self._lanes.values()
        )
        is_newer = bool(self._lanes) and contact > max(lane.flow.contact for lane in self._lanes.values())
        if not silent and not is_newer:
            return False
        for lane in self._lanes.values():
            lane.flow.end(Why.DOUBT, f"the client that read {self.region} was replaced")
        self._lanes.clear()
        self._on_end()
        return True

    def _obey(self, consumer: Consumer) -> None:
        while self._commands:
            command, flow, target = self._commands.popleft()
            lane = self._lanes.get(flow.place)
            if lane is not None and (command == "attach" or lane.flow is flow):
                consumer.incremental_unassign([TopicPartition(*flow.place)])
                del self._lanes[flow.place]
            if target is not None:
                self._lanes[flow.place] = _Lane(flow, target.reporter(flow), self._clock.monotonic())
                self._target = target
                consumer.incremental_assign([TopicPartition(*flow.place, flow.start_offset)])

    def _carry(self, consumer: Consumer) -> None:
        try:
            first = consumer.poll(_POLL_SECONDS)
            if first is None:
                return
            messages = [first, *consumer.consume(_RECORDS_MAX, 0)]
        except KafkaException as error:
            log.warning("the peer's Kafka cannot be read: %s", error)
            self._ending.wait(_POLL_SECONDS)
            return
        self.take(messages)

    def take(self, messages: Sequence[Message]) -> None:
        """Lead what was fetched through the flows that it belongs to."""
        self._doubt_stale()
        for message in messages:
            lane = self._lanes.get((message.topic() or "", message.partition() or 0))
            if lane is None:
                continue
            lane.heard = True
            if lane.flow.ended is not None:
                continue
            problem = message.error()
            if problem is not None:
                _meet(lane.flow, problem)
            else:
                self._pace(self._copy(lane, message))
            if lane.flow.ended is not None:
                self._on_end()

    def _pace(self, taken_bytes: int) -> None:
        if taken_bytes and self._throttle.is_set:
            wait_seconds = self._throttle.take(taken_bytes, self._clock.monotonic())
            if wait_seconds > 0:
                self._ending.wait(wait_seconds)
                for lane in self._lanes.values():
                    lane.since += wait_seconds  # The silence is ours: nothing was read meanwhile.

    def _doubt_stale(self) -> None:
        """End the flows whose contact was interrupted, before anything that came since is taken."""
        stale: dict[int, bool] = {}
        for lane in self._lanes.values():
            contact = lane.flow.contact
            if contact not in stale:
                stale[contact] = not self._is_fresh(contact)
            if stale[contact] and lane.flow.ended is None:
                lane.flow.end(Why.DOUBT, f"the contact with {self.region} was interrupted")
                self._on_end()

    def _copy(self, lane: _Lane, message: Message) -> int:
        value = message.value()
        headers: Any = message.headers() or []
        epoch = message.leader_epoch()
        record = lane.flow.take(
            message.offset() or 0, -1 if epoch is None else epoch, headers, record_checksum(value or b"")
        )
        if record is None:
            return 0
        if lane.flow.from_origin:
            headers.append(origin_header(Origin(record.start, record.leader_epoch)))
        elif record.is_hole:
            headers = _of_hole(record, headers)
        self._target.send(lane.flow, record, message.key(), value, headers, lane.report)
        size = len(value or b"")
        self.records += 1
        self.bytes += size
        return size


def _of_hole(record: Sent, headers: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The headers of a hole whose beginning is held already; who accepted it stays said."""
    others = [pair for pair in headers if pair[0] not in {HEADER_ORIGIN, HEADER_HOLE}]
    return [*others, *hole_headers(record.start, record.end)]


def _meet(flow: Flow, problem: KafkaError) -> None:
    if problem.code() == _AT_END:
        flow.at_source_end()
    elif problem.code() in _NOT_THERE:
        flow.end(Why.NOT_THERE, f"{flow.place[0]}/{flow.place[1]} at {flow.source}: {problem.str()}", flow.next_offset)
    else:
        flow.end(Why.DOUBT, f"{flow.place[0]}/{flow.place[1]} at {flow.source}: {problem.str()}")
