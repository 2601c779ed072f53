"""The running processor: what happens when a record was taken, and what the process looks like from outside."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from services.common.clock import Clock
from services.common.logging import get_logger
from services.processor.answering import Answerer
from services.processor.catalogue_follower import CatalogueFollower
from services.processor.fold_meter import FoldMeter
from services.processor.metrics import Figures, ProcessorMetrics
from streams.asks import Epoch, decode_asks
from streams.digest import digest
from streams.errors import DECODE_ERRORS
from streams.fold import Applied
from streams.frame import HEADER_ASKS, HEADER_KEY, HEADER_TRACE, header
from streams.intake import LogRecord
from streams.position import Position
from streams.state import State
from streams.truncation import LogUnreachableError, Mark, Place, Watch

log = get_logger(__name__)


def marks_of(state: State) -> dict[Place, Mark]:
    """The last record of each partition, for the watch."""
    return {
        place: Mark(point.next_offset, point.last_checksum, point.last_leader_epoch)
        for place, point in state.points.items()
    }


class Live:
    """Holds the parts of one processor together; it is the intake's observer."""

    def __init__(
        self,
        *,
        state: State,
        watch: Watch,
        answerer: Answerer,
        catalogue: CatalogueFollower,
        metrics: ProcessorMetrics,
        clock: Clock,
        key_fingerprint: str,
        asks_frame_max: int,
        own_log: str,
    ) -> None:
        self.state = state
        self.watch = watch
        self.answerer = answerer
        self._catalogue = catalogue
        self._metrics = metrics
        self._clock = clock
        self._key_fingerprint = key_fingerprint.encode()
        self._asks_frame_max = asks_frame_max
        self._own_log = own_log
        self.fold: FoldMeter | None = None
        """Who measures the fold, once the intake is there."""
        self._dropping: set[Place] = set()
        self._newest_appended_ms: dict[str, int] = {}

    def taken(self, record: LogRecord, applied: Applied, seconds: float) -> None:
        """See Observer."""
        self._metrics.fold_seconds.observe(seconds)
        self._metrics.frame_events.observe(applied.events + applied.item_events)
        if self.fold is not None:
            self.fold.took(applied.events + applied.item_events)
        newest = self._newest_appended_ms
        newest[record.log] = max(newest.get(record.log, 0), record.appended_ms)
        if applied.changed_items:
            self._catalogue.changed(applied.changed_items)
        if (parent := header(record.headers, HEADER_TRACE)) is not None:
            self._trace(record, applied, seconds, parent)
        key = header(record.headers, HEADER_KEY)
        if key is not None and key != self._key_fingerprint:
            self._metrics.foreign_key.inc()
        # Who asked through another region waits for that region's answer, if anybody still waits at all.
        asks = header(record.headers, HEADER_ASKS) if record.log == self._own_log else None
        if asks is not None:
            self._metrics.stage("log", max(0, self._clock.unix_ms() - record.appended_ms) / 1000)
            self._submit(asks, record.appended_ms)
        self.answerer.advanced()

    def _trace(self, record: LogRecord, applied: Applied, seconds: float, parent: bytes) -> None:
        """Continue the span that wrote the frame: it stands in the record, because a thread lies between the two."""
        trace = self.answerer.tracer.continued(parent.decode("ascii", "replace"))
        if not trace.recorded:
            return
        folded = trace.began
        waited = max(0, self._clock.unix_ms() - record.appended_ms) / 1000
        place, caused_by = f"{record.log}/{record.partition}/{record.offset}", trace.parent_id
        read = trace.add(
            "log.read", folded - waited, folded - seconds, parent_id=caused_by, kind="consumer", position=place
        )
        copied, events = record.log != self._own_log, applied.events + applied.item_events
        trace.add("fold", folded - seconds, folded, parent_id=read, events=events, copy=copied)

    def duplicate(self, record: LogRecord) -> None:  # noqa: ARG002 - the observer's contract
        """See Observer."""
        self._metrics.redelivered.inc()

    def buried(self, record: LogRecord, position: Position, reason: str) -> None:  # noqa: ARG002 - the contract
        """See Observer."""
        log.warning("a record went to the dead log", position=str(position), reason=reason)
        self.answerer.advanced()

    def dropped(self, record: LogRecord, reason: str) -> None:
        """See Observer."""
        self._metrics.dropped.inc()
        if record.place not in self._dropping:
            self._dropping.add(record.place)
            log.warning("a record of a copy was dropped", log=record.log, partition=record.partition, reason=reason)

    def unreachable(self, problem: LogUnreachableError) -> None:
        """See Observer."""
        self._metrics.broker_unreachable.inc()
        log.warning("the broker does not answer", reason=str(problem))

    def _submit(self, raw: bytes, appended_ms: int) -> None:
        try:
            asks = decode_asks(raw)
        except DECODE_ERRORS as problem:
            self._metrics.asks_bad.inc()
            log.warning("asks could not be read", reason=str(problem))
            return
        for ask in asks[: self._asks_frame_max]:
            self.answerer.submit(ask, appended_ms)
        for ask in asks[self._asks_frame_max :]:
            self._metrics.ask_ended(ask.kind, "overflow", "none")

    def figures(
        self,
        group: str,
        read_to: Mapping[Place, int],
        snapshot_age_seconds: float,
        *,
        gate_open: bool,
        leader_epoch: Epoch,
    ) -> Figures:
        """What the process looks like now; `read_to` are the next offsets of this region's Kafka."""
        state = self.state
        ends = {place: end.next_offset for place, end in self.watch.ends.items()}
        return Figures(
            tally=state.tally,
            next_offsets=read_to,
            ends=ends,
            lag_seconds=self._lags(read_to, ends),
            snapshot_age_seconds=snapshot_age_seconds,
            scoring=self.answerer.scoring,
            waiting=self.answerer.waiting,
            gate_open=gate_open,
            leader_epoch=leader_epoch,
            log_cut=self.watch.cut is not None,
            proofs=self.watch.proofs,
            state_bytes=state.nbytes(),
            catalogue_items=len(state.catalogue),
            digest=digest(state).hex(),
            group=group,
        )

    def _lags(self, read_to: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[str, float]:
        """By log, the age of the newest record that was taken while others wait; 0 for one that is read to its end."""
        behind = {place[0] for place, end in ends.items() if end > read_to.get(place, 0)}
        now_ms, newest = self._clock.unix_ms(), self._newest_appended_ms
        return {
            log_name: max(0, now_ms - newest[log_name]) / 1000 if log_name in behind and log_name in newest else 0.0
            for log_name in sorted({place[0] for place in read_to})
        }


class StateReport(msgspec.Struct, frozen=True):
    """The answer of `GET /v1/state`; also what `meridian digest --until` reads."""

    region: str
    incarnation: str
    frontier: list[tuple[str, int, int]]
    digest: str
    clock_bucket: int | None
    fold_version: int
    events: int
    item_events: int
    duplicates: int
    late: int
    dead: int
    frames: int


def state_report(region: str, incarnation: str, state: State) -> StateReport:
    """Describe `state`; digest and frontier belong together, because nothing is awaited between them."""
    found = digest(state)
    return StateReport(
        region=region,
        incarnation=incarnation,
        frontier=state.frontier.to_rows(),
        digest=found.hex(),
        clock_bucket=state.clock_bucket,
        fold_version=found.fold_version,
        events=state.tally.events,
        item_events=state.tally.item_events,
        duplicates=state.tally.duplicates,
        late=state.tally.late,
        dead=state.tally.dead_frames,
        frames=state.tally.frames,
    )
