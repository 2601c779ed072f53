"""The Faust agent: hands every record of the events logs to the intake, and stops the process when that fails.

Faust acknowledges an event whose agent raised, so that its commit would step over what was never folded. Hence `noack`
with an explicit acknowledgement after the intake, and a failure that never returns to Faust: it is handed to the
process, which ends; the restart replays. The committed offsets are only a measure of lag.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import faust

from streams.intake import Intake, LogRecord
from streams.logs import events_log


def add_events_agent(
    app: faust.App, incarnations: list[str], intake: Intake, on_failure: Callable[[BaseException], None]
) -> None:
    """Let `app` feed the events logs of `incarnations` to `intake`, one record at a time."""
    topic = app.topic(*map(events_log, incarnations), key_type=bytes, value_type=bytes)

    async def events(stream: Any) -> None:
        try:
            async for event in stream.noack().events():
                await intake.take(_record(event.message))
                event.ack()
                # Frames that are here already come without a pause; answers to asks must run between them.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise
        # The outermost loop of the stream: whatever it is, it must not come back to Faust, which would commit past it.
        except BaseException as failure:  # noqa: BLE001
            on_failure(failure)
            await app.crash(failure)
            await asyncio.Event().wait()

    app.agent(topic, concurrency=1, name="events")(events)


async def read_also(app: faust.App, incarnations: Sequence[str]) -> None:
    """Let a running `app` read the events logs of `incarnations` from now on, those that it reads already among them.

    The group rebalances with itself, which takes a moment in which nothing is delivered; what is delivered again
    afterwards is known. Faust's own way to the same end waits for 45 s first, in case that more topics follow.
    """
    conductor: Any = app.topics
    for topic in conductor:
        topic.topics = list(map(events_log, incarnations))
    names = await conductor._update_indices()  # noqa: SLF001 - there is no public way
    await app.consumer.subscribe(names)


def _record(message: Any) -> LogRecord:
    return LogRecord(
        log=message.topic,
        partition=message.partition,
        offset=message.offset,
        appended_ms=int(message.timestamp * 1000) if message.timestamp else 0,
        value=message.value,
        headers=message.headers,
    )
