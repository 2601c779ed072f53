"""Bulk replay from a real broker: the same state as live, and nothing skipped in silence."""

import random
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.runtime.kafka import KafkaBroker, free_ports
from streams.dead_letter import DeadLetter
from streams.digest import audit, digest
from streams.errors import LogGap, LogTruncated, UnknownFrameVersion
from streams.fold import Fold
from streams.frame import EventRow, encode_frame, frame_headers
from streams.index import ReadIndex
from streams.logs import events_log
from streams.position import Frontier
from streams.replay import Progress, replay
from streams.snapshot import load, save
from streams.state import Parameters, State
from streams.truncation import LogUnreachableError
from streams.views import ExactView
from tests.support.frames import KEY_FINGERPRINT, PARTITIONS, FrameWriter, make_topics
from tests.support.oracle import expect
from tests.support.streams_of_events import START_MS, Shape, events, splits

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
PARAMETERS = Parameters(bucket_ms=HOUR_MS, horizon_buckets=50, clock_events=30)
SHAPE = Shape(events=1200, users=30, items=20, span_ms=40 * HOUR_MS)


def new_log(kafka: KafkaBroker, incarnation: str) -> FrameWriter:
    """The topics of a new incarnation, and a writer for its events."""
    make_topics(kafka.bootstrap, incarnation)
    return FrameWriter(kafka.bootstrap, events_log(incarnation))


def write(writer: FrameWriter, stream: list[EventRow], seed: int = 1) -> None:
    """Write the stream in frames over all partitions, with a frame of no events here and there."""
    g = random.Random(seed)
    for frame in splits(stream, random.Random(seed), sizes=(1, 30, 100)):
        partition = g.randrange(PARTITIONS)
        writer.frame(frame, partition)
        if g.random() < 0.2:
            writer.frame([], partition)
    writer.flush()


