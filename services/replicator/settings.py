"""Settings of the replicator."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from services.common.region_settings import LOOPBACK
from services.common.settings import Secret, ServiceSettings

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class ReplicatorSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One replicator, in the region that it copies into."""

    TABLE: ClassVar[str] = "replicator"

    host: str = LOOPBACK
    """Where the replicator listens."""
    bytes_per_second_max: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Throttle over all logs together; 0 for none. What is behind then stays behind: the lag says so."""
    tick_ms: Positive = 250
    """How often every partition is decided about when nothing happens; what ends a copying is acted on at once."""
    poll_interval_ms: Positive = 200
    """How often each origin is asked where its logs end: the grain of `last_contact_ms`."""
    report_interval_ms: Positive = 250
    """How often the origin's gateway hears what is held, even when nothing changed."""
    report_gap_ms: Positive = 5
    """Between two such reports at least while somebody waits for them: what changes meanwhile goes with the next."""
    report_calm_gap_ms: Positive = 50
    """Between two reports at least while nobody waits."""
    silence_seconds: Seconds = 1.5
    """An origin that did not answer for so long may be another life of it: it must show the last record again."""
    answer_seconds: Seconds = 5.0
    """How long one question to a Kafka may take."""
    look_again_seconds: Seconds = 0.25
    """How long between two of the looks of `looks_before_alarm`."""
    looks_before_alarm: Positive = 12
    """A broker that has just come back may not know at once how far its log reaches; a cut does not heal."""
    alarm_retry_seconds: Seconds = 5.0
    """How often a partition that was stopped by an alarm is looked at again."""
    alarm_shown_seconds: Seconds = 60.0
    """For how long an alarm about something that was repaired (a second copier, a lost copy) stays up."""
    delivery_timeout_ms: Positive = 30_000
    """After so long without an acknowledgement a copied record counts as not written; its flow begins again."""
    queue_kbytes_max: Positive = 16_384
    """Records that wait for their acknowledgement, over all logs."""
    queue_records_max: Positive = 20_000
    """See `queue_kbytes_max`: the same bound in records."""
    fetch_kbytes_max: Positive = 8_192
    """Records fetched ahead from each peer."""
    lives_interval_ms: Positive = 1000
    """How often the list of lives is read when no watch brings it sooner."""
    peers_interval_ms: Positive = 1000
    """How often the other replicators are asked what they hold."""
    own_interval_ms: Positive = 1000
    """How often the own copies are held against what was written to them."""
    checkpoint_interval_ms: Positive = 2000
    """How often positions are kept on disk; a start walks its copies from there."""
    checksums_interval_ms: Positive = 2000
    """How often checksums of blocks are compared with the other regions."""
    gateway_token: Secret = Secret("")
    """Sent to the gateways of other regions, where they want one."""
