"""From an app's HTTP call to the folded state, through a broker from an image that is killed on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.digest import audit, digest
from streams.logs import events_log
from streams.replay import replay
from streams.state import Parameters, State
from tests.support.containers import ContaineredBroker
from tests.support.frames import make_topics
from tests.support.gateway_parts import event
from tests.support.gateway_process import GatewayProcess, raw_frames
from tests.support.oracle import expect
from tests.support.poll import wait_until_async

pytestmark = pytest.mark.docker
INCARNATION = "image-1"
PARAMETERS = Parameters(bucket_ms=3_600_000, horizon_buckets=50, clock_events=30)
BATCH = 100


async def test_what_was_acknowledged_is_folded_once_though_its_broker_was_killed(
    fresh_broker: ContaineredBroker, tmp_path: Path
) -> None:
    """Two batches, one of them sent again, the broker killed in between: the state is that of the distinct events."""
    make_topics(fresh_broker.bootstrap, INCARNATION)
    first = [event(number) for number in range(BATCH)]
    second = [event(number) for number in range(BATCH, 2 * BATCH)]
    async with GatewayProcess(tmp_path, fresh_broker.bootstrap, INCARNATION) as gateway:

        async def taken(batch: list[object]) -> bool:
            status, _, _ = await gateway.post("/v1/events", batch)
            return status == 200

        assert await taken(first)
        fresh_broker.kill()
        fresh_broker.start()
        await wait_until_async(lambda: taken(second), 60, "the gateway to take events again")
        await wait_until_async(lambda: taken(first), 60, "the gateway to take what it had")
    log = events_log(INCARNATION)
    frames = raw_frames(fresh_broker.bootstrap, log)
    rows = [columns.row(number) for columns in frames.values() for number in range(columns.count)]
    assert len({row.identity for row in rows}) == 2 * BATCH
    state = State(PARAMETERS)
    result = replay(fresh_broker.bootstrap, state, [log])
    assert digest(state).explain(expect(rows, PARAMETERS).digest()) is None
    assert audit(state) is None
    assert result.duplicates == len(rows) - 2 * BATCH >= BATCH
