"""What can be set about a processor, and every bound that it keeps."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from services.common.region_settings import LOOPBACK
from services.common.settings import ServiceSettings
from services.processor.admission import AskLimits
from streams.state import Parameters

Positive = Annotated[int, msgspec.Meta(ge=1)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]


class ProcessorSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One processor. The fold's parameters must be the same in every region that compares digests."""

    TABLE: ClassVar[str] = "processor"

    host: str = LOOPBACK
    """Where health, metrics and state are served."""

    bucket_ms: Positive = Parameters().bucket_ms
    """Length of the fold's time buckets. This and the next three must be the same in every region."""
    horizon_buckets: Positive = Parameters().horizon_buckets
    """How many buckets count: older events expire."""
    clock_events: Positive = Parameters().clock_events
    """Distinct events that must be at or after a bucket before the fold's clock moves there."""
    history_max: Positive = Parameters().history_max
    """The newest events of a user that are kept, by bucket."""

    snapshot_interval_seconds: PositiveSeconds = 30.0
    """How often the state is written to disk; a start replays what came since."""
    rebuild: Literal["auto", "snapshot", "replay"] = "auto"
    """How a region that comes back empty gets its state: a peer's snapshot, a replay of the copies, or the quicker."""
    rebuild_snapshot_bytes_per_second: Positive = 40_000_000
    """From a peer's disk to a checked state; for the estimate."""
    rebuild_replay_events_per_second: Positive = 150_000
    """For the estimate."""
    rebuild_patience_seconds: PositiveSeconds = 60.0
    """When no copy came for so long, a rebuild goes on with what is here."""
    snapshot_copy: str = ""
    """An fsspec URL to which each snapshot is copied; empty for none."""

    candidates_max: Positive = 100
    """Items that are scored for one ask."""
    asks_frame_max: Positive = 256
    """Asks that are taken from one frame."""
    asks_scoring_max: Positive = 32
    """Asks that may wait for the inference worker at once; the next are answered from the counters."""
    asks_waiting_max: Positive = 256
    """Asks that may wait for their read token at once; the next are answered without it."""
    ask_overflow_age_ms_max: Positive = 100
    """An ask that finds the house full is dropped instead of answered by counters when it is older than this."""
    ask_margin_ms: Positive = 30
    """What publishing and the way back need before an ask's deadline."""
    infer_ms_max: Positive = 150
    """How long scoring may take, whatever the deadline."""

    catalogue_interval_seconds: PositiveSeconds = 0.25
    """How long changed items are gathered before retrieval takes them in, while nobody asks."""
    catalogue_wait_ms_max: Positive = 100
    """How long an ask waits for items that changed before it."""

    fetch_wait_ms: Positive = 200
    """How long the broker may hold a fetch that has nothing to bring."""
    silence_ms: Positive = 500
    """After this long without an answer to a fetch the log must show its last records again."""
    watch_interval_seconds: PositiveSeconds = 1.0
    """How often the log's ends and the group's lag are looked at."""
    lives_interval_seconds: PositiveSeconds = 2.0
    """How often is looked for logs of lives that began meanwhile."""
    stall_seconds: PositiveSeconds = 30.0
    """When records wait and none is taken for this long, the process starts again."""
    broker_timeout_seconds: PositiveSeconds = 5.0
    """How long one question to Kafka may take."""
    delivery_timeout_seconds: PositiveSeconds = 20.0
    """After this long without an acknowledgement a dead letter counts as not written, and the process ends."""
    dead_letters_queue_max: Positive = 1_000
    """Dead letters that may wait for their acknowledgement."""
    rankings_queue_max: Positive = 10_000
    """Rankings that may wait for their acknowledgement; more are not published."""
    rankings_timeout_ms: Positive = 250
    """A ranking that the broker did not acknowledge by then is given up: nobody may show it much later."""
    shutdown_seconds: PositiveSeconds = 5.0
    """How long a stopping processor waits for what is under way."""

    def check(self) -> str | None:
        """Fetches must return well within the time after which the broker counts as silent."""
        if self.fetch_wait_ms * 2 > self.silence_ms:
            return f"silence_ms ({self.silence_ms}) must be at least twice fetch_wait_ms ({self.fetch_wait_ms})"
        return None

    @property
    def parameters(self) -> Parameters:
        """What the fold is a function of, besides the events."""
        return Parameters(
            bucket_ms=self.bucket_ms,
            horizon_buckets=self.horizon_buckets,
            clock_events=self.clock_events,
            history_max=self.history_max,
        )

    @property
    def ask_limits(self) -> AskLimits:
        """The bounds of answering."""
        return AskLimits(
            scoring_max=self.asks_scoring_max,
            waiting_max=self.asks_waiting_max,
            overflow_age_ms_max=self.ask_overflow_age_ms_max,
            margin_ms=self.ask_margin_ms,
            infer_ms_max=self.infer_ms_max,
            catalogue_wait_ms_max=self.catalogue_wait_ms_max,
        )
