"""What a controller counts and shows."""

from __future__ import annotations

from math import nan

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.controller.forecast import PARTS, RtoForecast

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
        self.promotable = Gauge(
            "meridian_region_promotable",
            "1 while this region could take over by its own account, or holds the lease soundly.",
            registry=registry,
        )
        self.paused = Gauge("meridian_paused", "1 while an operator has paused transitions.", registry=registry)
        self._rto = Gauge(
            "meridian_rto_forecast_seconds",
            "Until rankings would come from here, if the active region died now; NaN: not known, or it is active.",
            registry=registry,
        )
        self._rto_max = Gauge(
            "meridian_rto_forecast_max_seconds",
            "The same in the worst case that the formula allows.",
            registry=registry,
        )
        self._rto_parts = Gauge(
            "meridian_rto_forecast_part_seconds",
            "The parts of that forecast; `correction` is what past drills took beyond the formula.",
            ["part"],
            registry=registry,
        )
        self.show_forecast("")

    def show_forecast(self, found: RtoForecast | str) -> None:
        """Set the gauges of the forecast; NaN where there is none."""
        known = None if isinstance(found, str) else found
        self._rto.set(nan if known is None else known.seconds)
        self._rto_max.set(nan if known is None else known.seconds_max)
        for part in PARTS:
            self._rto_parts.labels(part).set(nan if known is None else known.part(part))
