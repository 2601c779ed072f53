"""What an operator can set about traces (`[tracing]`, `MERIDIAN_TRACING_...`): one table for all of a region."""

from typing import Annotated, ClassVar

import msgspec

from services.common.settings import ServiceSettings

_Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
_Positive = Annotated[int, msgspec.Meta(ge=1)]


class TracingSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shared by gateway, processor and inference worker: they must agree on which requests are recorded."""

    TABLE: ClassVar[str] = "tracing"

    record_share: _Share = 1.0
    """Share of requests for rankings whose spans are kept in memory for `meridian trace`; sampled ones always are."""
    sample_share: _Share = 0.0
    """Share of requests without a `traceparent` that are sampled: exported, and marked so for whoever is asked next."""
    ring_requests: Annotated[int, msgspec.Meta(ge=0)] = 4_000
    """Requests whose spans each process keeps, sampled ones apart from others; 0 keeps none. One takes about 3 KB."""
    slow_ms: _Positive = 250
    """A request that takes longer is written to the log with what took how long, one line a second at most."""
    otlp_endpoint: str = ""
    """Where sampled spans go, as in http://collector:4318/v1/traces; empty: nowhere. Needs the extra `otel`."""
    export_queue_spans: _Positive = 4_096
    """Spans that may wait for being exported; more are dropped and counted."""
    export_interval_ms: _Positive = 1_000
    """How often waiting spans are sent."""
    export_timeout_ms: _Positive = 2_000
    """How long one sending may take, with all its tries; then its spans are dropped and counted."""

    def check(self) -> str | None:
        """Refuse an address that no exporter could use."""
        if self.otlp_endpoint and not self.otlp_endpoint.startswith(("http://", "https://")):
            return "otlp_endpoint must begin with http:// or https://, as in http://collector:4318/v1/traces"
        return None
