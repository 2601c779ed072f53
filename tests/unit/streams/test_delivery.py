"""What the delivering application asks of the Kafka client while its subscription changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]

from streams.app import FaustSettings, make_app
from streams.truncation import EpochsSeen

PLACE = TopicPartition("east-1.events", 3)


@asynccontextmanager
async def consumer_thread() -> AsyncIterator[tuple[Any, AIOKafkaConsumer]]:
    """The part of a new application that asks its client, and a real client; nothing of it is started."""
    app = make_app(FaustSettings(bootstrap="127.0.0.1:1", group="g"), EpochsSeen(3.0), lambda: 0.0)
    consumer: Any = app.consumer
    client, thread = AIOKafkaConsumer(), consumer._thread
    thread._consumer = client
    yield thread, client
    await client.stop()


async def test_a_subscription_that_grows_does_not_end_the_processor() -> None:
    """Faust's monitor asks for every record that comes; between two assignments the client knows no partition.

    aiokafka asserts that it does, in Faust's own task: the assertion would end the application.
    """
    async with consumer_thread() as (thread, client):
        client.subscribe([PLACE.topic])
        with pytest.raises(AssertionError, match="not assigned"):
            client.highwater(PLACE)
        assert thread.highwater(PLACE) == 0
        thread.app.monitor.tp_end_offsets[PLACE] = 41
        assert thread.highwater(PLACE) == 41, "as it was last known"


async def test_a_partition_that_was_assigned_and_not_fetched_yet_has_the_end_that_was_last_known() -> None:
    """And once it was fetched, the client's word counts."""
    async with consumer_thread() as (thread, client):
        client.assign([PLACE])
        assert thread.highwater(PLACE) == 0
        client._subscription.subscription.assignment.state_value(PLACE).highwater = 99
        assert thread.highwater(PLACE) == 99
