"""How fast one process takes events from a real broker through Faust into the state, and where the time goes.

    python -m bench.processor [--events 1000000] [--frame 250] [--partitions 8]

Starts a broker of its own in a temporary directory, writes frames, then reads them with the very parts that the
processor runs: Faust application, agent, intake, truncation watch, fold, read index. The clock starts with the first
record that arrives, so that the group's start is not counted. `busy` is the processor time of all threads: on a shared
machine events per busy second say more than events per second. Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from bench.shop_frames import Shop
from infra.runtime.kafka import running_broker
from streams.agents import add_events_agent
from streams.app import FaustSettings, make_app, set_group_offsets
from streams.broker_probe import BrokerProbe
from streams.dead_letter import DeadLetter
from streams.fold import Applied, Fold
from streams.frame import decode_frame, frame_headers
from streams.index import ReadIndex
from streams.intake import Intake, LogRecord
from streams.logs import TOPIC_SETTINGS, events_log, producer_settings, topics_of
from streams.position import Position
from streams.state import State
from streams.truncation import EpochsSeen, LogUnreachableError, Mark, Watch

INCARNATION = "bench-1"
KEY_FINGERPRINT = "00112233445566aa"


class Meter:
    """The intake's observer: notes when the first and the last record were taken."""

    def __init__(self) -> None:
        self.events = 0
        self.first_seconds = 0.0
        self.last_seconds = 0.0
        self.taking_seconds = 0.0

    def taken(self, _record: LogRecord, applied: Applied, seconds: float) -> None:
        """Count."""
        self.last_seconds = time.perf_counter()
        self.first_seconds = self.first_seconds or self.last_seconds - seconds
        self.events += applied.events
        self.taking_seconds += seconds

    def duplicate(self, record: LogRecord) -> None:
        """Must not happen."""
        raise AssertionError(record.place)

    def buried(self, _record: LogRecord, _position: Position, reason: str) -> None:
        """Must not happen."""
        raise AssertionError(reason)

    def dropped(self, _record: LogRecord, reason: str) -> None:
        """Must not happen."""
        raise AssertionError(reason)

    def unreachable(self, problem: LogUnreachableError) -> None:
        """Must not happen."""
        raise problem


async def read(bootstrap: str, group: str, partitions: int, events: int, fold: Fold) -> Meter:
    """Take everything from offset 0 on."""
    meter = Meter()
    state = fold.state
    seen = EpochsSeen(5.0)

    def marks() -> dict[tuple[str, int], Mark]:
        return {place: Mark(p.next_offset, p.last_checksum, p.last_leader_epoch) for place, p in state.points.items()}

    watch = Watch(BrokerProbe(bootstrap, group + ".probe", 5.0), seen, marks, lambda _cut: None, sleep=asyncio.sleep)

    async def bury(letter: DeadLetter) -> None:
        raise AssertionError(letter.reason)

    intake = Intake(
        fold=fold, watch=watch, seen=seen, bury=bury, observer=meter, sleep=asyncio.sleep, monotonic=time.perf_counter
    )
    log = events_log(INCARNATION)
    await asyncio.to_thread(set_group_offsets, bootstrap, group, {(log, p): 0 for p in range(partitions)}, 10.0)
    app = make_app(FaustSettings(bootstrap=bootstrap, group=group), seen, time.monotonic)
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    add_events_agent(app, [INCARNATION], intake, failed.set_result)
    await app.start()
    while state.tally.events + state.tally.duplicates < events:
        await asyncio.sleep(0.05)
        if failed.done():
            raise failed.result()
    await app.stop()
    return meter


def write(bootstrap: str, partitions: int, made: list[bytes], frame_events: int) -> None:
    """Make the topics and write the frames."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = [
        NewTopic(t, num_partitions=partitions, replication_factor=1, config=TOPIC_SETTINGS)
        for t in topics_of(INCARNATION)
    ]
    for result in admin.create_topics(new).values():
        result.result()
    producer = Producer({**producer_settings(bootstrap), "linger.ms": 20})
    headers = frame_headers(frame_events, KEY_FINGERPRINT)
    for number, value in enumerate(made):
        while True:
            try:
                producer.produce(
                    events_log(INCARNATION), value=value, headers=[*headers], partition=number % partitions
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def parts(made: list[bytes], frame_events: int) -> dict[str, float]:
    """The same frames without a broker: seconds for decoding, folding, and following with the index."""
    headers = frame_headers(frame_events, KEY_FINGERPRINT)
    started = time.perf_counter()
    columns = [decode_frame(value, headers) for value in made]
    found = {"decode_seconds": time.perf_counter() - started}
    for name, fold in (("fold_seconds", Fold(State())), ("fold_with_index_seconds", new_fold())):
        started = time.perf_counter()
        for offset, each in enumerate(columns):
            fold.apply(each, "bench", 0, offset, 0, 0)
        found[name] = time.perf_counter() - started
    return found


def new_fold() -> Fold:
    """A fold with the index that the processor keeps beside its state."""
    state = State()
    return Fold(state, ReadIndex(state))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--frame", type=int, default=250, help="events a frame")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--profile", action="store_true", help="print where the event loop's time goes")
    options = parser.parse_args()
    made = list(Shop(options.events // options.frame * options.frame, days=20.0).frames(options.frame))
    events = len(made) * options.frame
    found: dict[str, float] = {"events": events, "frame_events": options.frame, "frame_bytes": len(made[0])}
    found |= parts(made, options.frame)
    with tempfile.TemporaryDirectory() as directory, running_broker(Path(directory)) as broker:
        write(broker.bootstrap, options.partitions, made, options.frame)
        profile = cProfile.Profile() if options.profile else None
        busy = time.process_time()
        if profile is not None:
            profile.enable()
        meter = asyncio.run(read(broker.bootstrap, "bench.a", options.partitions, events, new_fold()))
        if profile is not None:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        busy = time.process_time() - busy
    wall = meter.last_seconds - meter.first_seconds
    found |= {
        "wall_seconds": wall,
        "busy_seconds": busy,
        "intake_seconds": meter.taking_seconds,
        "faust_and_client_seconds": wall - meter.taking_seconds,
        "faust_and_client_microseconds_a_frame": (wall - meter.taking_seconds) / len(made) * 1e6,
        "events_per_second": events / wall,
        "events_per_busy_second": events / busy,
    }
    for name, value in found.items():
        print(f"{name:40} {value:>14,.2f}")
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
