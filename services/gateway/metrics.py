"""What the gateway counts. Labels are bounded: routes, statuses, a few words for reasons."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.gateway.packer import CloseReason

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STOPPED = ("stale_epoch", "not_active", "no_longer_valid")
"""Why the last check keeps a ranking from an app."""
_COUNTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 4000, 8000)


class GatewayMetrics:
    """The metrics of one gateway, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests(registry)
        self._log(registry)
        self._rankings(registry)
        self._inbox(registry)

    def _requests(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "meridian_gateway_requests_total", "Requests answered.", ["route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "meridian_gateway_request_seconds",
            "From the head of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.events = Counter(
            "meridian_gateway_events_total",
            "Events by outcome: accepted, refused or unknown.",
            ["outcome"],
            registry=registry,
        )
        self.refused = Counter(
            "meridian_gateway_refused_total", "Requests refused, by reason.", ["reason"], registry=registry
        )
        self.events_waiting = Gauge(
            "meridian_gateway_events_waiting", "Events between arrival and acknowledgement.", registry=registry
        )
        self.bytes_waiting = Gauge(
            "meridian_gateway_request_bytes_waiting", "Bytes of requests that are being served.", registry=registry
        )
        self.frames_in_flight = Gauge(
            "meridian_gateway_frames_in_flight", "Frames sent and not acknowledged.", registry=registry
        )

    def _log(self, registry: CollectorRegistry) -> None:
        self.frame_events = Histogram(
            "meridian_gateway_frame_events", "Events in a frame.", buckets=_COUNTS, registry=registry
        )
        self.frames_closed = Counter(
            "meridian_gateway_frames_closed_total", "Frames, by why they were closed.", ["reason"], registry=registry
        )
        self.frame_seconds = Histogram(
            "meridian_gateway_frame_acknowledged_seconds",
            "From closing a frame to its acknowledgement.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.frames_failed = Counter(
            "meridian_gateway_frames_failed_total", "Frames that were not acknowledged.", registry=registry
        )
        self.log_cut = Gauge(
            "meridian_gateway_log_cut", "1 once the log was found cut before its acknowledged end.", registry=registry
        )
        self.peers = Gauge(
            "meridian_gateway_peers", "Regions that said lately how far they hold this log.", registry=registry
        )
        self.unreplicated_events = Gauge(
            "meridian_gateway_unreplicated_events",
            "Acknowledged events that the best peer does not hold; NaN when that cannot be told.",
            registry=registry,
        )
        self.ends_records = Counter(
            "meridian_gateway_acknowledged_ends_records_total",
            "Attempts to record acknowledged ends.",
            registry=registry,
        )
        self.ends_not_recorded = Counter(
            "meridian_gateway_acknowledged_ends_not_recorded_total",
            "Attempts to record acknowledged ends that failed.",
            registry=registry,
        )

    def _inbox(self, registry: CollectorRegistry) -> None:
        self.inbox_records = Counter(
            "meridian_inbox_records_total",
            "Records of the inbox by outcome: moved, refused (dead log), retried, gone (before they were moved).",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("moved", "refused", "retried", "gone"):
            self.inbox_records.labels(outcome)
        self.inbox_lag_records = Gauge(
            "meridian_inbox_lag_records", "Records of the inbox that are not moved.", registry=registry
        )
        self.inbox_lag_seconds = Gauge(
            "meridian_inbox_lag_seconds", "Age of the oldest record of the inbox that is not moved.", registry=registry
        )

    def _rankings(self, registry: CollectorRegistry) -> None:
        self.asks_in_flight = Gauge(
            "meridian_gateway_asks_in_flight", "Requests that wait for a ranking.", registry=registry
        )
        self.asks_expired = Counter(
            "meridian_gateway_asks_expired_total",
            "Requests whose deadline passed without a ranking.",
            registry=registry,
        )
        self.rankings_dropped = Counter(
            "meridian_gateway_rankings_dropped_total",
            "Rankings not shown: late, stale epoch, not active, no longer valid, unreadable.",
            ["reason"],
            registry=registry,
        )
        for reason in STOPPED:  # shown as 0 from the start: a counter that begins with 1 has not increased
            self.rankings_dropped.labels(reason)
        self.fenced = Counter(
            "meridian_fenced_total", "Effects that were stopped by the fence, by where.", ["where"], registry=registry
        )
        self.fenced.labels("gateway")
        self.rungs = Counter(
            "meridian_gateway_rankings_served_total", "Rankings shown, by rung.", ["rung"], registry=registry
        )
        self.served_dropped = Counter(
            "meridian_gateway_served_events_dropped_total",
            "Served events that could not be written: what was shown is not in the log.",
            registry=registry,
        )

    def frame(self, reason: CloseReason, events: int) -> None:
        """Count a closed frame."""
        self.frames_closed.labels(reason.value).inc()
        self.frame_events.observe(events)
