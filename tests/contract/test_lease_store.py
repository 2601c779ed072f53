"""The contract of leases, guards and watches, asked of every driver, the fake included."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from services.coordination import CasConflict, StoreUnavailable
from services.coordination.base import ABSENT
from services.coordination.lease import Change, Compacted, Guard, LeaseLost, LeaseStore
from tests.support.lease_drivers import Etcd3Driver, GatewayDriver, LeaseDriver, MemoryDriver, new_root
from tests.support.poll import wait_until_async

UNKNOWN_LEASE = 0x123456
# The package etcd3 needs another protobuf than the rest of the process: its turn is in a process of its own.
OWN_PROCESS = "MERIDIAN_TEST_ETCD3"


@pytest.fixture(
    params=["etcd3"]
    if os.environ.get(OWN_PROCESS)
    else [
        "memory",
        pytest.param("gateway", marks=pytest.mark.integration),
        pytest.param("gateway-on-images", marks=pytest.mark.docker),
    ]
)
def driver(request: pytest.FixtureRequest) -> LeaseDriver:
    """Each driver in turn."""
    if request.param == "memory":
        return MemoryDriver()
    if request.param == "gateway-on-images":
        return GatewayDriver(request.getfixturevalue("etcd_in_containers"))
    kind = Etcd3Driver if request.param == "etcd3" else GatewayDriver
    return kind(request.getfixturevalue("etcd_cluster"))


@pytest.mark.integration
@pytest.mark.skipif(bool(os.environ.get(OWN_PROCESS)), reason="this is that process")
def test_the_etcd3_driver_passes_this_suite_in_a_process_of_its_own(tmp_path: Path) -> None:
    """One contract for all drivers."""
    pytest.importorskip("grpc", reason="the package etcd3 is not installed")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--basetemp={tmp_path / 'run'}",
        __file__,
    ]
    environment = {**os.environ, OWN_PROCESS: "1", "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout


@pytest.fixture
async def store(driver: LeaseDriver) -> AsyncIterator[LeaseStore]:
    """A store of that driver."""
    opened = driver.open()
    yield opened
    await opened.close()


@pytest.fixture
def root() -> str:
    """A prefix of one's own: the cluster is shared."""
    return new_root()


async def collect(store: LeaseStore, prefix: str, after: int, count: int) -> list[Change]:
    """Watch until `count` changes were seen."""
    seen: list[Change] = []
    async with asyncio.timeout(30):
        async for batch in store.watch(prefix, after):
            seen.extend(batch)
            if len(seen) >= count:
                break
    return seen


async def test_a_key_lives_as_long_as_its_lease(store: LeaseStore, root: str) -> None:
    """Ending a lease deletes its keys and no others, and says so to whoever holds it."""
    lease = await store.grant(60)
    await store.compare_and_put(root + "leased", b"", ABSENT, lease_id=lease.lease_id)
    await store.compare_and_put(root + "free", b"", ABSENT)
    await store.revoke(lease.lease_id)
    assert [entry.key for entry in await store.list(root)] == [root + "free"]
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease.lease_id)
    with pytest.raises(LeaseLost):
        await store.compare_and_put(root + "late", b"", ABSENT, lease_id=lease.lease_id)
    assert await store.get(root + "late") is None


async def test_a_lease_ends_without_its_holder(store: LeaseStore, root: str) -> None:
    """A holder that falls silent loses its keys, and whoever watches hears of it."""
    lease = await store.grant(1)
    written = await store.compare_and_put(root + "a", b"", ABSENT, lease_id=lease.lease_id)
    (gone,) = await collect(store, root, written.revision, 1)
    assert (gone.key, gone.now) == (root + "a", None)
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease.lease_id)


async def test_a_lease_that_is_renewed_goes_on(store: LeaseStore, root: str) -> None:
    """Renewing returns the time to live, and the key outlives the first one."""
    lease = await store.grant(2)
    await store.compare_and_put(root + "a", b"", ABSENT, lease_id=lease.lease_id)
    now = asyncio.get_running_loop().time
    until = now() + 1.5 * lease.ttl_seconds

    async def renewed_long_enough() -> bool:
        assert await store.keep_alive(lease.lease_id) == lease.ttl_seconds
        return now() > until

    await wait_until_async(renewed_long_enough, 30)
    assert await store.get(root + "a") is not None


async def test_the_time_to_live_is_what_was_granted(store: LeaseStore) -> None:
    """A request for less than the store can keep is raised, and the answer tells."""
    lease = await store.grant(0.1)
    assert lease.ttl_seconds >= 1
    assert await store.keep_alive(lease.lease_id) == lease.ttl_seconds


