"""What the worker counts, in one place: plain numbers behind Triton's statistics call and Triton's metric names.

Triton exports times as ever-growing counters of microseconds; they are kept under their names so that existing
dashboards work, but a counter cannot show a tail, so the same moments are real histograms too (`metrics.py`).
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """One more (or `count` more that took `seconds` together)."""
        self.count += count
        self.seconds += seconds


@dataclass(slots=True)
class VersionStatistics:
    """Counts of one served version. `inferences` are rows, `executions` are runs of the engine."""

    inferences: int = 0
    executions: int = 0
    pending: int = 0
    last_inference_unix_ms: int = 0
    success: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    failures: dict[str, int] = field(default_factory=dict)
    batches: dict[int, Duration] = field(default_factory=dict)

    def batch(self, rows: int) -> Duration:
        """The runs that had this many rows."""
        return self.batches.setdefault(rows, Duration())

    def failed(self, code: str) -> None:
        """One more request that was not scored, by its problem's code."""
        self.failures[code] = self.failures.get(code, 0) + 1
