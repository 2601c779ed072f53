"""The fake is asked whatever etcd is asked, at random, and must say the same: simulations rest on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.coordination import CoordinationError, MemoryStore
from services.coordination.lease import Change, Guard, LeaseStore
from tests.support.etcd import EtcdCluster
from tests.support.lease_drivers import new_root

KEYS = st.sampled_from(["a", "b", "b/c"])
NEVER = 7
LEASES = st.sampled_from([0, 1, 2, NEVER])
# What a write expects: the key's revision as it is, its revision before that, or nothing there.
EXPECTED = st.sampled_from(["now", "before", "absent"])
STEP = st.one_of(
    st.tuples(
        st.just("put"),
        KEYS,
        EXPECTED,
        LEASES,
        st.one_of(st.none(), st.tuples(KEYS, st.sampled_from(["now", "absent"]))),
        st.sampled_from(["", "", "copy"]),
    ),
    st.tuples(st.just("delete"), KEYS, EXPECTED),
    st.tuples(st.just("revoke"), LEASES),
    st.tuples(st.just("keep_alive"), LEASES),
    st.tuples(st.just("grant"), st.sampled_from([1, 2])),
)


@dataclass
class Asked:
    """One store and what its answers looked like, with revisions counted from its own start."""

    store: LeaseStore
    root: str
    start: int = 0
    leases: dict[int, int] = field(default_factory=dict)
    history: dict[str, list[int]] = field(default_factory=dict)
    said: list[Any] = field(default_factory=list)

    async def do(self, step: tuple[Any, ...]) -> None:
        """One step; what it returns, or the name of what it raises, is noted."""
        try:
            outcome = await self._perform(*step)
        except CoordinationError as error:
            outcome = type(error).__name__
        self.said.append((step, outcome))

    async def changes(self) -> list[Any]:
        """All that a watch from the start tells."""
        last = await self.store.revision()
        seen: list[Change] = []
        if last == self.start:
            return seen
        async with asyncio.timeout(30):
            async for batch in self.store.watch(self.root, self.start):
                seen.extend(batch)
                if seen and seen[-1].revision == last:
                    break
        return [
            (change.key.removeprefix(self.root), change.now.value if change.now else None, change.revision - self.start)
            for change in seen
        ]

    async def _perform(self, kind: str, *rest: Any) -> Any:
        actions: dict[str, Callable[..., Awaitable[Any]]] = {
            "put": self._put, "delete": self._delete, "revoke": self._revoke, "keep_alive": self._keep_alive,
            "grant": self._grant,
        }  # fmt: skip
        return await actions[kind](*rest)

    async def _put(self, key: str, expected: str, lease: int, guard: tuple[str, str] | None, copy: str) -> Any:
        made = await self._guard(guard) if guard else None
        written = await self.store.compare_and_put(
            self.root + key,
            b"%d" % len(self.said),
            self._expected(key, expected),
            lease_id=self._lease(lease),
            guard=made,
            lasting_copy=self.root + copy if copy else "",
        )
        self.history.setdefault(key, []).append(written.revision)
        return written.revision - self.start, written.create_revision - self.start

    async def _delete(self, key: str, expected: str) -> None:
        await self.store.compare_and_delete(self.root + key, self._expected(key, expected))

    async def _revoke(self, lease: int) -> None:
        await self.store.revoke(self._lease(lease) or NEVER)

    async def _keep_alive(self, lease: int) -> float:
        return await self.store.keep_alive(self._lease(lease) or NEVER)

    async def _grant(self, number: int) -> float:
        granted = await self.store.grant(60)
        self.leases[number] = granted.lease_id
        return granted.ttl_seconds

    async def _guard(self, guard: tuple[str, str]) -> Guard:
        found = await self.store.get(self.root + guard[0])
        return Guard(self.root + guard[0], found.create_revision if found and guard[1] == "now" else 0)

    def _expected(self, key: str, expected: str) -> int:
        known = self.history.get(key, [])
        if expected == "absent" or not known:
            return 0
        return known[-1] if expected == "now" else known[max(0, len(known) - 2)]

    def _lease(self, number: int) -> int:
        return 0 if number == 0 else self.leases.get(number, NEVER)


@pytest.mark.integration
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@example(
    steps=[
        ("grant", 1),
        ("put", "a", "absent", 1, None, "copy"),
        ("put", "b", "absent", 1, None, "copy"),
        ("put", "b", "absent", 1, None, ""),
        ("revoke", 1),
        ("put", "a", "absent", 0, None, ""),
    ]
)
@example(steps=[("put", "a", "absent", 0, None, "copy"), ("put", "a", "absent", NEVER, None, "copy")])
@example(steps=[("put", "a", "absent", 0, None, "copy"), ("put", "b", "absent", NEVER, None, "copy")])
@given(steps=st.lists(STEP, max_size=25))
def test_the_fake_says_what_etcd_says(etcd_cluster: EtcdCluster, steps: list[tuple[Any, ...]]) -> None:
    """Outcomes, revisions relative to the start, contents and the watch's account are the same."""

    async def ask_both() -> None:
        real = etcd_cluster.store()
        try:
            both = [Asked(store, new_root()) for store in (real, MemoryStore())]
            for asked in both:
                asked.start = await asked.store.revision()
            for step in steps:
                for asked in both:
                    await asked.do(step)
            etcd, fake = both
            assert fake.said == etcd.said
            contents = [
                [(entry.key.removeprefix(asked.root), entry.value) for entry in await asked.store.list(asked.root)]
                for asked in both
            ]
            assert contents[0] == contents[1]
            assert await fake.changes() == await etcd.changes()
        finally:
            await real.close()

    asyncio.run(ask_both())
