"""The lives of all regions: which are written, which are over and why, and so which logs exist.

An incarnation is written by one region, in one life of its Kafka, and its name is never used again. A life ends when
its Kafka comes back as another one (wiped) or without what it had acknowledged (cut); it is then sealed: its logs
remain, as copies, and nobody writes them any more.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from services.coordination.base import ABSENT, CasConflict, KeyValueStore, StoreDamaged
from services.coordination.keys import LIVES
from services.coordination.region_record import allocate_incarnation, incarnation_name, next_incarnation_name

_CAS_TRIES: Final = 50


class LogCut(msgspec.Struct, frozen=True):
    """A partition of a life's log that lost what it had acknowledged."""

    log: str
    partition: int
    found: int
    """Where the log ended: everything below is genuine."""
    acknowledged_end: int
    leader_epoch: int = -1
    """Records under this leader epoch, or a later one, were written after the cut; -1: not known."""


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One life of a region."""

    incarnation: str
    region: str
    number: int
    cluster_id: str
    opened_ms: int
    sealed_ms: int = 0
    """0 while it is written."""
    sealed_because: str = ""
    cuts: list[LogCut] = []

    @property
    def sealed(self) -> bool:
        """Whether it is over."""
        return self.sealed_ms > 0


async def open_life(store: KeyValueStore, region: str, cluster_id: str, now_ms: int, number_min: int = 1) -> Life:
    """Return the life of `region` on the Kafka with this cluster id, opening the next and sealing those before it.

    `number_min`: the least number that it may have, by what the region remembers itself.
    """
    incarnation = await allocate_incarnation(store, region, cluster_id, number_min)
    number = int(incarnation.rpartition("-")[2])
    for earlier in range(1, number):
        name = incarnation_name(region, earlier)
        because = f"{region} came back as {incarnation}, on another Kafka cluster"
        if await seal_life(store, name, because, now_ms) is None:
            # A store from an old backup has forgotten it: its logs hold events, and must be copied and read.
            await _recall(store, Life(
                incarnation=name, region=region, number=earlier, cluster_id="", opened_ms=now_ms,
                sealed_ms=now_ms, sealed_because=because,
            ))  # fmt: skip
    life = Life(incarnation=incarnation, region=region, number=number, cluster_id=cluster_id, opened_ms=now_ms)
    try:
        await store.compare_and_put(LIVES + incarnation, msgspec.json.encode(life), ABSENT)
    except CasConflict:
        found = await store.get(LIVES + incarnation)
        return life if found is None else _decode(found.key, found.value)
    return life


async def seal_life(
    store: KeyValueStore, incarnation: str, because: str, now_ms: int, cuts: Sequence[LogCut] = ()
) -> Life | None:
    """Say that nothing more will be written under `incarnation`; the first reason stays, cuts are added."""
    for _ in range(_CAS_TRIES):
        found = await store.get(LIVES + incarnation)
        if found is None:
            return None
        life = _decode(found.key, found.value)
        new = [cut for cut in cuts if cut not in life.cuts]
        if life.sealed and not new:
            return life
        sealed = msgspec.structs.replace(
            life,
            sealed_ms=life.sealed_ms or now_ms,
            sealed_because=life.sealed_because or because,
            cuts=[*life.cuts, *new],
        )
        try:
            await store.compare_and_put(found.key, msgspec.json.encode(sealed), found.revision)
        except CasConflict:
            continue
        return sealed
    raise CasConflict(f"{LIVES}{incarnation} was changed by others {_CAS_TRIES} times in a row")


async def _recall(store: KeyValueStore, life: Life) -> None:
    with suppress(CasConflict):
        await store.compare_and_put(LIVES + life.incarnation, msgspec.json.encode(life), ABSENT)


async def all_lives(store: KeyValueStore) -> list[Life]:
    """Return every life of every region, by region and number."""
    found = [_decode(entry.key, entry.value) for entry in await store.list(LIVES)]
    return sorted(found, key=lambda life: (life.region, life.number))


async def lives_as_of(store: KeyValueStore, revision: int) -> list[Life]:
    """Return the lives that a region had opened before the store reached a revision, as they stand now.

    Of a region that had opened none by then, all: a store that was rebuilt has forgotten when that was.
    """
    found = [(entry.create_revision, _decode(entry.key, entry.value)) for entry in await store.list(LIVES)]
    before = [life for created, life in found if created < revision]
    known = {life.region for life in before}
    return [*before, *(life for _, life in found if life.region not in known)]


def current_lives(lives: Iterable[Life]) -> dict[str, Life]:
    """Return the newest life of each region."""
    return {life.region: life for life in sorted(lives, key=lambda life: life.number)}


def incarnations_to_subscribe(lives: Iterable[Life], regions: Iterable[str]) -> list[str]:
    """Return every incarnation that has a log, and the next one of each region, also of one that never lived.

    What comes next is made and read beforehand, so that a wipe of one region does not restart the others.
    """
    lives = list(lives)
    newest = current_lives(lives)
    coming = [
        next_incarnation_name(newest[region].incarnation) if region in newest else incarnation_name(region, 1)
        for region in regions
    ]
    return [*(life.incarnation for life in lives), *coming]


def _decode(key: str, raw: bytes) -> Life:
    try:
        return msgspec.json.decode(raw, type=Life)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"{key} does not hold a life ({error}); a newer release may have written it") from error
