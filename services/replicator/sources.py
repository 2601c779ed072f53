"""From whom a partition is copied, and what speaks against a source: plain functions over what is known.

The origin is preferred, as long as it is still the life that wrote the log. When it is not, or is out of reach, any
region that holds more than we do will do: its copy is a prefix of the same log. A log that was cut is never read
beyond the place where it ended when that was noticed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.coordination.lives import Life


@dataclass(frozen=True, slots=True)
class Holder:
    """A region that holds a partition, or some of it."""

    region: str
    is_origin: bool
    end: int
    """The first offset of the origin log that it does not hold, as far as is known."""
    blocker: str | None = None
    """Why it cannot be read from now."""


@dataclass(frozen=True, slots=True)
class KafkaSeen:
    """What a region's Kafka showed of itself."""

    reachable: bool
    cluster_id: str = ""


def origin_blocker(life: Life, kafka: KafkaSeen) -> str | None:
    """Why the Kafka of a life's region cannot be copied from as that life's origin; None when it can."""
    if not kafka.reachable:
        return f"the Kafka of {life.region} does not answer"
    if kafka.cluster_id != life.cluster_id:
        return (
            f"the Kafka of {life.region} is cluster {kafka.cluster_id or 'unknown'}, but {life.incarnation} was "
            f"written on {life.cluster_id}: it is another life"
        )
    return None


def cluster_alarm(life: Life, kafka: KafkaSeen) -> str | None:
    """What an operator must know about the origin of a life that nobody sealed; None when all is well or unknown."""
    if life.sealed or not kafka.reachable or not kafka.cluster_id or kafka.cluster_id == life.cluster_id:
        return None
    return (
        f"{origin_blocker(life, kafka)}. Nothing is copied from it. It is expected for a moment when a region comes "
        f"back after a wipe; if it stays, see why {life.region} opens no new incarnation."
    )


def limit_of(life: Life, log: str, partition: int) -> int | None:
    """The first offset that must not be copied from the origin itself, because its log was cut there; None for none."""
    if not life.cuts:
        return None
    return min((cut.found for cut in life.cuts if (cut.log, cut.partition) == (log, partition)), default=None)


def choose(next_offset: int, limit: int | None, holders: Iterable[Holder], current: str = "") -> Holder | None:
    """The holder to copy from when `next_offset` is wanted next; None when nobody can be read that holds more.

    The origin is taken even when it holds nothing more: what it writes next comes from there. Among copies the one that
    reaches farthest wins; one that is being read (`current`) stays as long as it holds more than we do.
    """
    able = [holder for holder in holders if holder.blocker is None]
    for holder in able:
        if holder.is_origin and (limit is None or next_offset < limit):
            return holder
    copies = [holder for holder in able if not holder.is_origin and holder.end > next_offset]
    for holder in copies:
        if holder.region == current:
            return holder
    return max(copies, key=lambda holder: (holder.end, holder.region), default=None)


def reachable_end(limit: int | None, holders: Sequence[Holder]) -> int:
    """How far any holder that can be read now reaches."""
    ends = [
        holder.end if not holder.is_origin or limit is None else min(limit, holder.end)
        for holder in holders
        if holder.blocker is None
    ]
    return max(ends, default=0)


@dataclass(frozen=True, slots=True)
class OriginShown:
    """What the origin says about one partition when it did not show what was wanted."""

    low: int
    """The first offset that it still holds."""
    end: int


_REMEDY_CUT = (
    "Nothing after it is copied. The origin seals its life when it finds the cut; then the rest comes from whoever "
    "holds it (docs/operating/truncation.md)"
)
_REMEDY_GAP = (
    "Nothing is skipped. Let another region that holds them come within reach, or accept the hole: "
    "POST /v1/holes at this replicator (docs/operating/gap-alarm.md)"
)


def missing_alarm(place: tuple[str, int], source: str, next_offset: int, seen_end: int, shown: OriginShown) -> str:
    """Say why the origin does not show what comes next: cut at its end, removed at its beginning, or neither."""
    name = f"{place[0]}/{place[1]}"
    if shown.end < max(next_offset, seen_end):
        return (
            f"{name}: {source} ends at {shown.end}, but was seen to reach {max(next_offset, seen_end)}: "
            f"{max(next_offset, seen_end) - shown.end} records are gone from it. {_REMEDY_CUT}."
        )
    if shown.low > next_offset:
        return (
            f"{name}: {source} starts at {shown.low}, but {next_offset} comes next: {shown.low - next_offset} records "
            f"were removed before they were copied. {_REMEDY_GAP}."
        )
    return f"{name}: {source} does not show offset {next_offset}, though it holds {shown.low} to {shown.end}."


def recreated_alarm(place: tuple[str, int], source: str) -> str:
    """Say that a topic was deleted and made anew under a log's name."""
    return (
        f"{place[0]}/{place[1]}: the topic at {source} is another one than was copied from: it was deleted and made "
        f"again under the same name. {_REMEDY_CUT}."
    )


def replaced_alarm(cause: str) -> str:
    """Say that records took the place of others."""
    return f"{cause}. {_REMEDY_CUT}."
