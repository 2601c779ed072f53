"""The end of a life whose log was cut, and the beginning of the next: what is decided, and what is done on disk.

A log that lost acknowledged records must not be written again: the offsets of what was lost would get other records.
The life is sealed with its cuts; what is genuine of it goes to the peers; then Kafka begins anew, with an empty log
and a new cluster id, which is the same way as after a wipe. What was there is kept aside, as evidence.

The order makes it safe to be killed anywhere: sealed before anything else, asked for (`renew.json`) only when peers
hold what is genuine, done (`begin_anew`) while no broker runs, and each step finds what the one before has left.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from services.common.region_settings import RegionSettings

RENEW_FILE = "renew.json"

Ends = Mapping[str, Mapping[int, int]]
"""By log and partition: a next offset."""


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that ends before what is known to have been in it."""

    log: str
    partition: int
    found: int
    known_end: int
    known_by: str
    """Who knows: the coordination store, or a region that holds a longer copy."""


class Renewal(msgspec.Struct, frozen=True):
    """The wish that Kafka begin anew."""

    incarnation: str
    """The life that is over."""
    because: str


def cuts_of(found: Ends, known: Iterable[tuple[str, Ends]]) -> list[Cut]:
    """Return every partition whose end in `found` is below one that somebody knows: pairs of who, and the ends.

    Only the logs of `found` count. Of several who know, the one that knows most is named.
    """
    worst: dict[tuple[str, int], Cut] = {}
    for who, ends in known:
        for log, partitions in ends.items():
            for partition, end in partitions.items():
                at = found.get(log, {}).get(partition, 0)
                before = worst.get((log, partition))
                if log in found and at < end and (before is None or before.known_end < end):
                    worst[log, partition] = Cut(log=log, partition=partition, found=at, known_end=end, known_by=who)
    return [worst[place] for place in sorted(worst)]


def not_yet_held(genuine: Ends, held: Iterable[Ends]) -> dict[tuple[str, int], int]:
    """Return how many records of `genuine`, by log and partition, no peer holds yet; `held` has an entry a peer."""
    peers = list(held)
    missing: dict[tuple[str, int], int] = {}
    for log, partitions in genuine.items():
        for partition, end in partitions.items():
            best = max((peer.get(log, {}).get(partition, 0) for peer in peers), default=0)
            if best < end:
                missing[log, partition] = end - best
    return missing


def describe(cuts: Iterable[Cut]) -> str:
    """Return the cuts as one sentence."""
    parts = [
        f"{cut.log} partition {cut.partition} ends at {cut.found}, but {cut.known_by} knows it up to {cut.known_end}"
        for cut in cuts
    ]
    return "; ".join(parts)


def ask_for_renewal(region: RegionSettings, renewal: Renewal) -> None:
    """Leave the wish where the next start of the broker finds it."""
    path = region.data_dir / RENEW_FILE
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(msgspec.json.encode(renewal))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def renewal_is_due(region: RegionSettings) -> bool:
    """Say whether the wish stands: a broker that something else runs must not be used before it was fulfilled."""
    return (region.data_dir / RENEW_FILE).exists()


def begin_anew(region: RegionSettings) -> Path | None:
    """Do what was asked for, before the broker starts: put its log aside, forget what hung on it; return where it lies.

    Raises OSError. Called while neither the broker nor anything that reads or writes its logs runs.
    """
    wish = region.data_dir / RENEW_FILE
    try:
        renewal = msgspec.json.decode(wish.read_bytes(), type=Renewal)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        # It must not end the site's supervisor; the preparing step finds the life sealed, and asks again.
        wish.unlink()
        return None
    kafka = region.data_dir / "kafka"
    aside = region.data_dir / f"kafka.{renewal.incarnation}"
    if not aside.exists() and kafka.exists():
        kafka.rename(aside)
    # Folded from records that are gone, with the mark of the cut, which is dealt with by this; and where the copies in
    # the old log ended, which the new one would be taken to have lost.
    for directory in (region.snapshot_dir, region.data_dir / "replicator"):
        if directory.exists():
            shutil.rmtree(directory)
    wish.unlink()
    return aside
