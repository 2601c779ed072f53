"""What can be set about a controller: how patient it is, and how far behind a region may be and still take over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec

from infra.runtime.etcd import ELECTION_MS
from services.common.region_settings import LOOPBACK
from services.common.settings import Secret, ServiceSettings
from services.controller.forecast import ControlTimes
from services.controller.model import Limits
from services.coordination.settings import CoordinationSettings

Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
ELECTIONS_MAX: Final = 2
"""A follower waits for one to two election time-outs before it stands for election."""
RTO_TARGET_SECONDS: Final = 8.0
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
NotNegativeSeconds = Annotated[float, msgspec.Meta(ge=0)]


class ControllerSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One controller, in each region."""

    TABLE: ClassVar[str] = "controller"

    host: str = LOOPBACK
    """Where the controller listens."""
    cycle_ms: Positive = 250
    """How often everything is looked at when nothing happens; news is acted on at once."""
    observe_ms: Positive = 500
    """How often the region's own processes are asked how they are."""
    lag_events_max: NotNegative = 5_000
    """A region that is known to miss more events takes over only when an operator accepts it."""
    lag_seconds_max: PositiveSeconds = 10.0
    """A region that was this far behind at the last contact takes over only when an operator accepts it."""
    sick_seconds: PositiveSeconds = 3.0
    """After so long with a sick data plane the active region resigns, if another one can take over."""
    hold_down_seconds: PositiveSeconds = 30.0
    """A region that resigned because it was sick does not campaign for so long, unless nobody else can."""
    term_seconds_min: PositiveSeconds = 10.0
    """A new term is not given up for sickness sooner: two sick regions must not throw the lease at each other."""
    rank_delay_seconds: PositiveSeconds = 0.4
    """How long the second-best candidate leaves the best one alone."""
    operation_step_seconds: PositiveSeconds = 3.0
    """An operation that makes no step for so long is aborted and handed back."""
    unreachable_seconds: PositiveSeconds = 10.0
    """A region out of reach for so long gets a receipt."""
    etcd_leader_seconds: PositiveSeconds = 5.0
    """How often it is looked at where etcd's leader is."""
    rto_target_seconds: PositiveSeconds = RTO_TARGET_SECONDS
    """`meridian explain` holds the forecast of a failover against this."""
    calibration_file: Path = Path()
    """What past drills say of that forecast (`region-sim calibrate`); in the deployment's directory unless set."""
    proof_wait_ms: Positive = 500
    """How long a processor may take to reach the frontier at which digests are compared."""

    canary_interval_seconds: NotNegativeSeconds = 5.0
    """How often a heartbeat search is sent through this region; 0: never."""
    canary_deadline_ms: Positive = 1_000
    """A canary that did not arrive within this counts as lost. Twice what apps wait unless they say otherwise."""
    canary_query: str = ""
    """What canaries search for; a usual query has the search by words in it, nothing shows what is popular."""
    gateway_token: Secret = Secret("")
    """Sent to the region's own gateway, where that wants one."""

    def limits(self) -> Limits:
        """What the decisions need of these."""
        return Limits(
            lag_events_max=self.lag_events_max,
            lag_seconds_max=self.lag_seconds_max,
            sick_seconds=self.sick_seconds,
            hold_down_seconds=self.hold_down_seconds,
            term_seconds_min=self.term_seconds_min,
            rank_delay_seconds=self.rank_delay_seconds,
            operation_step_seconds=self.operation_step_seconds,
        )


def control_times(coordination: CoordinationSettings, controller: ControllerSettings) -> ControlTimes:
    """What a region is set to."""
    return ControlTimes(
        lease_ttl=coordination.lease_ttl_seconds,
        renew_interval=coordination.renew_interval_ms / 1000,
        request_timeout=coordination.request_timeout_ms / 1000,
        cycle=controller.cycle_ms / 1000,
        observe=controller.observe_ms / 1000,
        rank_delay=controller.rank_delay_seconds,
        etcd_election=ELECTIONS_MAX * ELECTION_MS / 1000,
    )
