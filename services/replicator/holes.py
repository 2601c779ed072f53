"""A gap that an operator accepts: a HOLE record in the copy, which every reader steps over alike."""

from __future__ import annotations

import asyncio

from confluent_kafka import KafkaError, Message, Producer

from services.replicator.client import HoleRequest
from services.replicator.control import PartitionControl
from services.replicator.copied_log import CopiedLog
from services.replicator.errors import HoleRefused
from streams.copies import hole_headers
from streams.logs import producer_settings

HEADER_BY = "meridian-hole-by"
HEADER_REASON = "meridian-hole-reason"


def hole_blocker(  # noqa: PLR0911 - a sentence for each reason
    wanted: HoleRequest, control: PartitionControl | None, copied: CopiedLog | None
) -> str | None:
    """Why this hole cannot be accepted here and now, and what to do; None when it can."""
    if control is None or copied is None:
        return f"{wanted.log}/{wanted.partition} is no copy of this region. GET /v1/replication lists what is."
    name = f"{wanted.log}/{wanted.partition}"
    if wanted.end <= wanted.start:
        return f"a hole from {wanted.start} to {wanted.end} is none: `end` is the first offset after it."
    if not wanted.by.strip() or not wanted.reason.strip():
        return "`by` and `reason` must say who accepts this, and why: they stay in the log for good."
    if not control.is_walked or (control.flow is not None and control.flow.proved):
        return f"{name} is being copied; nothing is missing at its end. Ask again when an alarm says that it stopped."
    if control.held != wanted.start:
        return f"{name} is held up to {control.held}: a hole can only begin there, not at {wanted.start}."
    helper = next(
        (h for h in copied.holders(control) if h.blocker is None and not h.is_origin and h.end > wanted.start), None
    )
    if helper is not None:
        return f"{helper.region} holds {name} up to {helper.end} and can be reached: it will be copied from there."
    if not control.is_stopped:
        return f"no alarm says that {name} lacks records. A hole is for records that will never come."
    if wanted.end > copied.end_of(control):
        return f"{name} was never seen to reach {wanted.end}, only {copied.end_of(control)}."
    return None


async def write_hole(bootstrap: str, wanted: HoleRequest, answer_seconds: float) -> int:
    """Write the record, and return its offset in the copy. Raises HoleRefused when it was not acknowledged."""
    return await asyncio.to_thread(_write, bootstrap, wanted, answer_seconds)


def _write(bootstrap: str, wanted: HoleRequest, answer_seconds: float) -> int:
    reports: list[tuple[KafkaError | None, int]] = []

    def report(error: KafkaError | None, message: Message) -> None:
        reports.append((error, message.offset() or 0))

    producer = Producer({**producer_settings(bootstrap), "delivery.timeout.ms": int(answer_seconds * 1000)})
    headers: list[tuple[str, str | bytes | None]] = [
        (HEADER_BY, wanted.by.encode()),
        (HEADER_REASON, wanted.reason.encode()),
        *hole_headers(wanted.start, wanted.end),
    ]
    producer.produce(wanted.log, None, None, partition=wanted.partition, headers=headers, on_delivery=report)
    producer.flush(answer_seconds + 1)
    if not reports or reports[0][0] is not None:
        cause = reports[0][0].str() if reports and reports[0][0] is not None else "no acknowledgement in time"
        raise HoleRefused(f"the own Kafka did not take the record: {cause}. See whether it is there, then ask again.")
    return reports[0][1]
