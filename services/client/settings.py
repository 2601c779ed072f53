"""The bounds of a client, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, fields

_MAY_BE_ZERO = ("remember_users_max", "remember_acknowledged_max", "discovery_interval_seconds")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Every bound is a setting; the defaults suit an app server."""

    outbox_events_max: int = 10_000
    """Unacknowledged events kept in memory; one more raises OutboxFull."""
    batch_events_max: int = 500
    """Events in one request."""
    batch_bytes_max: int = 1_000_000
    """Bytes in one request (one larger event still goes, alone)."""
    batches_in_flight_max: int = 4
    """Requests that publish at the same time, over all calls."""
    publish_timeout_seconds: float = 30.0
    """How long `publish` and `flush` try before they answer "unknown"."""
    publish_try_timeout_seconds: float = 3.0
    """How long one try may take before another gateway is asked."""
    ranking_timeout_ms: int = 1_000
    """How long a caller listens for a ranking, counted from sending, retries included."""
    ranking_try_timeout_ms: int = 400
    """How long one gateway may take for a ranking before another one is asked, where there is another."""
    discovery_interval_seconds: float = 10.0
    """How often a gateway is asked which gateways there are; 0: never, only those that the app named are used."""
    remember_acknowledged_max: int = 10_000
    """Acknowledged events that are kept for `republish`; 0 keeps none."""
    remember_users_max: int = 10_000
    """Users whose newest coordinates are kept for `after`; 0 keeps none."""
    connections_max: int = 64
    """Open connections, over all gateways."""

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 0 if field.name in _MAY_BE_ZERO else 0.001 if field.type == "float" else 1
            if getattr(self, field.name) < least:
                raise ValueError(f"{field.name} must be at least {least}, not {getattr(self, field.name)!r}")
