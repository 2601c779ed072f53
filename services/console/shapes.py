"""What the page is told: one object, in the words that it shows. The page adds nothing but layout and ages.

Instants are kept apart from it (`Times`), in milliseconds of the console's own monotonic clock: they change all the
time while nothing happens, and the page compares no clocks of different machines.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from services.console.drills import DrillsSeen
from services.console.said import CanarySaid, Condition, ForecastSaid, OperationSaid, PauseSaid
from services.coordination.history import Entry
from services.receipts.model import Receipt

Level = Literal["good", "warning", "bad", "unknown"]
Promotable = Literal["yes", "no", "active", "unknown"]


class Headline(msgspec.Struct, frozen=True, kw_only=True):
    """The one thing to read."""

    level: Level
    title: str
    sentence: str
    next_step: str = ""


class ProcessLine(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a region."""

    name: str
    state: str
    """`ready`, `impaired`, `not ready`, `silent`, `unknown`."""
    reason: str


class ModelLine(msgspec.Struct, frozen=True, kw_only=True):
    """Which versions rank in a region."""

    level: Level
    """Good: what serves is the champion, and gave its golden scores here."""
    words: str
    named: str
    """The version that the alias names; empty when none is set or it is not known."""
    serving: str
    golden_rows: int | None
    device: str
    challenger: str
    shadow: str
    standby: str


class RegionLine(msgspec.Struct, frozen=True, kw_only=True):
    """One region."""

    name: str
    role: Literal["active", "passive", "silent", "unknown"]
    serving: bool
    incarnation: str
    gateway_url: str
    heard: str
    """Empty when its controller answers; otherwise what happens instead."""
    promotable: Promotable
    blocker: str
    """Why it could not take over, or why that is unknown; word for word."""
    lag_level: Level
    lag_words: str
    lag_events: int | None
    lag_seconds: float | None
    canary: CanarySaid | None
    canary_level: Level
    canary_words: str
    forecast: ForecastSaid | None
    forecast_words: str
    sentence: str
    conditions: list[Condition]
    processes: list[ProcessLine]
    models: ModelLine


class CopyLine(msgspec.Struct, frozen=True, kw_only=True):
    """One log that a region copies."""

    log: str
    source: str
    """From where it is copied now; empty for nobody."""
    origin: str
    target: str
    level: Level
    label: str
    words: str
    lag_events: int | None
    is_over: bool
    """Its life is over and all of it is here: nothing more will come."""


class Arrow(msgspec.Struct, frozen=True, kw_only=True):
    """All that one region copies from another."""

    source: str
    target: str
    level: Level
    label: str
    """In a word or two, for the drawing."""
    words: str


class SiteLine(msgspec.Struct, frozen=True, kw_only=True):
    """One vote of the coordination store."""

    name: str
    kind: str
    state: str
    reason: str
    leads: bool


class Operating(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one may act from the page."""

    allowed: bool
    why_not: str
    wants_token: bool


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is shown, but the instants."""

    deployment_id: str
    headline: Headline
    active: str
    """The region that holds the lease; empty when none does or it is not known."""
    serving: bool
    known: bool
    """Whether the above holds now; otherwise it is what was last heard."""
    epoch: tuple[int, int] | None
    controllers_answering: int
    worst_lag_words: str
    pause: PauseSaid | None
    operation: OperationSaid | None
    regions: list[RegionLine]
    sites: list[SiteLine]
    arrows: list[Arrow]
    copies: list[CopyLine]
    alarms: list[str]
    history: list[Entry]
    """Newest first."""
    history_broken: str
    history_problem: str
    receipts: list[Receipt]
    """Open ones first, then newest first."""
    receipts_open: int | None
    receipts_problem: str
    drills: DrillsSeen
    operating: Operating


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Instants on the console's monotonic clock, in milliseconds; None for never."""

    now_ms: int
    unix_ms: int
    """The same moment by the console's wall clock."""
    lease_until_ms: int | None
    store_confirmed_ms: int | None
    heard_ms: dict[str, int | None]
    """By region, when its controller was last heard."""
    records_ms: int | None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One message to a page: all of it."""

    picture: Picture
    times: Times
