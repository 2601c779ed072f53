"""What the console reads of a controller's answers.

Shapes of its own, although the controller has them: a console stays open while regions are upgraded one after the
other, so a field that an older release does not send must read as unknown, and one that a newer one sends must not
matter. A test holds them against the controller's own.
"""

from __future__ import annotations

import msgspec

Epoch = tuple[int, int]


class LeaderSaid(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lease."""

    region: str
    epoch: Epoch
    gateway_url: str = ""
    serving: bool = False


class LeaseSaid(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/lease`."""

    region: str
    active: bool
    remaining_ms: int
    """For how long the asked region may act, counted from before it was asked."""
    reason: str
    largest_epoch: Epoch
    leader: LeaderSaid | None
    view_age_ms: int
    """How long ago the coordination store confirmed this."""
    version: int


class CanarySaid(msgspec.Struct, frozen=True, kw_only=True):
    """How the last canary search of a region went."""

    at_ms: int = 0
    reached: str = ""
    """`answer`, `gate` (as far as a passive region goes), or empty: it was lost."""
    latency_ms: float | None = None
    sent: int = 0
    lost: int = 0
    problem: str = ""
    unknown: bool = False
    """It could not be sent: neither a loss nor a success."""


class ForecastSaid(msgspec.Struct, frozen=True, kw_only=True):
    """How long a failover to a region would take now."""

    seconds: float
    detection_seconds: float = 0.0
    lease_seconds: float = 0.0
    replay_seconds: float = 0.0
    opening_seconds: float = 0.0
    lag_events: int = 0
    events_per_second: float | None = None
    because: str = ""


class RegionSaid(msgspec.Struct, frozen=True, kw_only=True):
    """One region, as the asked controller knows it."""

    region: str
    role: str = ""
    serving: bool = False
    incarnation: str = ""
    blocker: str = "it does not say whether it could take over"
    lag_events: int | None = None
    lag_seconds: float | None = None
    gateway_url: str = ""
    canary: CanarySaid | None = None
    rto_forecast: ForecastSaid | None = None


class PauseSaid(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's word that nothing moves by itself."""

    by: str
    reason: str
    created_ms: int = 0
    until_ms: int = 0


class OperationSaid(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asked for, and how far it is."""

    operation_id: str
    kind: str
    source: str = ""
    target: str = ""
    by: str = ""
    reason: str = ""
    state: str = ""
    detail: str = ""
    created_ms: int = 0
    accepted_loss_events: int | None = None


class StatusSaid(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/status`."""

    at_ms: int
    region: str
    sentence: str = ""
    etcd_leader: str | None = None
    pause: PauseSaid | None = None
    operation: OperationSaid | None = None
    regions: list[RegionSaid] = []
    receipts_open: int = 0

    def line(self, region: str) -> RegionSaid | None:
        """What it says of a region."""
        return next((found for found in self.regions if found.region == region), None)


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One condition of a promotion, its value and its limit."""

    name: str
    value: str
    limit: str
    holds: bool


class ExplainSaid(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/explain`."""

    region: str
    acts: bool = False
    why_not: str = ""
    promotion_blocker: str = ""
    sentence: str = ""
    predicates: list[Condition] = []