def test_replay_gives_the_state_of_the_definition(kafka: KafkaBroker, tmp_path: Path) -> None:
    """From zero, from a snapshot, up to a frontier, with small batches and large: one digest, the oracle's."""
    writer = new_log(kafka, "replay-a1")
    stream = events(1, SHAPE)
    write(writer, stream + stream[:50])
    wanted = expect(stream, PARAMETERS).digest()
    seen: list[Progress] = []
    state = State(PARAMETERS)
    result = replay(kafka.bootstrap, state, [writer.log], on_progress=seen.append)
    assert digest(state).explain(wanted) is None and audit(state) is None
    assert result.records == len(writer.acknowledged) == seen[-1].records == seen[-1].records_total
    assert result.duplicates + result.events + result.late + result.item_events == len(stream) + 50
    assert result.frontier == state.frontier and result.dead == 0

    half = Frontier({place: n // 2 for place, n in state.frontier.items()})
    stepwise = State(PARAMETERS)
    assert replay(kafka.bootstrap, stepwise, [writer.log], until=half, batch_events=1).frontier == half
    save(stepwise, tmp_path)
    loaded = load(tmp_path, PARAMETERS)
    assert loaded is not None
    index = ReadIndex(loaded)
    replay(kafka.bootstrap, Fold(loaded, index), [writer.log], batch_events=50)
    assert digest(loaded) == digest(state) and loaded.frontier == state.frontier
    at_ms = START_MS + 30 * HOUR_MS
    assert index.read(at_ms).popular(9)[0].tolist() == ExactView(loaded, at_ms).popular(9)[0].tolist()


def test_replay_of_nothing_new_takes_nothing(kafka: KafkaBroker) -> None:
    """At the end already, or an empty log: nothing is taken, and the last records are still held against the log."""
    writer = new_log(kafka, "replay-b1")
    state = State(PARAMETERS)
    assert replay(kafka.bootstrap, state, [writer.log]).records == 0
    write(writer, events(2, SHAPE)[:200])
    replay(kafka.bootstrap, state, [writer.log])
    before = digest(state)
    again = replay(kafka.bootstrap, state, [writer.log])
    assert (again.records, again.duplicates, digest(state)) == (0, 0, before)


def test_corrupt_frames_are_buried_and_stepped_over(kafka: KafkaBroker) -> None:
    """What is malformed by its bytes is handed over with reason and position; everything else is folded."""
    writer = new_log(kafka, "replay-c1")
    stream = events(3, SHAPE)[:300]
    write(writer, stream[:150])
    headers = frame_headers(1, KEY_FINGERPRINT)
    for partition, value in enumerate((b"no arrow", b"", None)):
        writer.raw(value, headers, partition)
    writer.raw(b"x", [], 3)
    write(writer, stream[150:])
    letters: list[DeadLetter] = []
    state = State(PARAMETERS)
    result = replay(kafka.bootstrap, state, [writer.log], dead_letter=letters.append)
    assert result.dead == len(letters) == state.tally.dead_frames == 4
    assert {x.origin for x in letters} <= set(writer.acknowledged) and all(x.reason for x in letters)
    assert digest(state).explain(expect(stream, PARAMETERS).digest()) is None
    assert replay(kafka.bootstrap, State(PARAMETERS), [writer.log]).dead == 4


def test_unknown_frame_version_stops(kafka: KafkaBroker) -> None:
    """A newer frame is not skipped: everything before it in its partition is folded, nothing behind it."""
    writer = new_log(kafka, "replay-d1")
    stream = events(4, SHAPE)[:60]
    writer.frame(stream[:30], 0)
    writer.raw(b"newer", [("meridian-frame", b"2")], 0)
    writer.frame(stream[30:], 0)
    writer.flush()
    state = State(PARAMETERS)
    with pytest.raises(UnknownFrameVersion, match="version 2"):
        replay(kafka.bootstrap, state, [writer.log])
    assert state.frontier[writer.log, 0] == 1
    assert digest(state).explain(expect(stream[:30], PARAMETERS).digest()) is None


def test_records_removed_from_the_start_are_a_gap(kafka: KafkaBroker) -> None:
    """A log that no longer starts where the state ends is refused; one that starts exactly there is read."""
    writer = new_log(kafka, "replay-e1")
    stream = events(5, SHAPE)[:90]
    for k in range(3):
        writer.frame(stream[30 * k : 30 * k + 30], 0)
    writer.flush()
    state = State(PARAMETERS)
    replay(kafka.bootstrap, state, [writer.log], until=Frontier({(writer.log, 0): 1}))
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for done in admin.delete_records([TopicPartition(writer.log, 0, 1)]).values():
        done.result(20)
    with pytest.raises(LogGap, match="starts at offset 1, but the next record wanted is 0"):
        replay(kafka.bootstrap, State(PARAMETERS), [writer.log])
    replay(kafka.bootstrap, state, [writer.log])
    assert digest(state).explain(expect(stream, PARAMETERS).digest()) is None


def test_a_hole_inside_the_log_is_a_gap(kafka: KafkaBroker) -> None:
    """An offset without a record (here a transaction's marker) stops the replay; it is never stepped over."""
    writer = new_log(kafka, "replay-f1")
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": "replay-f1"})
    producer.init_transactions(20)
    for _ in range(2):
        producer.begin_transaction()
        producer.produce(writer.log, value=encode_frame([]), partition=0, headers=[*frame_headers(0, KEY_FINGERPRINT)])
        producer.commit_transaction(20)
    state = State(PARAMETERS)
    with pytest.raises(LogGap, match="next record is offset 1, but 2 came"):
        replay(kafka.bootstrap, state, [writer.log])
    assert state.frontier[writer.log, 0] == 1
    with pytest.raises(LogGap, match="no record at 1, which must be taken before 2"):
        replay(kafka.bootstrap, State(PARAMETERS), [writer.log], until=Frontier({(writer.log, 0): 2}))


def test_a_log_that_ends_too_early_is_truncated(kafka: KafkaBroker) -> None:
    """A log that ends before what was read, or before what was acknowledged, is an alarm with its offsets."""
    writer = new_log(kafka, "replay-g1")
    write(writer, events(7, SHAPE))
    state = State(PARAMETERS)
    end = replay(kafka.bootstrap, state, [writer.log]).frontier
    ahead = Frontier({place: n + 3 for place, n in end.items()})
    with pytest.raises(LogTruncated, match="3 records are gone"):
        replay(kafka.bootstrap, state, [writer.log], until=ahead)
    point = state.points[writer.log, 2]
    state.points[writer.log, 2] = msgspec.structs.replace(point, next_offset=point.next_offset + 2)
    with pytest.raises(LogTruncated, match=rf"{writer.log}/2 ends at offset {point.next_offset}, .* 2 records"):
        replay(kafka.bootstrap, state, [writer.log])


def test_another_record_at_the_last_position_is_a_truncation(kafka: KafkaBroker) -> None:
    """A log whose last known record has another checksum was cut and written again, however long it is now."""
    writer = new_log(kafka, "replay-h1")
    write(writer, events(8, SHAPE))
    state = State(PARAMETERS)
    replay(kafka.bootstrap, state, [writer.log])
    point = state.points[writer.log, 1]
    state.points[writer.log, 1] = msgspec.structs.replace(point, last_checksum=point.last_checksum ^ 1)
    write(writer, events(9, SHAPE)[:200])
    with pytest.raises(LogTruncated, match=f"{writer.log}/1: the record at offset {point.next_offset - 1}"):
        replay(kafka.bootstrap, state, [writer.log])
    assert state.points[writer.log, 1].next_offset == point.next_offset


def test_a_segment_cut_while_the_broker_was_down_is_noticed(fresh_broker: KafkaBroker, tmp_path: Path) -> None:
    """Acknowledged records cut off by a power loss, and more written in their place: alarm, nothing folded."""
    incarnation = "replay-i1"
    make_topics(fresh_broker.bootstrap, incarnation, partitions=1)
    writer = FrameWriter(fresh_broker.bootstrap, events_log(incarnation), partitions=1)
    stream = events(10, SHAPE)
    sizes: list[int] = []
    segment = fresh_broker.data_dir / "logs" / f"{writer.log}-0" / f"{0:020d}.log"
    for k in range(8):
        writer.frame(stream[20 * k : 20 * k + 20], 0)
        writer.flush()
        sizes.append(segment.stat().st_size)
    state = State(PARAMETERS)
    replay(fresh_broker.bootstrap, state, [writer.log])
    before = digest(state)
    fresh_broker.kill()
    with segment.open("r+b") as file:
        file.truncate(sizes[3])
    fresh_broker.start()
    replacing = FrameWriter(fresh_broker.bootstrap, writer.log, partitions=1)
    for k in range(20, 30):
        replacing.frame(stream[20 * k : 20 * k + 20], 0)
    replacing.flush()
    assert replacing.acknowledged[0].offset == 4
    with pytest.raises(LogTruncated, match="cut and written again"):
        replay(fresh_broker.bootstrap, state, [writer.log])
    assert digest(state) == before and state.frontier[writer.log, 0] == 8


def test_no_broker_is_an_answer_in_time() -> None:
    """A broker that is not there is reported within the time given, as something to try again."""
    (port,) = free_ports(1)
    with pytest.raises(LogUnreachableError):
        replay(f"127.0.0.1:{port}", State(PARAMETERS), ["east-1.events"], answer_seconds=1.0)


def test_a_log_that_does_not_exist_is_named(kafka: KafkaBroker) -> None:
    """A log that the broker does not know is not an empty log."""
    with pytest.raises(LogUnreachableError, match="nowhere-1"):
        replay(kafka.bootstrap, State(PARAMETERS), ["nowhere-1.events"], answer_seconds=3.0)
