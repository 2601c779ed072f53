"""The events log where things go wrong: whoever waits always learns the outcome."""

import asyncio

import msgspec
import pytest

from services.gateway import events_log
from services.gateway.events_log import NotKept
from streams.cloudevents import read_structured
from tests.support.gateway_parts import STRUCTURED, GatewayParts, event
from tests.support.poll import wait_until_async


async def test_a_frame_that_cannot_be_encoded_is_refused_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was certainly not kept, nothing stays in flight, and the next event of its partition is taken."""
    async with GatewayParts() as gateway:

        def broken(rows: object) -> bytes:
            raise ValueError("no such column")

        with monkeypatch.context() as patch:
            patch.setattr(events_log, "encode_frame", broken)
            status, _, body = await gateway.post("/v1/events", event(), STRUCTURED)
            assert (status, body["type"]) == (503, "urn:meridian:problem:not-kept")
            assert gateway.log.in_flight == 0
            assert gateway.log.blocker() is None
        assert (await gateway.post("/v1/events", event(), STRUCTURED))[0] == 200
        assert gateway.core.admission.events == 0


async def test_abandoning_the_log_settles_what_was_never_written() -> None:
    """What is in flight is unknown; what still gathered in an open frame is certainly not kept."""
    async with GatewayParts(frame_age_ms=60_000.0) as gateway:
        gateway.sink.hold = True
        reader, now_ms = gateway.core.reader, gateway.core.clock.unix_ms()
        one = reader.read(read_structured(msgspec.json.encode(event(1))), now_ms)
        first, second = gateway.log.waiting(1), gateway.log.waiting(1)
        gateway.log.put([one], first)
        await wait_until_async(lambda: gateway.log.in_flight == 1, what="the first frame")
        gateway.log.put([one], second)
        assert gateway.log.in_flight == 1
        gateway.log.abandon("the log was cut")
        assert (first.outcomes, second.outcomes) == (
            [NotKept("the log was cut")],
            [NotKept("the log was cut", refused=True)],
        )
        assert first.done.done()
        assert second.done.done()


async def test_nobody_is_answered_before_the_own_disk_knows() -> None:
    """The log has it, but a power loss could take it without a trace; when the disk fails, the outcome is unknown."""
    async with GatewayParts() as gateway:
        gateway.keeper.hold = True
        asked = asyncio.create_task(gateway.post("/v1/events", event(1), STRUCTURED))
        await wait_until_async(lambda: bool(gateway.keeper.held), what="the acknowledgement by the log")
        assert gateway.ends.all() == {partition: len(kept) for partition, kept in gateway.sink.records.items() if kept}
        assert gateway.log.in_flight == 1
        assert not asked.done()
        gateway.keeper.release()
        assert (await asked)[0] == 200

        gateway.keeper.hold = True
        asked = asyncio.create_task(gateway.post("/v1/events", event(2), STRUCTURED))
        await wait_until_async(lambda: bool(gateway.keeper.held), what="the acknowledgement by the log")
        gateway.keeper.release("the disk is broken")
        status, _, body = await asked
        assert (status, body["type"]) == (503, "urn:meridian:problem:outcome-unknown")
        assert "the disk is broken" in str(body)
        assert gateway.log.in_flight == 0
