"""A term: markers first, then the gate; it ends by itself, and a smaller epoch never opens it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.controller.client import NO_EPOCH, Term
from services.processor.gate import LeasedGate
from services.processor.terms import TermKeeper
from streams.asks import Epoch
from streams.delivery import DeliveryError


class SetClock:
    """Boot time and wall time as the test sets them; sleeping lets others run."""

    def __init__(self) -> None:
        self.now = 100.0

    def unix_ms(self) -> int:
        return 1_700_000_000_000 + int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now

    def boottime(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class World:
    """A lease that the test gives and takes, markers that fail as often as it says, and the gate."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.given: Term = Term(active=False, epoch=NO_EPOCH, deadline=0.0, reason="west holds the lease")
        self.largest: Epoch = NO_EPOCH
        self.written: list[Epoch] = []
        self.failures = 0
        self.on_write: Callable[[], None] = lambda: None
        self.news = asyncio.Event()
        self.gate = LeasedGate(self.term, lambda: self.largest, self.clock)
        self.keeper = TermKeeper(self.gate, self, self, self.news, self.clock)

    def term(self) -> Term:
        """As LeaseFollower does: past its deadline a term is over."""
        if self.given.active and self.clock.now >= self.given.deadline:
            return Term(active=False, epoch=self.given.epoch, deadline=self.given.deadline, reason="it ran out")
        return self.given

    async def write(self, epoch: Epoch) -> None:
        """Write markers."""
        self.on_write()
        if self.failures:
            self.failures -= 1
            raise DeliveryError("not acknowledged")
        self.written.append(epoch)

    def give(self, epoch: Epoch, seconds: float) -> None:
        """Begin or renew a term."""
        self.given = Term(active=True, epoch=epoch, deadline=self.clock.now + seconds, reason="")
        self.news.set()

    def take_away(self) -> None:
        """The region is passive."""
        self.given = Term(active=False, epoch=NO_EPOCH, deadline=0.0, reason="west holds the lease")
        self.news.set()

    def blocker(self) -> str | None:
        """Of the gate, now."""
        return self.gate.blocker(self.clock.unix_ms())

    async def settle(self) -> None:
        """Let the keeper do what is to be done."""
        running = asyncio.ensure_future(self.keeper.run())
        for _ in range(20):
            await asyncio.sleep(0)
        running.cancel()


async def test_a_term_opens_the_gate_after_its_markers() -> None:
    """Before they are acknowledged no effect may be shown."""
    world = World()
    assert world.blocker() == "west holds the lease"
    seen: list[str | None] = []
    world.on_write = lambda: seen.append(world.blocker())
    world.give((0, 7), 2.0)
    assert world.blocker() is not None
    await world.settle()
    assert seen[0] is not None
    assert "markers" in seen[0]
    assert (world.blocker(), world.gate.epoch, world.written) == (None, (0, 7), [(0, 7)])
    report = world.gate.report(0)
    assert (report.open, report.markers_written, report.epoch) == (True, True, (0, 7))


async def test_the_deadline_shuts_it_without_anybody_doing_anything() -> None:
    """And nothing may be shown for longer than the lease lasts."""
    world = World()
    world.give((0, 7), 2.0)
    await world.settle()
    now_ms = world.clock.unix_ms()
    assert world.gate.valid_until_ms(now_ms + 10_000) == now_ms + 2_000
    assert world.gate.valid_until_ms(now_ms + 500) == now_ms + 500
    world.clock.now += 2.0
    assert world.blocker() == "it ran out"
    assert world.gate.valid_until_ms(now_ms + 10_000) <= now_ms + 2_000


async def test_a_renewed_term_goes_on_without_new_markers() -> None:
    """Also after it had run out here for a moment: the epoch is the same, so nobody else had one."""
    world = World()
    world.give((0, 7), 2.0)
    await world.settle()
    world.clock.now += 3.0
    await world.settle()
    assert world.blocker() is not None
    world.give((0, 7), 2.0)
    await world.settle()
    assert (world.blocker(), world.written) == (None, [(0, 7)])


async def test_the_next_term_needs_its_own_markers() -> None:
    """Between them the gate is shut, though the lease is held."""
    world = World()
    world.give((0, 7), 2.0)
    await world.settle()
    world.take_away()
    await world.settle()
    assert world.blocker() == "west holds the lease"
    world.give((0, 12), 2.0)
    assert "markers" in (world.blocker() or "")
    await world.settle()
    assert (world.blocker(), world.written) == (None, [(0, 7), (0, 12)])


async def test_markers_are_tried_again_as_long_as_the_term_lasts() -> None:
    """A term that ends while they are written leaves the gate shut."""
    world = World()
    world.failures = 3
    world.give((0, 7), 2.0)
    await world.settle()
    assert (world.blocker(), world.written) == (None, [(0, 7)])
    lost = World()
    lost.failures = 3
    lost.on_write = lost.take_away
    lost.give((0, 9), 2.0)
    await lost.settle()
    assert (lost.blocker(), lost.written) == ("west holds the lease", [])
    ended_meanwhile = World()
    ended_meanwhile.on_write = ended_meanwhile.take_away
    ended_meanwhile.give((0, 9), 2.0)
    await ended_meanwhile.settle()
    ended_meanwhile.given = Term(active=True, epoch=(0, 9), deadline=1e9, reason="")
    assert ended_meanwhile.blocker() is not None, "it was written, but the term had ended by then"


async def test_a_larger_epoch_anywhere_shuts_it() -> None:
    """A holder that meets a larger epoch than its own does not serve."""
    world = World()
    world.give((0, 7), 2.0)
    await world.settle()
    world.largest = (1, 2)
    assert "(1, 2)" in (world.blocker() or "")


async def test_a_smaller_epoch_than_before_never_opens_it() -> None:
    """As after a store that was restored from an old backup, before its generation is raised."""
    world = World()
    world.give((1, 7), 2.0)
    await world.settle()
    world.give((0, 900), 2.0)
    await world.settle()
    assert world.blocker() is not None
    assert world.written == [(1, 7)]


async def test_a_gate_that_ended_stays_shut() -> None:
    """The processor is stopping; the lease may go on."""
    world = World()
    world.give((0, 7), 2.0)
    await world.settle()
    world.gate.end("the processor is stopping")
    world.give((0, 8), 2.0)
    await world.settle()
    assert world.blocker() == "the processor is stopping"
