"""What a controller counts and shows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

FAILOVER_REASONS = ("automatic", "operator")


class ControllerMetrics:
    """One set over one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.failovers = Counter(
            "meridian_failovers",
            "Terms that this region took over from another one, by what led to it.",
            ["reason"],
            registry=registry,
        )
        for reason in FAILOVER_REASONS:
            self.failovers.labels(reason)
        self.last_seen = Gauge(
            "meridian_coordination_last_seen_timestamp_seconds",
            "Unix time at which the coordination store was last heard.",
            registry=registry,
        )
        self.active = Gauge("meridian_region_active", "1 while this region may act.", registry=registry)
        self.epoch_generation = Gauge(
            "meridian_leader_epoch_generation", "Generation of the largest epoch seen.", registry=registry
        )
        self.epoch = Gauge(
            "meridian_leader_epoch", "Create revision of the leader key: the epoch's second part.", registry=registry
        )
        self.lease_left = Gauge(
            "meridian_lease_remaining_seconds", "For how long this region may still act.", registry=registry
        )
        self.receipts_open = Gauge("meridian_receipts_open", "Receipts that are not closed.", registry=registry)
        self.paused = Gauge("meridian_paused", "1 while an operator has paused transitions.", registry=registry)
