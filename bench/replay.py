"""How fast a state is rebuilt from a real broker's log, beside a reader that only takes the records and drops them.

    python -m bench.replay [--events 1000000] [--frame 250]

Starts a broker of its own in a temporary directory. Broker, client library and fold share the machine, so the wall
clock is what counts here. Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from bench.shop_frames import Shop
from infra.runtime.kafka import running_broker
from streams.digest import digest
from streams.fold import Fold
from streams.frame import frame_headers
from streams.index import ReadIndex
from streams.logs import TOPIC_SETTINGS, consumer_settings, producer_settings
from streams.replay import replay
from streams.state import State

PARTITIONS = 8


def fill(bootstrap: str, log: str, shop: Shop, frame_events: int) -> int:
    """Write the shop's events in frames; return the bytes."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topic = NewTopic(log, num_partitions=PARTITIONS, replication_factor=1, config=TOPIC_SETTINGS)
    admin.create_topics([topic])[log].result(20)
    producer = Producer(producer_settings(bootstrap))
    left, written = len(shop), 0
    for number, value in enumerate(shop.frames(frame_events)):
        count = min(left, frame_events)
        left -= count
        written += len(value)
        while True:
            try:
                headers: list[tuple[str, str | bytes | None]] = [*frame_headers(count, "0" * 16)]
                producer.produce(log, value=value, headers=headers, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0
    return written


def read_only(bootstrap: str, log: str, records: int) -> float:
    """Seconds to take all records and drop them: what no fold can beat."""
    consumer = Consumer(consumer_settings(bootstrap, "bench-read"))
    start = time.perf_counter()
    consumer.assign([TopicPartition(log, partition, 0) for partition in range(PARTITIONS)])
    taken = 0
    while taken < records:
        if consumer.poll(1.0) is not None:
            taken += 1 + len(consumer.consume(1000, 0))
    seconds = time.perf_counter() - start
    consumer.close()
    return seconds


def measure(bootstrap: str, events: int, frame_events: int, log: str) -> dict[str, float]:
    """Replay one log three ways."""
    shop = Shop(events, days=20.0)
    value_bytes = fill(bootstrap, log, shop, frame_events)
    found: dict[str, float] = {
        "events": events,
        "frame_events": frame_events,
        "log_bytes_per_event": value_bytes / events,
    }
    replay(bootstrap, State(), [log])  # the broker's page cache is warm from here on for everyone
    state, wall, busy = State(), time.perf_counter(), time.process_time()
    result = replay(bootstrap, state, [log])
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    found["replay_events_per_second"] = events / wall
    found["replay_cores"] = busy / wall
    followed, wall = State(), time.perf_counter()
    replay(bootstrap, Fold(followed, ReadIndex(followed)), [log])
    found["replay_with_index_events_per_second"] = events / (time.perf_counter() - wall)
    wall = time.perf_counter()
    ReadIndex(state)
    found["index_rebuild_ms"] = 1e3 * (time.perf_counter() - wall)
    found["read_only_events_per_second"] = events / read_only(bootstrap, log, result.records)
    assert digest(state) == digest(followed)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--frame", type=int, default=250, help="events a frame")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_broker(Path(folder) / "kafka") as broker:
        found = measure(broker.bootstrap, options.events, options.frame, "bench-1.events")
        small = measure(broker.bootstrap, options.events // 5, 25, "bench-2.events")
        found["frames_of_25_events_per_second"] = small["replay_events_per_second"]
    for name, value in found.items():
        print(f"{name:40} {value:>14,.2f}")
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
