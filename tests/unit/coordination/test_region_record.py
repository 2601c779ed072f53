"""What a region remembers outside its data."""

import asyncio

import pytest

from services.coordination import MemoryStore, StoreDamaged
from services.coordination.base import ABSENT
from services.coordination.region_record import (
    KeyMismatch,
    acknowledged_ends,
    allocate_incarnation,
    check_key_fingerprint,
    current_incarnation,
    cut_partitions,
    next_incarnation_name,
    raise_acknowledged_ends,
)


async def test_a_region_keeps_its_incarnation_while_its_broker_keeps_its_cluster_id() -> None:
    """A restart goes on in the same life; a new cluster id opens the next one."""
    store = MemoryStore()
    assert await current_incarnation(store, "east") is None
    assert await allocate_incarnation(store, "east", "c1") == "east-1"
    assert await allocate_incarnation(store, "east", "c1") == "east-1"
    assert await allocate_incarnation(store, "east", "c2") == "east-2"
    assert await allocate_incarnation(store, "far-west", "c3") == "far-west-1"
    assert await current_incarnation(store, "east") == "east-2"
    assert next_incarnation_name("far-west-9") == "far-west-10"


async def test_the_first_pseudonym_key_binds_the_deployment() -> None:
    """Another key is refused with what to do, and does not replace the recorded fingerprint."""
    store = MemoryStore()
    await check_key_fingerprint(store, "aa")
    await check_key_fingerprint(store, "aa")
    for _ in range(2):
        with pytest.raises(KeyMismatch, match="put the key file back"):
            await check_key_fingerprint(store, "bb")


async def test_acknowledged_ends_only_grow_whoever_writes_them() -> None:
    """Merging is by maximum, so late and repeated writers do no harm."""
    store = MemoryStore()
    await asyncio.gather(
        *(raise_acknowledged_ends(store, "east-1.events", {n % 3: n}) for n in (9, 1, 5, 3, 7, 2)),
    )
    assert await raise_acknowledged_ends(store, "east-1.events", {0: 4}) == {0: 9, 1: 7, 2: 5}
    assert await acknowledged_ends(store, "east-1.events") == {0: 9, 1: 7, 2: 5}
    assert await acknowledged_ends(store, "east-2.events") == {}


def test_a_log_that_ends_before_what_was_acknowledged_is_cut() -> None:
    """Equal ends are whole; a partition that is not there at all ends at 0."""
    assert cut_partitions({0: 5, 1: 5, 2: 5}, {0: 5, 1: 4}) == [(1, 5, 4), (2, 5, 0)]


async def test_a_value_of_another_shape_is_damage_and_not_a_default() -> None:
    """Unknown never means empty."""
    store = MemoryStore()
    await store.compare_and_put("/meridian/acknowledged-ends/east-1.events", b'"soon"', ABSENT)
    with pytest.raises(StoreDamaged, match="newer release"):
        await acknowledged_ends(store, "east-1.events")
