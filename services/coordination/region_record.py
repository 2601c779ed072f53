"""What a region must remember outside its data: which life it is in, what it acknowledged, which key.

These facts decide whether a region may go on where it stopped, so they must not lie in the log that they judge. Every
change is a compare-and-swap loop over one small JSON value; merges that can only grow (acknowledged ends) are safe to
repeat after an unknown outcome.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from services.coordination.base import ABSENT, CasConflict, CoordinationError, KeyValueStore, StoreDamaged

EPOCH_OPEN: Final = (0, 1)
"""The epoch of a region that needs no election because it is alone."""
_CAS_TRIES: Final = 50
_FINGERPRINT_KEY: Final = "/meridian/pseudonym-key-fingerprint"
_PARTITIONS_KEY: Final = "/meridian/partitions"

_T = TypeVar("_T")


class KeyMismatch(CoordinationError):
    """The pseudonym key is not the one under which the logs were written."""


class IncarnationRecord(msgspec.Struct, frozen=True):
    """The life that a region is in, bound to its broker's cluster id."""

    number: int
    cluster_id: str


async def allocate_incarnation(store: KeyValueStore, region: str, cluster_id: str, number_min: int = 1) -> str:
    """Return the incarnation of `region` for the broker with this cluster id, opening the next one for a new id.

    `number_min`: what the region itself remembers; a store that was restored from a backup may know less.
    """

    def decide(before: IncarnationRecord | None) -> IncarnationRecord:
        if before is not None and before.cluster_id == cluster_id and before.number >= number_min:
            return before
        return IncarnationRecord(max(before.number + 1 if before else 1, number_min), cluster_id)

    record = await update_record(store, f"/meridian/regions/{region}/incarnation", IncarnationRecord, decide)
    return incarnation_name(region, record.number)


async def current_incarnation(store: KeyValueStore, region: str) -> str | None:
    """Return the incarnation that `region` is in, None before its first."""
    record = await read_record(store, f"/meridian/regions/{region}/incarnation", IncarnationRecord)
    return incarnation_name(region, record.number) if record else None


def incarnation_name(region: str, number: int) -> str:
    """Return the name of the nth life of a region: `east-1`."""
    return f"{region}-{number}"


def next_incarnation_name(incarnation: str) -> str:
    """Return the name of the life after this one, whose topics are made beforehand: `east-2`."""
    region, _, number = incarnation.rpartition("-")
    return incarnation_name(region, int(number) + 1)


async def key_fingerprint(store: KeyValueStore) -> str | None:
    """Return the fingerprint of the key that the deployment is bound to, None before its first use."""
    return await read_record(store, _FINGERPRINT_KEY, str)


async def check_key_fingerprint(store: KeyValueStore, fingerprint: str) -> None:
    """Bind the deployment to this pseudonym key at first use. Raises KeyMismatch for another one ever after."""
    record = await update_record(store, _FINGERPRINT_KEY, str, lambda before: before or fingerprint)
    if record != fingerprint:
        raise KeyMismatch(
            f"the pseudonym key has the fingerprint {fingerprint}, but these logs were written with {record}. With "
            "another key every user would become a stranger: put the key file back (a backup or another region's copy)."
        )


async def agreed_partitions(store: KeyValueStore, partitions: int) -> int:
    """Bind the deployment to this number of partitions a log at first use; return the one that it is bound to."""
    return await update_record(store, _PARTITIONS_KEY, int, lambda before: before or partitions)


async def acknowledged_ends(store: KeyValueStore, log: str) -> dict[int, int]:
    """Return, by partition, the offset after the last record that was acknowledged to somebody."""
    return await read_record(store, acknowledged_ends_key(log), dict[int, int]) or {}


async def raise_acknowledged_ends(store: KeyValueStore, log: str, ends: Mapping[int, int]) -> dict[int, int]:
    """Merge `ends` (partition to next offset) into what is recorded; ends never go down. Return the result."""

    def merge(before: dict[int, int] | None) -> dict[int, int]:
        merged = dict(before or {})
        for partition, end in ends.items():
            merged[partition] = max(end, merged.get(partition, 0))
        return merged

    return await update_record(store, acknowledged_ends_key(log), dict[int, int], merge)


def cut_partitions(recorded: Mapping[int, int], found: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """Return (partition, acknowledged end, found end) wherever a log ends before what was acknowledged from it."""
    return [(p, end, found.get(p, 0)) for p, end in sorted(recorded.items()) if found.get(p, 0) < end]


def acknowledged_ends_key(log: str) -> str:
    """Where a log's acknowledged ends stand: partition to next offset, as JSON."""
    return f"/meridian/acknowledged-ends/{log}"


async def read_record(store: KeyValueStore, key: str, shape: type[_T]) -> _T | None:
    """Return the JSON value under a key, None when there is none. Raises StoreDamaged, StoreUnavailable."""
    found = await store.get(key)
    return None if found is None else _decode(key, found.value, shape)


async def update_record(store: KeyValueStore, key: str, shape: type[_T], decide: Callable[[_T | None], _T]) -> _T:
    """Apply `decide` to what is stored, again whenever somebody else was quicker. Writes only what changed."""
    for _ in range(_CAS_TRIES):
        found = await store.get(key)
        before = None if found is None else _decode(key, found.value, shape)
        after = decide(before)
        if before is not None and after == before:
            return after
        try:
            await store.compare_and_put(key, msgspec.json.encode(after), found.revision if found else ABSENT)
        except CasConflict:
            continue
        return after
    raise CasConflict(f"{key} was changed by others {_CAS_TRIES} times in a row; something is writing it in a loop")


def _decode(key: str, raw: bytes, shape: type[_T]) -> _T:
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.DecodeError as error:
        raise StoreDamaged(
            f"{key} does not hold what it should ({error}); a newer release may have written it"
        ) from error
