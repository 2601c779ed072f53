"""What can be set about a gateway, and every bound that it keeps."""

import ipaddress
from typing import Annotated, ClassVar, Literal

import msgspec

from services.common.region_settings import LOOPBACK
from services.common.settings import Secret, ServiceSettings
from services.coordination.registry import TTL_SECONDS
from services.gateway.packer import FrameLimits
from services.gateway.processor_watch import WatchLimits
from services.gateway.routing import VIEW_SECONDS_MAX

Positive = Annotated[int, msgspec.Meta(ge=1)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
TOKEN_LENGTH_MIN = 16


class GatewaySettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gateway of a region."""

    TABLE: ClassVar[str] = "gateway"

    host: str = LOOPBACK
    """Where the gateway listens."""
    api_tokens: Secret = Secret("")
    """Accepted bearer tokens, separated by commas. Without any, only a loopback host is accepted."""

    trust_network: bool = False
    """Whoever reaches the host may use it: a host that is no loopback is accepted without tokens."""
    ack: Literal["local", "remote", "bounded"] = "local"
    """When an event counts as accepted, unless a request says otherwise by `Meridian-Ack`; see `acks`."""
    ack_timeout_ms: Positive = 5_000
    """How long `remote` waits for another region; then the answer is 504."""
    peer_fresh_seconds: PositiveSeconds = 2.0
    """For how long a peer's report of what it holds counts."""
    unreplicated_events_max: Positive = 10_000
    """The other half of the budget of `bounded`, see `unreplicated_seconds_max`."""
    unreplicated_seconds_max: PositiveSeconds = 5.0
    """The budget of `bounded`: nothing is taken while the best peer is further behind."""
    view_interval_seconds: PositiveSeconds = 1.0
    """How often the coordination store is asked for the lives of all regions and their gateways."""
    view_seconds_max: PositiveSeconds = VIEW_SECONDS_MAX
    """Askers are sent to the active region only while it was confirmed no longer ago that it is the active one."""
    registration_seconds: PositiveSeconds = TTL_SECONDS
    """After so long without a sign of life, a gateway is no longer among those that are told to apps."""

    body_bytes_max: Positive = 8 << 20
    """The largest request; a larger one is answered 413."""
    body_seconds: PositiveSeconds = 30.0
    """How long a body may take to arrive."""
    batch_events_max: Positive = 10_000
    """The most events in one request."""
    events_waiting_max: Positive = 100_000
    """Events between arrival and acknowledgement; beyond it the answer is 429."""
    bytes_waiting_max: Positive = 64 << 20
    """Bytes of requests that are being served; beyond it the answer is 429."""
    retry_after_seconds: PositiveSeconds = 1.0
    """What an answer 429 or 503 tells its asker to wait."""

    frame_events_target: Positive = FrameLimits().events_target
    """At so many events a frame closes while the log keeps up."""
    frame_events_max: Positive = FrameLimits().events_max
    """A frame never holds more events."""
    frame_bytes_max: Positive = FrameLimits().bytes_max
    """A frame never grows larger."""
    frame_age_ms: PositiveSeconds = FrameLimits().age_seconds * 1000
    """How long an event may wait for its frame to fill."""
    frame_patient_age_ms: PositiveSeconds = FrameLimits().patient_age_seconds * 1000
    """How long events for which nobody waits (what was shown) may wait for another frame to ride on."""
    frames_in_flight_max: Positive = FrameLimits().in_flight_max
    """With so many frames of a partition on their way, the next one grows instead of being sent."""

    inbox: bool = True
    """Whether events that apps publish to the inbox by Kafka are moved into the log."""
    inbox_keep_seconds: PositiveSeconds = 3600.0
    """A record that is moved is removed from the inbox so long after it arrived: it holds raw identifiers."""
    inbox_lag_seconds_max: PositiveSeconds = 60.0
    """Beyond this age of the oldest record that was not moved, readiness notes that the inbox is behind."""
    inbox_events_waiting_max: Positive = 40_000
    """Events that were read from the inbox and not acknowledged by the log; beyond it, nothing more is read."""
    inbox_bytes_waiting_max: Positive = 64 << 20
    """Bytes of such events; beyond it, nothing more is read either."""
    inbox_interval_seconds: PositiveSeconds = 1.0
    """How often it is recorded how far the inbox reaches and is moved: what a receipt can know of it."""

    delivery_timeout_ms: Positive = 6_000
    """After so long without an acknowledgement, the outcome of a record counts as unknown."""
    stall_seconds: PositiveSeconds = 2.0
    """After so long without an acknowledgement, nothing more is taken: 503."""
    ends_interval_seconds: PositiveSeconds = 0.2
    """Acknowledged ends are recorded at most this often."""
    broker_timeout_seconds: PositiveSeconds = 5.0
    """How long one question to Kafka may take."""
    shutdown_seconds: PositiveSeconds = 5.0
    """How long a stopping gateway waits for what it has taken to be acknowledged."""

    deadline_ms: Positive = 500
    """How long a ranking may take when the request says nothing else."""
    deadline_ms_max: Positive = 10_000
    """Longer deadlines are shortened to this."""
    asks_waiting_max: Positive = 256
    """Requests for rankings that may wait at once; more are answered 503."""
    silent_asks_max: Positive = 3
    """After so many asks in a row without an answer, further ones are refused at once, but for trials."""
    silent_deadline_ms_min: Positive = WatchLimits().deadline_ms_min
    """Asks with a shorter deadline say nothing about the processor, unless the default deadline is as short."""
    trial_interval_ms: Positive = 250
    """While asks are refused because of silence, how often one is let through to try."""
    processor_poll_ms: Positive = 500
    """How often the processor's readiness is looked at; five times as often while it is not ready."""

    def check(self) -> str | None:
        """Refuse bounds that contradict each other, and an open door without a lock."""
        tokens = self.tokens()
        if any(len(token) < TOKEN_LENGTH_MIN for token in tokens):
            return f"api_tokens: each must have at least {TOKEN_LENGTH_MIN} characters"
        if not tokens and not self.trust_network and not is_loopback(self.host):
            return (
                f"host {self.host} is reachable from outside, but no api_tokens are set. Set "
                f"MERIDIAN_GATEWAY_API_TOKENS (or ..._FILE), or listen on {LOOPBACK}"
            )
        if self.batch_events_max > self.events_waiting_max:
            return "batch_events_max must not exceed events_waiting_max, or the largest batches never get in"
        if self.body_bytes_max > self.bytes_waiting_max:
            return "body_bytes_max must not exceed bytes_waiting_max, or the largest requests never get in"
        try:
            self.frame_limits()
        except ValueError as error:
            return f"frame limits: {error}"
        return None

    def tokens(self) -> tuple[str, ...]:
        """The accepted tokens."""
        return tuple(token.strip() for token in self.api_tokens.reveal().split(",") if token.strip())

    def watch_limits(self) -> WatchLimits:
        """When silence of the processor counts."""
        return WatchLimits(
            silent_asks_max=self.silent_asks_max,
            trial_seconds=self.trial_interval_ms / 1000,
            deadline_ms_min=min(self.silent_deadline_ms_min, self.deadline_ms, self.deadline_ms_max),
        )

    def frame_limits(self) -> FrameLimits:
        """The bounds of a frame. Raises ValueError."""
        return FrameLimits(
            events_target=self.frame_events_target,
            events_max=self.frame_events_max,
            bytes_max=self.frame_bytes_max,
            age_seconds=self.frame_age_ms / 1000,
            patient_age_seconds=self.frame_patient_age_ms / 1000,
            in_flight_max=self.frames_in_flight_max,
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
