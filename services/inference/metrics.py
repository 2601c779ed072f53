"""The worker's metrics: Triton's names beside histograms, and why batches closed and requests were dropped.

"Is batching on at all?" is the most asked question about Triton's batcher: the batch-size histogram and the flush
counter answer it. The registry belongs to the object, not to the process, so that tests can have many.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.inference.statistics import VersionStatistics

_SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)

StatisticsByVersion = Callable[[], dict[tuple[str, str], VersionStatistics]]


class InferenceMetrics:
    """Everything that the worker measures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        prefix = "meridian_inference_"
        self.batch_rows = Histogram(
            prefix + "batch_rows", "Rows of a run, without padding", buckets=_ROWS, registry=registry
        )
        self.queue_seconds = _seconds(prefix + "queue_seconds", "From arrival to the start of the run", registry)
        self.compute_seconds = _seconds(prefix + "compute_seconds", "One run with its padding and cutting", registry)
        self.request_seconds = _seconds(prefix + "request_seconds", "From arrival to the scores", registry)
        self.flushes = Counter(prefix + "flushes_total", "Batches by why they closed", ["reason"], registry=registry)
        self.drops = Counter(
            prefix + "drops_total", "Requests that were not run, by why", ["reason"], registry=registry
        )
        self.problems = Counter(
            prefix + "problems_total", "Requests answered with a problem, by its code", ["code"], registry=registry
        )
        self.loads = Counter(
            prefix + "model_loads_total", "Versions loaded or refused", ["model", "outcome"], registry=registry
        )
        self.fetches = Counter(
            prefix + "fetches_total", "Versions asked of a peer", ["model", "outcome"], registry=registry
        )
        self.fetched_bytes = Counter(
            prefix + "fetched_bytes_total", "Bytes of versions received from peers", ["model"], registry=registry
        )
        self.standby_answers = Counter(
            prefix + "standby_answers_total",
            "Requests that the standby answered, by why the champion did not",
            ["reason"],
            registry=registry,
        )
        self.queue_rows = Gauge(prefix + "queue_rows", "Rows waiting for a run", registry=registry)
        self.degraded = Gauge(
            prefix + "degraded", "1 while answers come, but not from the version or device asked for", registry=registry
        )
        self.queue_rows_max = Gauge(prefix + "queue_rows_max", "The bound of queue_rows", registry=registry)
        self.device = Gauge(
            prefix + "device_info",
            "The device that was asked for and the real one",
            ["requested", "actual"],
            registry=registry,
        )
        self.model = Gauge(
            prefix + "model_info", "1 for the version that serves", ["model", "version", "sha256"], registry=registry
        )
        self.roles = Gauge(
            prefix + "role_info", "1 for the version that has a role", ["model", "role", "version"], registry=registry
        )

    def follow(self, statistics: StatisticsByVersion) -> None:
        """Export what `statistics` returns under Triton's names at each scrape."""
        self.registry.register(_TritonNames(statistics))


class _TritonNames(Collector):
    """Triton's counters have no `_total` in their names; the exposition's type for that is `untyped`."""

    def __init__(self, statistics: StatisticsByVersion) -> None:
        self._statistics = statistics

    def describe(self) -> Iterable[Metric]:
        """Nothing to check for doubles: the names are Triton's own."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """One family a name, one sample a version."""
        found = [({"model": m, "version": v}, s) for (m, v), s in self._statistics().items()]
        families: dict[str, Callable[[VersionStatistics], int]] = {
            "nv_inference_request_success": lambda s: s.success.count,
            "nv_inference_count": lambda s: s.inferences,
            "nv_inference_exec_count": lambda s: s.executions,
            "nv_inference_pending_request_count": lambda s: s.pending,
            "nv_inference_request_duration_us": lambda s: round(s.success.seconds * 1e6),
            "nv_inference_queue_duration_us": lambda s: round(s.queue.seconds * 1e6),
            "nv_inference_compute_input_duration_us": lambda s: round(s.compute_input.seconds * 1e6),
            "nv_inference_compute_infer_duration_us": lambda s: round(s.compute_infer.seconds * 1e6),
            "nv_inference_compute_output_duration_us": lambda s: round(s.compute_output.seconds * 1e6),
        }
        for name, value in families.items():
            family = Metric(name, "As in Triton", "unknown")
            for labels, statistics in found:
                family.add_sample(name, labels, value(statistics))
            yield family
        failures = Metric("nv_inference_request_failure", "As in Triton, by the problem's code", "unknown")
        for labels, statistics in found:
            for code, count in statistics.failures.items():
                failures.add_sample(failures.name, {**labels, "reason": code}, count)
        yield failures


def _seconds(name: str, text: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, text, buckets=_SECONDS, registry=registry)
