"""What a replicator believes of another region's Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from services.common.clock import SystemClock
from services.common.deployment import Site
from services.replicator.kafka import KafkaSide
from services.replicator.peer import Peer
from services.replicator.settings import ReplicatorSettings
from streams.truncation import LogEnd
from tests.support.poll import wait_until_async

Place = tuple[str, int]


class Replaced(KafkaSide):
    """Answers every question, and is another cluster once it was told so."""

    cluster = "first"

    def __init__(self, bootstrap: str, answer_seconds: float) -> None:
        """Connects to nothing."""

    def cluster_id(self) -> str:
        """See KafkaSide."""
        return self.cluster

    def ends(self, places: Sequence[Place]) -> Mapping[Place, LogEnd]:  # type: ignore[override]
        """See KafkaSide."""
        return {}

    def topic_ids(self, names: Collection[str]) -> dict[str, str]:
        """See KafkaSide."""
        return {}


async def test_a_kafka_that_is_another_one_between_two_polls_is_another_contact() -> None:
    """It was away for so short that no question went unanswered: the copies of its old life must not go on."""
    site = Site(name="east", kind="region", host="127.0.0.1", base_port=9)
    settings = ReplicatorSettings(poll_interval_ms=10)
    peer = Peer(site, settings, SystemClock(), lambda: [("east-1.events", 0)], lambda _: None, Replaced)
    polling = asyncio.create_task(peer.poll())
    try:
        await wait_until_async(lambda: peer.seen.cluster_id == "first" and peer.seen.reachable)
        contact = peer.contact
        Replaced.cluster = "second"
        await wait_until_async(lambda: peer.seen.cluster_id == "second" and peer.seen.reachable)
        assert peer.contact > contact
        assert not peer.is_fresh(contact)
    finally:
        polling.cancel()
        with suppress(asyncio.CancelledError):
            await polling
