"""What a replicator counts."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from services.replicator.replicator import Replicator


class ReplicationMetrics:
    """Reads the replicator when somebody asks: what is copied is never slowed by counting it twice."""

    def __init__(self, replicator: Replicator, registry: CollectorRegistry) -> None:
        self._replicator = replicator
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of this moment."""
        report = self._replicator.report()
        lag_events = GaugeMetricFamily(
            "meridian_replication_lag_events", "Events that the origin has and this region has not.", labels=["log"]
        )
        lag_records = GaugeMetricFamily(
            "meridian_replication_lag_records", "Records that can be had and are not copied yet.", labels=["log"]
        )
        lag_seconds = GaugeMetricFamily(
            "meridian_replication_lag_seconds", "For how long the copy has been behind its origin.", labels=["log"]
        )
        contact = GaugeMetricFamily(
            "meridian_replication_last_contact_timestamp_seconds",
            "Before sending the last poll of the origin that was answered.",
            labels=["log"],
        )
        for log in report.logs:
            if log.lag_events is not None:
                lag_events.add_metric([log.log], log.lag_events)
            lag_records.add_metric([log.log], log.lag_records)
            lag_seconds.add_metric([log.log], log.lag_seconds)
            if log.last_contact_ms:
                contact.add_metric([log.log], log.last_contact_ms / 1000)
        yield from (lag_events, lag_records, lag_seconds, contact)
        yield GaugeMetricFamily(
            "meridian_replication_alarms", "Alarms that are up now; GET /v1/replication says which.", len(report.alarms)
        )
        records, size = self._replicator.carried
        yield CounterMetricFamily("meridian_replication_records", "Records copied by this process.", records)
        yield CounterMetricFamily("meridian_replication_bytes", "Bytes of values copied by this process.", size)
        yield CounterMetricFamily(
            "meridian_replication_losses", "How often a copy had lost records and was filled again.",
            self._replicator.losses,
        )  # fmt: skip