async def test_nobody_renews_what_was_never_granted(store: LeaseStore, root: str) -> None:
    """An unknown lease is a lost one; ending it is no error."""
    with pytest.raises(LeaseLost):
        await store.keep_alive(UNKNOWN_LEASE)
    with pytest.raises(LeaseLost):
        await store.compare_and_put(root + "a", b"", ABSENT, lease_id=UNKNOWN_LEASE)
    await store.revoke(UNKNOWN_LEASE)


async def test_a_key_hangs_on_the_lease_of_its_last_write(store: LeaseStore, root: str) -> None:
    """Written again under another lease, or none, a key outlives the first."""
    first, second = await store.grant(60), await store.grant(60)
    for name, lease_id in (("moved", second.lease_id), ("freed", 0)):
        written = await store.compare_and_put(root + name, b"1", ABSENT, lease_id=first.lease_id)
        await store.compare_and_put(root + name, b"2", written.revision, lease_id=lease_id)
    await store.revoke(first.lease_id)
    assert len(await store.list(root)) == 2
    await store.revoke(second.lease_id)
    assert [entry.key for entry in await store.list(root)] == [root + "freed"]


async def test_of_two_candidates_one_holds_and_the_next_epoch_is_larger(driver: LeaseDriver, root: str) -> None:
    """Create-if-absent under a lease is an election; its create revision grows from holder to holder."""
    stores = [driver.open(), driver.open()]
    epochs = []
    for _ in range(2):
        leases = [await store.grant(60) for store in stores]
        tries = [
            store.compare_and_put(root + "leader", b"%d" % number, ABSENT, lease_id=lease.lease_id)
            for number, (store, lease) in enumerate(zip(stores, leases, strict=True))
        ]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        (won,) = (outcome for outcome in outcomes if not isinstance(outcome, BaseException))
        assert sum(isinstance(outcome, CasConflict) for outcome in outcomes) == 1
        epochs.append(won.create_revision)
        await stores[0].revoke(leases[int(won.value)].lease_id)
    assert epochs[0] < epochs[1]
    for store in stores:
        await store.close()


async def test_a_guard_must_hold_as_well(store: LeaseStore, root: str) -> None:
    """A write can hang on another key's life, so that a former holder writes nothing under its successor."""
    leader = await store.compare_and_put(root + "leader", b"", ABSENT)
    guard = Guard(root + "leader", leader.create_revision)
    written = await store.compare_and_put(root + "a", b"1", ABSENT, guard=guard)
    await store.compare_and_delete(root + "leader", leader.revision)
    with pytest.raises(CasConflict, match="leader"):
        await store.compare_and_put(root + "a", b"2", written.revision, guard=guard)
    await store.compare_and_put(root + "leader", b"", ABSENT)
    with pytest.raises(CasConflict):
        await store.compare_and_put(root + "a", b"2", written.revision, guard=guard)
    with pytest.raises(CasConflict):
        await store.compare_and_put(root + "b", b"", ABSENT, guard=Guard(root + "leader", ABSENT))
    assert await store.get(root + "a") == written


async def test_a_lasting_copy_comes_with_its_key_and_outlives_its_lease(store: LeaseStore, root: str) -> None:
    """Written in one step, at one revision: who created the key is known when the key is gone."""
    before, lease = await store.revision(), await store.grant(60)
    held = await store.compare_and_put(
        root + "leader", b"east", ABSENT, lease_id=lease.lease_id, lasting_copy=root + "terms/1"
    )
    copy = await store.get(root + "terms/1")
    assert copy is not None
    assert (copy.value, copy.create_revision, copy.revision) == (b"east", held.create_revision, held.revision)
    changed = await collect(store, root, before, 2)
    assert {(change.key, change.revision) for change in changed} == {
        (root + "leader", held.revision), (root + "terms/1", held.revision),
    }  # fmt: skip
    await store.revoke(lease.lease_id)
    assert await store.list(root) == [copy]
    await store.compare_and_delete(copy.key, copy.revision)


