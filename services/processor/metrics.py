"""What the processor counts. What the state counts itself (events, duplicates, late) is read from it at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.common.logging import get_logger
from services.common.metrics import SECONDS_BUCKETS
from services.processor.admission import Course
from services.processor.canary import CANARY
from services.processor.ladder import StepDown
from streams.asks import Epoch
from streams.state import Tally
from streams.truncation import Place

log = get_logger(__name__)

FINE_SECONDS_BUCKETS = (0.0001, 0.00025, 0.0005, *SECONDS_BUCKETS)


@dataclass(frozen=True, slots=True)
class Figures:
    """What the process looks like at one moment."""

    tally: Tally
    next_offsets: Mapping[Place, int]
    ends: Mapping[Place, int]
    """Where each partition's log ended when it was last looked at."""
    lag_seconds: Mapping[str, float]
    """By log."""
    snapshot_age_seconds: float
    scoring: int
    waiting: int
    gate_open: bool
    leader_epoch: Epoch
    """Of whoever leads, as last heard."""
    log_cut: bool
    proofs: int
    state_bytes: int
    catalogue_items: int
    digest: str
    group: str


class ProcessorMetrics:
    """Counters and histograms of one processor; it is the `AskObserver`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.fold_seconds = Histogram(
            "meridian_fold_frame_seconds",
            "Time to decode and fold one frame.",
            buckets=FINE_SECONDS_BUCKETS,
            registry=registry,
        )
        self.frame_events = Histogram(
            "meridian_frame_events",
            "Events in a frame.",
            buckets=(0, 1, 5, 25, 100, 250, 500, 1000, 5000, 32000),
            registry=registry,
        )
        self.redelivered = Counter(
            "meridian_records_redelivered_total", "Records below the frontier, dropped.", registry=registry
        )
        self.dropped = Counter(
            "meridian_copies_dropped_total",
            "Records of copies that could not be taken when they came.",
            registry=registry,
        )
        self.foreign_key = Counter(
            "meridian_frames_foreign_key_total", "Frames written under another pseudonym key.", registry=registry
        )
        self.broker_unreachable = Counter(
            "meridian_broker_unreachable_total", "Questions that the broker did not answer.", registry=registry
        )
        self.asks_bad = Counter(
            "meridian_asks_undecodable_total", "Headers of asks that could not be read.", registry=registry
        )
        self.rankings_lost = Counter(
            "meridian_rankings_undelivered_total",
            "Rankings that the broker did not acknowledge.",
            registry=registry,
        )
        self._asks = Counter(
            "meridian_asks_total", "Asks by how they ended.", ["kind", "outcome", "rung"], registry=registry
        )
        fenced = Counter(
            "meridian_fenced_total", "Effects that were stopped by the fence, by where.", ["where"], registry=registry
        )
        self._fenced = fenced.labels("processor")
        self._step_downs = Counter(
            "meridian_step_downs_total",
            "Answers that did not come from the model, by reason.",
            ["why"],
            registry=registry,
        )
        for why in StepDown:
            if why is not StepDown.NONE:
                self._step_downs.labels(why.value)
        self._stages = Histogram(
            "meridian_ask_stage_seconds",
            "Time of each stage of an answer.",
            ["stage"],
            buckets=FINE_SECONDS_BUCKETS,
            registry=registry,
        )
        self._stage_of = {name: self._stages.labels(name) for name in ("log", "wait", "features", "score", "whole")}

    def ask_ended(self, kind: str, outcome: str, rung: str) -> None:
        """See AskObserver."""
        self._asks.labels(kind, outcome, rung).inc()
        # A canary behind a shut gate is stopped every second, as it should be; nobody tried to show anything.
        if outcome == Course.DROP_GATE.value and kind != CANARY:
            self._fenced.inc()

    def ask_failed(self, kind: str, bug: BaseException) -> None:
        """See AskObserver."""
        self._asks.labels(kind, "failed", "none").inc()
        log.error("an ask could not be answered", kind=kind, exc_info=bug)

    def stepped_down(self, why: StepDown) -> None:
        """See AskObserver."""
        self._step_downs.labels(why.value).inc()

    def stage(self, name: str, seconds: float) -> None:
        """See AskObserver."""
        self._stage_of[name].observe(seconds)


class FiguresCollector(Collector):
    """Turns `Figures` into metrics whenever somebody looks."""

    def __init__(self, figures: Callable[[], Figures | None]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of this moment; none before the state is there."""
        found = self._figures()
        if found is None:
            return
        yield from _counts(found)
        yield from _lag(found)
        for name, help_text, value in (
            ("meridian_snapshot_age_seconds", "Since the last snapshot.", found.snapshot_age_seconds),
            ("meridian_asks_scoring", "Asks that wait for the inference worker.", found.scoring),
            ("meridian_asks_waiting", "Asks that wait for their read token.", found.waiting),
            ("meridian_gate_open", "1 when this region may show effects.", found.gate_open),
            ("meridian_region_active", "1 when this region leads and its gate is open.", found.gate_open),
            ("meridian_leader_epoch", "Revision part of the leader's epoch, as last heard.", found.leader_epoch[1]),
            ("meridian_leader_generation", "Generation part of the leader's epoch.", found.leader_epoch[0]),
            ("meridian_log_cut", "1 when a log was cut; nothing is taken any more.", found.log_cut),
            ("meridian_state_bytes", "Memory of the fold's tables.", found.state_bytes),
            ("meridian_catalogue_items", "Items that the catalogue knows.", found.catalogue_items),
        ):
            yield GaugeMetricFamily(name, help_text, value=float(value))
        digest = GaugeMetricFamily("meridian_state_digest_info", "Digest of the state.", labels=["digest"])
        digest.add_metric([found.digest], 1.0)
        yield digest


def _counts(found: Figures) -> Iterable[Metric]:
    tally = found.tally
    for name, help_text, value in (
        ("meridian_events_folded", "Distinct events in the log, without those of the catalogue.", tally.events),
        ("meridian_item_events_folded", "Catalogue events.", tally.item_events),
        ("meridian_frames_folded", "Frames.", tally.frames),
        ("meridian_events_duplicate", "Events that were known already.", tally.duplicates),
        ("meridian_events_late", "Events before the horizon.", tally.late),
        ("meridian_frames_dead", "Records that went to the dead log.", tally.dead_frames),
        ("meridian_log_proofs", "Times that the log had to show its records again.", found.proofs),
    ):
        yield CounterMetricFamily(name, help_text, value=float(value))


def _lag(found: Figures) -> Iterable[Metric]:
    labels = ["consumergroup", "topic", "partition"]
    lag = GaugeMetricFamily("kafka_consumergroup_lag", "Records not folded yet.", labels=labels)
    current = GaugeMetricFamily("kafka_consumergroup_current_offset", "Next offset to fold.", labels=labels)
    for (topic, partition), next_offset in sorted(found.next_offsets.items()):
        values = [found.group, topic, str(partition)]
        current.add_metric(values, next_offset)
        lag.add_metric(values, max(0, found.ends.get((topic, partition), next_offset) - next_offset))
    yield lag
    yield current
    age = GaugeMetricFamily(
        "meridian_stream_lag_seconds", "Age of the newest folded record while others wait.", labels=["log"]
    )
    for log_name, seconds in sorted(found.lag_seconds.items()):
        age.add_metric([log_name], seconds)
    yield age
