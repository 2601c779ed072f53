"""What happens to leases, watches and members when etcd's members are killed, frozen, wiped and put back.

Availability is asked of the default driver only; that of `etcd3` has one member and no failover.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.runtime.etcd import EtcdRuntimeError
from services.coordination import CoordinationError, StoreUnavailable
from services.coordination.base import ABSENT
from services.coordination.cluster import EtcdCluster as Admin
from services.coordination.etcd import EtcdGatewayStore
from services.coordination.lease import Change, Compacted, LeaseLost
from tests.support.etcd import EtcdCluster
from tests.support.poll import wait_until, wait_until_async

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

TTL_SECONDS = 5
REQUEST_TIMEOUT_SECONDS = 0.6
PATIENCE_SECONDS = 60


@contextlib.asynccontextmanager
async def store_on(cluster: EtcdCluster, first: str, *others: str) -> AsyncIterator[EtcdGatewayStore]:
    """A store that asks `first` first, then `others` (all, unless named)."""
    names = [first, *(others or (name for name in cluster.members if name != first))]
    endpoints = [cluster.members[name].client_url for name in names]
    store = EtcdGatewayStore(endpoints, request_timeout_seconds=REQUEST_TIMEOUT_SECONDS, watch_silence_seconds=3.0)
    yield store
    await store.close()


@pytest.mark.parametrize("fault", ["kill", "pause"])
@pytest.mark.parametrize("whose", ["own", "leader"])
async def test_a_lease_outlives_the_loss_of_one_member(fresh_etcd_cluster: EtcdCluster, fault: str, whose: str) -> None:
    """The holder's own member, or etcd's leader, is killed or hangs: the lease is renewed through another in time."""
    cluster = fresh_etcd_cluster
    leader = cluster.leader()
    own = leader if whose == "leader" else next(name for name in cluster.members if name != leader)
    async with store_on(cluster, own) as store:
        lease = await store.grant(TTL_SECONDS)
        held = await store.compare_and_put("/leader", b"", ABSENT, lease_id=lease.lease_id)
        getattr(cluster.members[own], fault)()
        until = time.monotonic() + 2 * TTL_SECONDS
        renewed = 0

        async def renewed_long_enough() -> bool:
            nonlocal renewed
            with contextlib.suppress(StoreUnavailable):
                renewed += await store.keep_alive(lease.lease_id) == lease.ttl_seconds
            return time.monotonic() > until

        await wait_until_async(renewed_long_enough, PATIENCE_SECONDS)
        assert renewed
        assert await store.get("/leader") == held
        if fault == "pause":
            cluster.members[own].resume()


async def test_a_watcher_misses_nothing_when_its_member_hangs(fresh_etcd_cluster: EtcdCluster) -> None:
    """A watch on a frozen member is noticed by its silence; begun again elsewhere it tells the rest, each once."""
    cluster = fresh_etcd_cluster
    own = next(name for name in cluster.members if name != cluster.leader())
    seen: list[Change] = []
    ended = 0

    async def follow(store: EtcdGatewayStore) -> None:
        nonlocal ended
        after = 1
        while True:
            try:
                async for batch in store.watch("/n/", after):
                    seen.extend(batch)
                    after = batch[-1].revision if batch else after
            except StoreUnavailable:
                ended += 1

    async with store_on(cluster, own) as watching, store_on(cluster, cluster.leader()) as writing:
        task = asyncio.ensure_future(follow(watching))
        for number in range(6):
            if number == 3:
                await wait_until_async(lambda: len(seen) == 3, PATIENCE_SECONDS, "the first changes")
                cluster.members[own].pause()
            await writing.compare_and_put(f"/n/{number}", b"", ABSENT)
        await wait_until_async(lambda: len(seen) >= 6, PATIENCE_SECONDS, "the changes after the member froze")
        task.cancel()
        cluster.members[own].resume()
    assert [change.key for change in seen] == [f"/n/{number}" for number in range(6)]
    assert ended >= 1


async def test_without_a_quorum_nothing_is_granted_renewed_or_read(fresh_etcd_cluster: EtcdCluster) -> None:
    """Two of three members gone: every answer is "unknown", the watch ends, and all is back with the second member."""
    cluster = fresh_etcd_cluster
    left, *gone = cluster.members
    async with store_on(cluster, left) as store:
        lease = await store.grant(60)
        for name in gone:
            cluster.members[name].kill()
        for refused in (store.get("/a"), store.revision(), store.grant(5), store.compare_and_put("/a", b"", ABSENT)):
            with pytest.raises(StoreUnavailable):
                await refused

        async def no_longer_renewed() -> bool:
            # A leader that is cut off may acknowledge for a moment: that is why deadlines count from sending.
            with contextlib.suppress(StoreUnavailable):
                await store.keep_alive(lease.lease_id)
                return False
            return True

        await wait_until_async(no_longer_renewed, PATIENCE_SECONDS)
        with pytest.raises(StoreUnavailable):
            await watch_until_it_ends(store, 1)
        cluster.members[gone[0]].start(wait=False)

        async def written() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return await store.get("/b") is not None or bool(await store.compare_and_put("/b", b"", ABSENT))
            return False

        await wait_until_async(written, PATIENCE_SECONDS, "the quorum to be back")


async def test_a_revived_leader_renews_nothing_and_shows_nothing_old(fresh_etcd_cluster: EtcdCluster) -> None:
    """A leader frozen until its successor let the lease expire cannot say afterwards that it was renewed."""
    cluster = fresh_etcd_cluster
    old = cluster.leader()
    other = next(name for name in cluster.members if name != old)
    async with store_on(cluster, old, old) as through_old, store_on(cluster, other) as store:
        lease = await through_old.grant(2)
        held = await through_old.compare_and_put("/leader", b"east", ABSENT, lease_id=lease.lease_id)
        cluster.members[old].pause()

        async def taken_over() -> bool:
            with contextlib.suppress(CoordinationError):
                return (await store.compare_and_put("/leader", b"west", ABSENT)).create_revision > held.revision
            return False

        await wait_until_async(taken_over, PATIENCE_SECONDS, "the lease to end under a new leader")
        cluster.members[old].resume()
        outcomes: list[type[CoordinationError]] = []

        async def lost() -> bool:
            try:
                await through_old.keep_alive(lease.lease_id)
            except CoordinationError as error:
                outcomes.append(type(error))
            else:
                pytest.fail("a lease that had ended was renewed")
            return outcomes[-1] is LeaseLost

        await wait_until_async(lost, PATIENCE_SECONDS, "the revived member to know")
        found = await through_old.get("/leader")
        assert found is not None
        assert found.value == b"west"


async def test_a_wiped_member_is_taken_in_again(fresh_etcd_cluster: EtcdCluster) -> None:
    """Its place is given to a learner, which catches up, is promoted, and can then lead."""
    cluster = fresh_etcd_cluster
    async with store_on(cluster, "west") as store:
        written = await store.compare_and_put("/a", b"kept", ABSENT)
        before = {member.site: member.member_id for member in await Admin(store.transport).members()}
        cluster.wipe("east")
        cluster.rejoin("east")
        admin = Admin(store.transport)

        async def promoted() -> bool:
            with contextlib.suppress(StoreUnavailable):
                await admin.promote_ready_learners()
                return all(member.site and not member.is_learner for member in await admin.members())
            return False

        await wait_until_async(promoted, PATIENCE_SECONDS, "the learner to be promoted")
        after = {member.site: member.member_id for member in await admin.members()}
        assert after.keys() == before.keys()
        assert after["east"] != before["east"]

        async def leads() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return await admin.move_leader("east") and await admin.leader() == "east"
            return False

        await wait_until_async(leads, PATIENCE_SECONDS, "the new member to lead")
        async with store_on(cluster, "east", "east") as through_east:
            assert await through_east.get("/a") == written
        cluster.members["north"].kill()
        await wait_until_async(lambda: _readable(store), PATIENCE_SECONDS, "a quorum with the new member's vote")


async def test_a_wiped_member_without_survivors_starts_nothing(fresh_etcd_cluster: EtcdCluster) -> None:
    """Nobody answers: the member waits instead of founding a second cluster."""
    cluster = fresh_etcd_cluster
    cluster.kill()
    shutil.rmtree(cluster.members["east"].directory)
    with pytest.raises(EtcdRuntimeError, match="cannot take it in yet"):
        cluster.members["east"].prepare(bootstrapped=True)
    with pytest.raises(EtcdRuntimeError, match="was not prepared"):
        cluster.members["east"].command()


async def test_a_lost_majority_is_rebuilt_from_one_member(fresh_etcd_cluster: EtcdCluster) -> None:
    """What docs/operating/etcd.md says to do: a new cluster out of the survivor, and the others join it one by one."""
    cluster = fresh_etcd_cluster
    left, *lost = cluster.members
    async with store_on(cluster, left) as store:
        written = await store.compare_and_put("/a", b"kept", ABSENT)
        cluster.members[left].stop()
        for site in lost:
            cluster.wipe(site)
        cluster.members[left].extra_arguments = ("--force-new-cluster",)
        cluster.members[left].start()
        cluster.members[left].stop()
        cluster.members[left].extra_arguments = ()
        cluster.members[left].start()
        admin = Admin(store.transport)

        async def voting(sites: int) -> bool:
            with contextlib.suppress(StoreUnavailable):
                await admin.promote_ready_learners()
                return sum(not member.is_learner for member in await admin.members()) == sites
            return False

        for voters, site in enumerate(lost, 2):
            cluster.rejoin(site)
            await wait_until_async(lambda voters=voters: voting(voters), PATIENCE_SECONDS, f"{site} to have a vote")
        assert await store.get("/a") == written
        assert await store.compare_and_put("/b", b"", ABSENT)


async def test_a_cluster_restored_from_an_old_backup_is_noticed(
    fresh_etcd_cluster: EtcdCluster, tmp_path: Path
) -> None:
    """Revisions and terms go back: clients that knew more go on, are told so, and never wait in silence."""
    cluster = fresh_etcd_cluster
    async with store_on(cluster, "east") as store:
        old = await store.compare_and_put("/a", b"old", ABSENT)
        for member in cluster.members.values():
            member.stop()
            shutil.copytree(member.data_dir, tmp_path / "backup" / member.name)
        for _ in range(3):
            # Each election is a new term, so that the backup's are far behind.
            start_again(cluster)
            cluster.kill()
        start_again(cluster)
        await wait_until_async(lambda: _readable(store), PATIENCE_SECONDS, "the cluster before the accident")
        new = await store.compare_and_put("/a", b"new", old.revision)
        cluster.kill()
        for member in cluster.members.values():
            shutil.rmtree(member.data_dir)
            shutil.copytree(tmp_path / "backup" / member.name, member.data_dir)
        start_again(cluster)
        await wait_until_async(lambda: _readable(store), PATIENCE_SECONDS, "the restored cluster to be believed")
        assert await store.get("/a") == old
        assert await store.revision() < new.revision
        with pytest.raises((StoreUnavailable, Compacted)):
            await watch_until_it_ends(store, new.revision + 1)


def start_again(cluster: EtcdCluster) -> None:
    """Start all members and wait until each of them answers."""
    for member in cluster.members.values():
        member.start(wait=False)
    wait_until(lambda: all(member.is_healthy() for member in cluster.members.values()), PATIENCE_SECONDS, "etcd")


async def watch_until_it_ends(store: EtcdGatewayStore, after_revision: int) -> None:
    """Return never: a watch ends by raising."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for _ in store.watch("/", after_revision):
            pass


async def _readable(store: EtcdGatewayStore) -> bool:
    with contextlib.suppress(StoreUnavailable):
        await store.get("/a")
        return True
    return False
