"""The worker's end of the socket, and the order in which the gateway records what it knows."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.coordination import StoreUnavailable, Versioned
from services.coordination.memory import MemoryStore
from services.coordination.region_record import acknowledged_ends
from services.gateway.acked_ends import AckedEnds
from services.gateway.ends_recorder import EndsRecorder
from services.gateway.inbox.worker import GatewayGone, Line
from services.gateway.metrics import GatewayMetrics

LOG = "east-1.events"


@pytest.mark.parametrize("unread", [b"", b"a report that nobody reads any more"])
def test_a_gateway_that_dies_ends_the_worker(unread: bytes) -> None:
    """Killed with something unread in its socket, it resets the connection instead of closing it."""
    gateway, worker = socket.socketpair()
    with worker:
        line = Line(worker)
        if unread:
            line.send(unread)
        gateway.close()
        with pytest.raises(GatewayGone):
            line.receive(1.0)


class SlowStore(MemoryStore):
    """Puts that wait for a sign, and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.broken = False

    async def compare_and_put(self, key: str, value: bytes, expected_revision: int, **lease: Any) -> Versioned:
        """See KeyValueStore."""
        await self.go.wait()
        if self.broken:
            raise StoreUnavailable("no quorum")
        return await super().compare_and_put(key, value, expected_revision, **lease)


async def test_whoever_asks_for_the_ends_to_be_recorded_waits_for_another_who_does() -> None:
    """Otherwise how far the inbox is moved would be known before the ends that it lies below."""
    store, ends = SlowStore(), AckedEnds(LOG, {})
    recorder = EndsRecorder(store, LOG, ends, 1.0, GatewayMetrics(CollectorRegistry()))
    ends.acknowledge(0, 7)
    other = asyncio.create_task(recorder.record())
    asked = asyncio.create_task(recorder.record())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not asked.done()
    store.go.set()
    assert await asked is True
    assert await other is True
    assert await acknowledged_ends(store, LOG) == {0: 8}


async def test_it_says_when_they_could_not_be_recorded() -> None:
    """And tries again with the next call."""
    store, ends = SlowStore(), AckedEnds(LOG, {})
    recorder = EndsRecorder(store, LOG, ends, 1.0, GatewayMetrics(CollectorRegistry()))
    ends.acknowledge(0, 7)
    store.go.set()
    store.broken = True
    assert await recorder.record() is False
    store.broken = False
    assert await recorder.record() is True
    assert await recorder.record() is True
