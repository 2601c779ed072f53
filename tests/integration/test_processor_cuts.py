"""What is left of a cut log, found on a real broker after more was written than was cut; then the life is sealed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra.runtime.kafka import KafkaBroker
from services.common.clock import SystemClock
from services.coordination.lives import all_lives, open_life
from services.coordination.memory import MemoryStore
from services.coordination.region_record import raise_acknowledged_ends
from services.processor.cuts import acknowledged, examine, seal
from services.processor.live import marks_of
from streams.broker_probe import BrokerProbe
from streams.logs import events_log
from streams.replay import replay
from streams.state import State
from tests.support.frames import FrameWriter, event_rows, make_topics

pytestmark = pytest.mark.integration

LIFE = "cuts-1"
LOG = events_log(LIFE)


def write(bootstrap: str, first: int, count: int) -> None:
    """Frames that no other call writes."""
    writer = FrameWriter(bootstrap, LOG, partitions=2)
    for number in range(first, first + count):
        writer.frame(event_rows(5, seed=number), number % 2)
        writer.flush()


@pytest.mark.parametrize("written_after", [0, 60], ids=["nothing-follows", "more-than-was-cut-follows"])
def test_the_genuine_part_is_found_and_the_life_sealed(
    fresh_broker: KafkaBroker, tmp_path: Path, written_after: int
) -> None:
    """Every record below the place is the one that was read; the partition that was not cut is not listed."""
    make_topics(fresh_broker.bootstrap, LIFE, partitions=2)
    write(fresh_broker.bootstrap, 0, 40)
    state = State()
    replay(fresh_broker.bootstrap, state, [LOG])
    probe = BrokerProbe(fresh_broker.bootstrap, "cuts.a", 20.0)
    before = [probe.checksum_at((LOG, 0), offset) for offset in range(20)]
    fresh_broker.kill()
    segment = next(fresh_broker.data_dir.glob(f"**/{LOG}-0/*.log"))
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size * 3 // 4)
    fresh_broker.start()
    write(fresh_broker.bootstrap, 100, written_after)
    (cut,) = examine(fresh_broker.bootstrap, marks_of(state), LOG, {0: 20, 1: 20}, 20.0)
    assert (cut.log, cut.partition, cut.acknowledged_end) == (LOG, 0, 20)
    assert 0 < cut.found < 20
    probe = BrokerProbe(fresh_broker.bootstrap, "cuts.b", 20.0)
    after = [probe.checksum_at((LOG, 0), offset) for offset in range(20)]
    assert after[: cut.found] == before[: cut.found]
    assert after[cut.found] != before[cut.found]

    async def end() -> None:
        store = MemoryStore()
        await open_life(store, "cuts", "cluster", 1)
        await raise_acknowledged_ends(store, LOG, {0: 20, 1: 20})
        assert await acknowledged(store, LIFE) == {0: 20, 1: 20}
        assert await seal(store, LIFE, "it was cut", [cut], SystemClock())
        (life,) = await all_lives(store)
        assert (life.sealed, life.cuts, life.sealed_because) == (True, [cut], "it was cut")

    asyncio.run(end())
