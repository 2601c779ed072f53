"""What is collected besides the clients' own calls, as values of a history: raw logs, digests, receipts, the fault.

Collecting is not judging: rows are written down as they stand in a region's Kafka, and what they mean is left to the
checkers, which read nothing but the history.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from services.controller.forecast import ControlTimes, RtoForecast
from services.receipts.model import Receipt

__all__ = ["ControlTimes"]

Epoch = tuple[int, int]


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One event in a region's log. An array in JSON: there are many."""

    offset: int
    """In the origin log."""
    index: int
    """In the frame."""
    identity: str
    """Hexadecimal, as the gateway wrote it."""
    kind: str
    time_ms: int
    user: int
    session: int
    position: int
    query: str
    item: str
    ranking: str
    """Hexadecimal."""
    body: str
    """Empty for `served` events, whose bodies are long and which no app was promised."""


class _Evidence(msgspec.Struct, frozen=True, kw_only=True, tag_field="what"):
    """One piece."""


class DrillPlan(_Evidence, frozen=True, kw_only=True, tag="plan"):
    """What was going to be done; the first entry of a history."""

    drill: str
    backend: str
    seed: int
    kind: str
    """Of the first fault."""
    regions: list[str]
    times: ControlTimes | None = None
    """What the regions were set to; None: not known, and nothing is held against the formula."""
    parameters: msgspec.Raw
    """The whole drill as JSON, for the reader of the history and for the marks."""


class FaultSeen(_Evidence, frozen=True, kw_only=True, tag="fault"):
    """The fault as it was really injected."""

    kind: str
    target: str
    was_active: bool
    region_lost: bool
    """Whether the whole of a region was taken away, so that a receipt about it is due."""
    incarnation: str
    """The life that the target was in; empty for a witness."""
    verified: bool
    details: str
    struck_ms: int = 0
    """Unix ms when it had been done, before it was verified."""
    etcd_leader_hit: bool | None = None
    """Whether the site of etcd's leader was hit by it: a lease then ends later. None: nobody said who led."""


class ForecastSeen(_Evidence, frozen=True, kw_only=True, tag="forecast"):
    """What a controller said, right before a fault hit the active region, of how long a failover would take."""

    active: str
    """The region that was active by that controller."""
    regions: dict[str, RtoForecast]
    """Until rankings would come from each of the others."""
    unknown: dict[str, str] = {}
    """Regions without a forecast, and why."""


class LogRows(_Evidence, frozen=True, kw_only=True, tag="rows"):
    """Some records of one partition of one log, as a region's Kafka holds them."""

    region: str
    log: str
    partition: int
    rows: list[Row]


class LogRead(_Evidence, frozen=True, kw_only=True, tag="log_read"):
    """Says that a log was read to its end: without this, what is not in `rows` may only not have been read."""

    region: str
    log: str
    next_offsets: dict[int, int]
    """By partition: after the last record, in the offsets of the origin."""
    corrupt: int
    """Records that could not be read."""
    holes: int


class HeldEnds(_Evidence, frozen=True, kw_only=True, tag="held_ends"):
    """How much of the lost region's log a survivor held, after the takeover and before the heal."""

    region: str
    log: str
    next_offsets: dict[int, int]


class StateSeen(_Evidence, frozen=True, kw_only=True, tag="state"):
    """What a processor says of its state, all regions standing at one frontier if it can be had."""

    region: str
    incarnation: str
    frontier: list[tuple[str, int, int]]
    digest: str
    events: int
    item_events: int
    late: int
    dead: int


class MarkerSeen(_Evidence, frozen=True, kw_only=True, tag="marker"):
    """An EPOCH marker in a rankings log."""

    seen_in: str
    log: str
    partition: int
    offset: int
    region: str
    incarnation: str
    epoch: Epoch


class FirstRanking(msgspec.Struct, frozen=True):
    """The first ranking of an epoch in one partition of a rankings log."""

    partition: int
    epoch: Epoch
    offset: int


class MarkersRead(_Evidence, frozen=True, kw_only=True, tag="markers_read"):
    """Says that a rankings log was read to its end for markers: without this, a marker may only not have been seen."""

    seen_in: str
    log: str
    partitions: list[int]
    rankings: list[FirstRanking] = []
    """The first of each epoch that has any, by partition."""


class ReceiptSeen(_Evidence, frozen=True, kw_only=True, tag="receipt"):
    """A receipt as a region's controller shows it."""

    seen_in: str
    receipt: Receipt


class ReceiptsRead(_Evidence, frozen=True, kw_only=True, tag="receipts_read"):
    """Says that all receipts were asked for and given."""

    seen_in: str
    count: int


class TermSeen(_Evidence, frozen=True, kw_only=True, tag="term"):
    """A term as the coordination store's leader key showed it to a watcher outside the regions."""

    region: str
    instance: str
    epoch: Epoch
    seen_ms: int
    gone_ms: int
    """0: still there when the drill ended."""


class TransitionSeen(_Evidence, frozen=True, kw_only=True, tag="transition"):
    """An entry of the controllers' own history: acquired, resigned, pause, resume, switchover, failover."""

    seq: int
    at_ms: int
    region: str
    kind: str
    sentence: str
    by: str
    epoch: Epoch | None
    operation_id: str


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What a model said to one question."""

    question: str
    items: list[str]
    """Best first."""
    scores: list[float]


class PredictionsSeen(_Evidence, frozen=True, kw_only=True, tag="predictions"):
    """The same questions put to a region's model, before the first fault and at the end."""

    region: str
    when: Literal["before", "after"]
    model: str
    """Name and version, as the region says it."""
    predictions: list[Prediction]


class DeadSeen(_Evidence, frozen=True, kw_only=True, tag="dead"):
    """Dead letters in a region's logs: what was read and could not be counted."""

    region: str
    log: str
    places: list[tuple[str, int, int]]
    """Log, partition and offset of the records that they speak of."""


class CountsSeen(_Evidence, frozen=True, kw_only=True, tag="counts"):
    """What the parts of a deployment counted of themselves, for the coverage of a campaign; judges nothing."""

    counts: dict[str, int]


Evidence = (
    DrillPlan
    | CountsSeen
    | TermSeen
    | TransitionSeen
    | PredictionsSeen
    | DeadSeen
    | FaultSeen
    | ForecastSeen
    | LogRows
    | LogRead
    | HeldEnds
    | StateSeen
    | MarkerSeen
    | MarkersRead
    | ReceiptSeen
    | ReceiptsRead
)