async def test_a_lasting_copy_is_written_only_with_its_key(store: LeaseStore, root: str) -> None:
    """Whatever forbids the one forbids the other; and the copy must be new as well."""
    lease = await store.grant(60)
    first = await store.compare_and_put(root + "a", b"1", ABSENT, lasting_copy=root + "copy/1")
    with pytest.raises(CasConflict):
        await store.compare_and_put(root + "a", b"2", ABSENT, lease_id=lease.lease_id, lasting_copy=root + "copy/2")
    with pytest.raises(CasConflict, match="copy/1"):
        await store.compare_and_put(root + "b", b"2", ABSENT, lease_id=lease.lease_id, lasting_copy=root + "copy/1")
    with pytest.raises(CasConflict, match="copy/1"):
        await store.compare_and_put(root + "a", b"2", first.revision, lasting_copy=root + "copy/1")
    with pytest.raises(LeaseLost):
        await store.compare_and_put(root + "b", b"2", ABSENT, lease_id=UNKNOWN_LEASE, lasting_copy=root + "copy/2")
    assert [(entry.key, entry.value) for entry in await store.list(root)] == [
        (root + "a", b"1"), (root + "copy/1", b"1"),
    ]  # fmt: skip


async def test_a_watch_tells_each_change_once_and_in_order(store: LeaseStore, root: str) -> None:
    """Everything after the revision, nothing at or before it, nothing of other keys."""
    before = await store.compare_and_put(root + "a", b"0", ABSENT)
    changed = await store.compare_and_put(root + "a", b"1", before.revision)
    await store.compare_and_put(root.rstrip("/") + "-other", b"", ABSENT)
    made = await store.compare_and_put(root + "b", b"", ABSENT)
    await store.compare_and_delete(root + "a", changed.revision)
    seen = await collect(store, root, before.revision, 3)
    assert [(change.key, change.now) for change in seen] == [
        (root + "a", changed),
        (root + "b", made),
        (root + "a", None),
    ]
    assert [change.revision for change in seen] == sorted({change.revision for change in seen})
    assert await collect(store, root, made.revision, 1) == seen[2:]


async def test_a_watch_hears_of_what_comes_and_says_that_it_lives(store: LeaseStore, root: str) -> None:
    """Empty batches come while nothing happens, from the store's present revision on."""
    batches: list[Sequence[Change]] = []
    async with asyncio.timeout(30):
        async for batch in store.watch(root, await store.revision()):
            batches.append(batch)
            if len(batches) == 4:
                await store.compare_and_put(root + "a", b"", ABSENT)
            if batch:
                break
    assert not any(batches[:4])
    assert [change.key for change in batches[-1]] == [root + "a"]


async def test_a_watch_on_a_forgotten_past_says_so_and_is_resumed_by_listing(
    driver: LeaseDriver, store: LeaseStore, root: str
) -> None:
    """Changes that cannot be told any more are an error, not a silence; list, and watch from there."""
    first = await store.compare_and_put(root + "a", b"1", ABSENT)
    second = await store.compare_and_put(root + "a", b"2", first.revision)
    third = await store.compare_and_put(root + "a", b"3", second.revision)
    await driver.compact(third.revision)
    with pytest.raises(Compacted, match="list again"):
        await collect(store, root, first.revision, 1)
    as_of = await store.revision()
    assert await store.list(root) == [third]
    fourth = await store.compare_and_put(root + "a", b"4", third.revision)
    assert [change.now for change in await collect(store, root, as_of, 1)] == [fourth]


async def test_a_lost_answer_is_neither_success_nor_conflict(driver: LeaseDriver, store: LeaseStore, root: str) -> None:
    """The write happened, its writer cannot know, and so is told exactly that."""
    async with driver.mute() as mute:
        with pytest.raises(StoreUnavailable):
            await mute.compare_and_put(root + "a", b"1", ABSENT)
    await wait_until_async(lambda: store.get(root + "a"), 30, "the write whose answer was lost")


async def test_a_lost_answer_to_a_renewal_is_not_renewed(driver: LeaseDriver, store: LeaseStore) -> None:
    """Who does not hear that the lease was renewed must not act on it."""
    lease = await store.grant(60)
    async with driver.mute() as mute:
        with pytest.raises(StoreUnavailable):
            await mute.keep_alive(lease.lease_id)


async def test_leases_and_keys_outlive_a_move_of_the_lead(driver: LeaseDriver, store: LeaseStore, root: str) -> None:
    """Another member leads: the lease goes on, the epoch stays, and a watch, begun anew if need be, misses nothing."""
    lease = await store.grant(60)
    held = await store.compare_and_put(root + "leader", b"", ABSENT, lease_id=lease.lease_id)
    await driver.move_leader()

    async def renewed() -> bool:
        try:
            return await store.keep_alive(lease.lease_id) > 0
        except StoreUnavailable:
            return False

    await wait_until_async(renewed, 30, "a renewal through the new leader")
    assert await store.get(root + "leader") == held
    await store.revoke(lease.lease_id)
    (gone,) = await collect(store, root, held.revision, 1)
    assert gone.now is None
