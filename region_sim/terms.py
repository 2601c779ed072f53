"""Who held the leader key, and when, as somebody saw it who belongs to no region.

The key is watched from outside all the time, through whichever member of etcd answers. A watch that ends is begun again
after the last revision that was seen, so no term is missed while nobody answered.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from region_sim.evidence import Epoch, TermSeen
from services.common.clock import Clock
from services.coordination.base import StoreDamaged, StoreUnavailable, Versioned
from services.coordination.election import read_leader
from services.coordination.keys import LEADER
from services.coordination.lease import Compacted, LeaseStore

AGAIN_SECONDS = 0.1


@dataclass(slots=True)
class _Term:
    region: str
    instance: str
    epoch: Epoch
    seen_ms: int
    gone_ms: int = 0


class TermWatch:
    """Watches until its task is cancelled; `seen` tells what it saw so far."""

    def __init__(self, store: LeaseStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._terms: list[_Term] = []
        self.damaged = 0
        """Values of the key that could not be read."""
        self.missed = False
        """Whether etcd no longer knew what had changed since it was last heard: terms may be missing."""

    def seen(self) -> list[TermSeen]:
        """Every term, oldest first."""
        return [
            TermSeen(region=t.region, instance=t.instance, epoch=t.epoch, seen_ms=t.seen_ms, gone_ms=t.gone_ms)
            for t in self._terms
        ]

    async def run(self) -> None:
        """Watch for ever."""
        revision = 0
        while True:
            try:
                if not revision:
                    revision = await self._store.revision()
                    self.note(await self._store.get(LEADER), self._clock.unix_ms())
                async for changes in self._store.watch(LEADER, revision):
                    for change in changes:
                        if change.key == LEADER:
                            self.note(change.now, self._clock.unix_ms())
                        revision = max(revision, change.revision)
            except Compacted:
                self.missed = self.missed or bool(self._terms)
                revision = 0
            except StoreUnavailable:
                pass
            await self._clock.sleep(AGAIN_SECONDS)

    def note(self, found: Versioned | None, now_ms: int) -> None:
        """The key was seen so, or was seen to be gone."""
        last = self._terms[-1] if self._terms else None
        if found is None:
            if last is not None and not last.gone_ms:
                last.gone_ms = now_ms
            return
        try:
            record = read_leader(found)
        except StoreDamaged:
            self.damaged += 1
            return
        epoch = (record.generation, found.create_revision)
        if last is not None and last.epoch == epoch:
            return
        if last is not None and not last.gone_ms:
            last.gone_ms = now_ms
        self._terms.append(_Term(record.region, record.instance, epoch, now_ms))


class Watching:
    """A TermWatch and its task: `async with Watching(watch)`."""

    def __init__(self, watch: TermWatch) -> None:
        self._watch = watch
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> TermWatch:
        self._task = asyncio.create_task(self._watch.run())
        return self._watch

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
