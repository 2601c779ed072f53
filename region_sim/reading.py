"""The raw logs of a region as pieces of evidence: what lies in them, as it stands there.

They are read with a consumer of the ledger's, which knows the form of a frame and nothing of the fold. Everything here
blocks, and writes nothing down: that is for whoever asked, so that regions can be read at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from region_sim.evidence import DeadSeen, Epoch, Evidence, FirstRanking, LogRead, LogRows, MarkerSeen, MarkersRead, Row
from services.common.deployment import Site
from services.ledger.errors import LogUnreadable
from services.ledger.rawlog import RawLog, RawRecord
from streams.copies import hole_end, origin_of
from streams.dead_letter import DeadLetter
from streams.delivery import DeliveryError
from streams.epochs import HEADER_EPOCH, decode_marker, read_epoch
from streams.errors import FrameCorrupt, UnknownFrameVersion
from streams.frame import Columns, Decode, header
from streams.kinds import Kind
from streams.logs import consumer_settings

EVENTS, RANKINGS, DEAD = ".events", ".rankings", ".dead"
ROWS_AN_ENTRY = 500
LAST_RECORD_SECONDS = 5.0


class RawRecords(Protocol):
    """What is read of one log."""

    def names(self) -> list[str]:
        """All logs there. Raises LogUnreadable."""

    def ends(self) -> dict[int, int]:
        """After the last record, by partition. Raises LogUnreadable."""

    def read(self, until: dict[int, int]) -> Iterator[RawRecord]:
        """All records below `until`. Raises LogUnreadable."""


class Source(Protocol):
    """Where the logs of sites are."""

    def raw(self, site: Site, log: str) -> RawRecords:
        """A log of a site, record by record."""

    decode: Decode
    """Opens a record of an events log."""

    def dead_letters(self, site: Site, log: str) -> list[DeadLetter]:
        """What lies in a site's log of dead letters. Raises DeliveryError, KafkaException."""


def read_log(source: Source, site: Site, log: str) -> list[Evidence | str]:
    """All of one log; a string says what could not be read. Raises LogUnreadable."""
    if log.endswith(EVENTS):
        return list(_events(source, site, log))
    if log.endswith(RANKINGS):
        return list(_markers(source, site, log))
    if log.endswith(DEAD):
        return [_dead(source, site, log)]
    return []


def origin_ends(bootstrap: str, log: str) -> dict[int, int]:
    """By partition, the next offset in the origin log, from the last record that lies in this copy.

    Raises LogUnreadable.
    """
    ends = RawLog(bootstrap, log).ends()
    # One partition after the other: a fetch that waits on the last one would hold up the next.
    consumer = Consumer({**consumer_settings(bootstrap, "region-sim"), "fetch.wait.max.ms": 10})
    try:
        return {p: _origin_end(consumer, log, p, end) if end else 0 for p, end in ends.items()}
    except KafkaException as error:
        raise LogUnreadable(f"the end of {log} at {bootstrap} cannot be read: {error}") from error
    finally:
        consumer.close()


def _events(source: Source, site: Site, log: str) -> Iterator[Evidence]:
    raw = source.raw(site, log)
    rows: dict[int, list[Row]] = {}
    ends: dict[int, int] = {}
    corrupt = holes = 0
    for record in raw.read(raw.ends()):
        hole = hole_end(record.headers)
        ends[record.partition] = max(ends.get(record.partition, 0), hole or record.offset + 1)
        if hole is not None:
            holes += 1
            continue
        try:
            columns = source.decode(record.value, record.headers)
        except (FrameCorrupt, UnknownFrameVersion):
            corrupt += 1
            continue
        waiting = rows.setdefault(record.partition, [])
        waiting.extend(_rows(record, columns))
        if len(waiting) >= ROWS_AN_ENTRY:
            yield LogRows(region=site.name, log=log, partition=record.partition, rows=rows.pop(record.partition))
    for partition, left in rows.items():
        yield LogRows(region=site.name, log=log, partition=partition, rows=left)
    yield LogRead(region=site.name, log=log, next_offsets=ends, corrupt=corrupt, holes=holes)


def _rows(record: RawRecord, columns: Columns) -> Iterator[Row]:
    for index in range(columns.count):
        event = columns.row(index)
        yield Row(
            offset=record.offset,
            index=index,
            identity=event.identity.hex(),
            kind=event.kind.word,
            time_ms=event.time_ms,
            user=event.user,
            session=event.session,
            position=event.position,
            query=event.query,
            item=event.item,
            ranking=event.ranking.hex(),
            body="" if event.kind is Kind.SERVED else event.body.decode(),
        )


def _markers(source: Source, site: Site, log: str) -> Iterator[Evidence | str]:
    raw = source.raw(site, log)
    ends = raw.ends()
    first: dict[tuple[int, Epoch], int] = {}
    for record in raw.read(ends):
        try:
            marker = decode_marker(record.value, record.headers)
        except msgspec.DecodeError as error:
            yield f"{log}: {error}"
            continue
        if marker is not None:
            yield MarkerSeen(
                seen_in=site.name,
                log=log,
                partition=record.partition,
                offset=record.offset,
                region=marker.region,
                incarnation=marker.incarnation,
                epoch=marker.epoch,
            )
        elif (epoch := read_epoch(header(record.headers, HEADER_EPOCH))) is not None:
            first.setdefault((record.partition, epoch), record.offset)
    rankings = [FirstRanking(partition, epoch, offset) for (partition, epoch), offset in sorted(first.items())]
    yield MarkersRead(seen_in=site.name, log=log, partitions=sorted(ends), rankings=rankings)


def _dead(source: Source, site: Site, log: str) -> Evidence:
    try:
        letters = source.dead_letters(site, log)
    except (DeliveryError, KafkaException) as error:
        raise LogUnreadable(f"{log} at {site.bootstrap} cannot be read: {error}") from error
    places = [(letter.origin.log, letter.origin.partition, letter.origin.offset) for letter in letters]
    return DeadSeen(region=site.name, log=log, places=places)


def _origin_end(consumer: Consumer, log: str, partition: int, end: int) -> int:
    consumer.assign([TopicPartition(log, partition, end - 1)])
    message = consumer.poll(LAST_RECORD_SECONDS)
    if message is None or message.error() is not None:
        raise LogUnreadable(f"the last record of {log}/{partition} cannot be read")
    found: object = message.headers()
    pairs = found if isinstance(found, list) else []
    headers = [(str(name), bytes(value)) for name, value in pairs if value is not None]
    origin = origin_of(headers)
    return hole_end(headers) or (end if origin is None else origin.offset + 1)
