"""The agent acknowledges what was taken and nothing else; a failure never comes back to Faust."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from streams.agents import add_events_agent
from streams.intake import LogRecord


@dataclass
class FakeMessage:
    """As Faust delivers it."""

    offset: int
    topic: str = "east-1.events"
    partition: int = 3
    timestamp: float = 12.345
    value: bytes = b"v"
    headers: dict[str, bytes] = field(default_factory=dict)


class FakeEvent:
    """Knows whether it was acknowledged."""

    def __init__(self, offset: int) -> None:
        self.message = FakeMessage(offset)
        self.acknowledged = False

    def ack(self) -> None:
        self.acknowledged = True


class FakeStream:
    """Must be read without automatic acknowledgements."""

    def __init__(self, events: list[FakeEvent]) -> None:
        self._events = events
        self.automatic = True

    def noack(self) -> FakeStream:
        self.automatic = False
        return self

    async def events(self) -> AsyncIterator[FakeEvent]:
        assert not self.automatic
        for event in self._events:
            yield event


class FakeApp:
    """Keeps the agent's function."""

    def __init__(self) -> None:
        self.agents: list[Callable[[Any], Awaitable[None]]] = []
        self.crashes: list[BaseException] = []
        self.concurrency = 0

    def topic(self, *names: str, **_: object) -> tuple[str, ...]:
        return names

    def agent(self, topic: tuple[str, ...], *, concurrency: int, name: str) -> Callable[[Any], None]:
        assert topic == ("east-1.events", "east-2.events")
        self.concurrency = concurrency
        return self.agents.append

    async def crash(self, failure: BaseException) -> None:
        self.crashes.append(failure)


class FakeIntake:
    """Takes until `fail_at`."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.taken: list[LogRecord] = []
        self._fail_at = fail_at

    async def take(self, record: LogRecord) -> None:
        if record.offset == self._fail_at:
            raise RuntimeError("a bug")
        self.taken.append(record)


def build(intake: FakeIntake) -> tuple[FakeApp, list[BaseException]]:
    """An agent over fakes, and the failures that it reports."""
    app, failures = FakeApp(), []
    add_events_agent(app, ["east-1", "east-2"], intake, failures.append)  # type: ignore[arg-type]
    assert app.concurrency == 1
    return app, failures


async def test_each_record_is_acknowledged_after_it_was_taken() -> None:
    """Position, append time, value and headers go to the intake."""
    intake = FakeIntake()
    app, failures = build(intake)
    events = [FakeEvent(0), FakeEvent(1)]
    await app.agents[0](FakeStream(events))
    assert [r.offset for r in intake.taken] == [0, 1]
    assert (intake.taken[0].log, intake.taken[0].partition, intake.taken[0].appended_ms) == ("east-1.events", 3, 12345)
    assert all(event.acknowledged for event in events)
    assert failures == []


async def test_a_failure_leaves_the_record_unacknowledged_and_crashes_the_app() -> None:
    """Faust would acknowledge the event of an agent that raised: so the agent neither raises nor returns."""
    app, failures = build(FakeIntake(fail_at=1))
    events = [FakeEvent(0), FakeEvent(1), FakeEvent(2)]
    running = asyncio.ensure_future(app.agents[0](FakeStream(events)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    assert [event.acknowledged for event in events] == [True, False, False]
    assert [str(failure) for failure in failures] == ["a bug"]
    assert app.crashes == failures
    running.cancel()
