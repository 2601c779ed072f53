"""What a controller knows when it decides, and what it can decide: values only, no I/O, no clock.

Times named `..._at` and `since` are `Clock.boottime` of this machine; `..._ms` are unix times, for people and records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from services.controller.canary import CanaryReading
from services.controller.forecast import RtoForecast
from services.coordination.election import LeaderRecord
from services.processor.client import FoldReport

Epoch = tuple[int, int]
Rows = list[tuple[str, int, int]]
"""Of a frontier: log, partition, next offset."""
OperationKind = Literal["switchover", "failover"]
OperationState = Literal["asked", "draining", "drained", "covered", "handed", "done", "aborted"]


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's word that no transition happens by itself."""

    by: str
    reason: str
    created_ms: int
    until_ms: int
    operation_id: str = ""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asked for, and how far it is. Each step is one compare-and-swap of its key."""

    operation_id: str
    kind: OperationKind
    source: str
    """The region that was active when it was asked; empty when there was none."""
    target: str
    by: str
    reason: str
    created_ms: int
    state: OperationState = "asked"
    frontier: Rows = []
    """What the target must have folded before it serves: what the source had acknowledged when its gate was shut."""
    accepted_loss_events: int | None = None
    steps_ms: dict[str, int] = {}
    """When each state was reached."""
    detail: str = ""
    """How it ended."""


class CandidateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What each controller tells the others, under a lease; everybody ranks candidates by the same words."""

    region: str
    instance: str
    incarnation: str
    at_ms: int
    """When the controller was started: of two entries of one region, the later one counts."""
    gateway_url: str
    control_url: str
    blocker: str
    """Why it could not take over, by its own account; empty when it could."""
    is_last_resort: bool = False
    """Only its champion stands against it, and something proven ranks here: better than no region at all."""
    serving_epoch: Epoch | None
    """Under which its gate is open; None when it is shut."""
    epoch_seen: Epoch
    lag_events: int | None
    lag_seconds: float
    rto_forecast: RtoForecast | None = None
    """When rankings would come from here, if the active region died now; None: see `rto_unknown`."""
    rto_unknown: str = ""
    """Why there is no forecast."""
    canary: CanaryReading | None = None
    """What its newest canary said; None: none was sent yet, or they are switched off."""


@dataclass(frozen=True, slots=True)
class Now:
    """The time of a decision."""

    boottime: float
    unix_ms: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient, how strict: see ControllerSettings."""

    lag_events_max: int = 5_000
    lag_seconds_max: float = 10.0
    sick_seconds: float = 3.0
    hold_down_seconds: float = 30.0
    term_seconds_min: float = 10.0
    rank_delay_seconds: float = 0.4
    operation_step_seconds: float = 3.0
    view_age_seconds_max: float = 2.0
    quiesce_seconds: float = 0.1


@dataclass(frozen=True, slots=True)
class LeaderSeen:
    """The leader key as the store showed it."""

    record: LeaderRecord
    create_revision: int

    @property
    def epoch(self) -> Epoch:
        """The epoch of that term."""
        return self.record.generation, self.create_revision


@dataclass(frozen=True, slots=True)
class OperationSeen:
    """The open operation as the store showed it."""

    operation: Operation
    revision: int
    seen_at: float
    """When this very state was first seen here: time-outs compare no clocks of different machines."""


@dataclass(frozen=True, slots=True)
class StoreView:
    """What the coordination store holds, as of `confirmed_at`."""

    revision: int = 0
    generation: int = 0
    leader: LeaderSeen | None = None
    leader_gone_at: float = 0.0
    """Since when there is none."""
    former: str = ""
    """The region that held it before: its word that it could take over may be as old as its entry."""
    pause: Pause | None = None
    pause_revision: int = 0
    operation: OperationSeen | None = None
    candidates: Mapping[str, CandidateStatus] = field(default_factory=dict)
    confirmed_at: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Shut:
    """This region's gate is kept shut although it holds the lease."""

    because: str
    since: float
    operation_id: str = ""
    """For whose sake; when that is over and the lease still here, the gate opens again."""


@dataclass(frozen=True, slots=True)
class OwnTerm:
    """The term that this controller holds."""

    epoch: Epoch
    deadline: float
    since: float
    shut: Shut | None = None
    promised_until: float = float("-inf")
    """The latest deadline that was handed out: until then some process may act without asking again."""


@dataclass(frozen=True, slots=True)
class GateSeen:
    """The processor's gate when it was last asked."""

    open: bool
    epoch: Epoch
    reason: str
    asked_at: float
    """Before sending the question."""
    shut_asks: tuple[float, ...] = ()
    """When it was asked each time since it was last seen open, the newest last; only as many as are of use."""
    fold: FoldReport | None = None
    """How far the fold was behind then."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far this region's copies were behind, when the origins were last heard."""

    events: int | None = 0
    seconds: float = 0.0
    log: str = ""
    """The log that is furthest behind."""
    unknown: str = "replicator: not asked yet"
    """Why it is not known; empty when it is."""


@dataclass(frozen=True, slots=True)
class DataPlane:
    """How this region's own processes are."""

    sick: str | None = "nothing is known of this region's processes yet"
    """The first of them that cannot do its work, and why."""
    sick_since: float | None = None
    gate: GateSeen | None = None
    frontier: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """What the processor has folded."""
    acknowledged: Rows = field(default_factory=list)
    """What this region acknowledged in its own events log."""
    acknowledged_at: float = float("-inf")
    """Before it was asked."""
    lag: Lag = field(default_factory=Lag)
    unproven: str | None = None
    """Why the state is not yet proven equal to another region's since it was rebuilt."""
    champion: str | None = "the inference worker was not asked yet"
    """Why the version that the alias names is not proven to rank here; None when it is, by its golden set."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a decision may depend on."""

    region: str
    instance: str
    regions: tuple[str, ...]
    """All of the deployment, in its order."""
    incarnation: str = ""
    store: StoreView = field(default_factory=StoreView)
    term: OwnTerm | None = None
    data: DataPlane = field(default_factory=DataPlane)
    hold_down_until: float = float("-inf")
    hold_down_because: str = ""
    ended_epoch: tuple[int, int] = (-1, -1)
    """Of the last term of this process that is over: its key may still be seen in the store."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """Try to become the holder."""

    cause: str
    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class ShutGate:
    """Keep the lease, show nothing more."""

    cause: str
    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class ReopenGate:
    """Show effects again: the handover did not happen."""

    cause: str


@dataclass(frozen=True, slots=True)
class Resign:
    """Let the lease go."""

    cause: str
    hold_down: bool
    """Whether this region stands back from the next elections."""


@dataclass(frozen=True, slots=True)
class StepOperation:
    """Bring the open operation into its next state."""

    cause: str
    after: Operation
    revision: int
    """Of the state that this replaces."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Make room: move an operation that has ended to those that are over."""

    cause: str
    operation: Operation
    revision: int


@dataclass(frozen=True, slots=True)
class EndPause:
    """Remove a pause that has expired."""

    cause: str
    revision: int


Transition = Campaign | ShutGate | ReopenGate | Resign | StepOperation | Archive | EndPause


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and the one sentence that says why."""

    sentence: str
    transitions: tuple[Transition, ...] = ()
