"""Campaign, renewal, resignation, and every answer that can get lost on the way."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from services.coordination.base import ABSENT, StoreUnavailable
from services.coordination.election import Candidacy, Election, LostRace
from services.coordination.epoch_seen import EpochSeen
from services.coordination.fence import FenceTimes
from services.coordination.keys import GENERATION, LEADER, TERMS
from services.coordination.memory import MemoryStore
from services.coordination.terms import forget_terms, read_terms
from tests.support.turned_clock import TurnedClock

TIMES = FenceTimes(0.001, 0.1)


def election(store: MemoryStore, clock: TurnedClock, file: Path | None = None) -> Election:
    """One process's side."""
    return Election(store, clock, EpochSeen(file), 2.0, TIMES)


def who(region: str = "east") -> Candidacy:
    """A candidate whose instance is named after its region."""
    return Candidacy(region, f"{region}-process", f"http://{region}", "a test")


async def test_the_epoch_is_the_keys_create_revision() -> None:
    """And the deadline counts from before the lease was asked for."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    held = await election(store, clock).campaign(who())
    entry = await store.get(LEADER)
    assert entry is not None and held.epoch == (0, entry.create_revision)
    assert held.deadline == 1_000.0 + 2.0 * 0.999 - 0.1


async def test_one_of_two_wins() -> None:
    """The other one is told who."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    await election(store, clock).campaign(who("east"))
    with pytest.raises(LostRace):
        await election(store, clock).campaign(who("west"))


async def test_a_campaign_whose_answer_was_lost_is_found() -> None:
    """The key names this process and this very lease, so it is the same term and not a second one."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    grant = store.grant

    async def lose_next_reply(ttl_seconds: float) -> object:
        lease = await grant(ttl_seconds)
        store.drop_reply()
        return lease

    store.grant = lose_next_reply  # type: ignore[method-assign, assignment]
    with pytest.raises(StoreUnavailable):
        await mine.campaign(who())
    assert mine.held is None, "unknown is not won"
    entry = await store.get(LEADER)
    store.grant = grant  # type: ignore[method-assign]
    held = await mine.campaign(who())
    assert entry is not None and held.epoch == (0, entry.create_revision)
    assert [term.epoch for term in await read_terms(store)] == [held.epoch]


async def test_who_won_stays_known_when_its_key_is_gone() -> None:
    """One record a win, in the order of the epochs; a campaign that was lost leaves none."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    east, west = election(store, clock), election(store, clock)
    first = await east.campaign(who("east"))
    with pytest.raises(LostRace):
        await west.campaign(who("west"))
    await east.resign("enough")
    second = await west.campaign(who("west"))
    clock.turn(10.0)
    assert await store.get(LEADER) is None
    terms = await read_terms(store)
    assert [(term.epoch, term.record.region) for term in terms] == [(first.epoch, "east"), (second.epoch, "west")]
    await forget_terms(store, terms[:1])
    await forget_terms(store, terms[:1])
    assert await read_terms(store) == terms[1:]


async def test_a_term_that_cannot_be_read_hides_no_other() -> None:
    """It is said, and left to an operator."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    await store.compare_and_put(TERMS + "x", b"?", ABSENT)
    held = await election(store, clock).campaign(who("east"))
    assert [term.epoch for term in await read_terms(store)] == [held.epoch]


async def test_a_key_of_the_same_name_but_another_lease_is_not_ours() -> None:
    """After a restart the key of the former process may still be there: its promises are not known here."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    await election(store, clock).campaign(who())
    again = election(store, clock)
    with pytest.raises(LostRace):
        await again.campaign(who())
    assert again.held is None


async def test_a_silent_store_does_not_renew() -> None:
    """The deadline stays where it was, and passes."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    held = await mine.campaign(who())
    clock.turn(1.0)
    store.drop_reply()
    await mine.renew()
    assert mine.held is not None and mine.held.deadline == held.deadline


async def test_a_renewal_counts_from_before_it_was_sent() -> None:
    """A process that is stopped while the answer travels gains nothing."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    await mine.campaign(who())
    keep_alive = store.keep_alive

    async def slow(lease_id: int) -> float:
        ttl = await keep_alive(lease_id)
        clock.turn(5.0)
        return ttl

    store.keep_alive = slow  # type: ignore[method-assign]
    await mine.renew()
    assert mine.held is not None and mine.held.deadline < clock.boottime()


async def test_a_process_stopped_for_longer_than_its_lease_has_lost_it() -> None:
    """SIGSTOP: boot time goes on, the store lets go, and the renewal says so."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    held = await mine.campaign(who())
    clock.turn(30.0)
    assert clock.boottime() > held.deadline
    rival = await election(store, clock).campaign(who("west"))
    await mine.renew()
    assert mine.held is None and rival.epoch > held.epoch


async def test_the_loss_of_an_earlier_lease_does_not_end_a_later_term() -> None:
    """The watch shows that the key is gone and the next term is won, all while the renewal's answer is under way."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    first = await mine.campaign(who())
    clock.turn(30.0)
    keep_alive, won = store.keep_alive, []

    async def slow(lease_id: int) -> float:
        mine.heed(await store.get(LEADER), 0, await store.revision())
        won.append(await mine.campaign(who()))
        return await keep_alive(lease_id)

    store.keep_alive = slow  # type: ignore[method-assign]
    await mine.renew()
    assert mine.held == won[0] and won[0].epoch > first.epoch
    await mine.end_leftovers()
    assert await store.get(LEADER) is not None, "and its key stays"


async def test_clocks_that_part_end_the_term() -> None:
    """A machine that was paused cannot know how long."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    await mine.campaign(who())
    clock.step_wall(30.0)
    assert mine.held is None and "wall time" in mine.lost_because


@pytest.mark.parametrize("why", ["clocks parted", "larger epoch seen", "generation raised"])
async def test_a_term_that_is_dropped_keeps_its_key_until_its_promises_have_ended(why: str) -> None:
    """The region's processes may act until the deadline they were told: until then nobody else may begin."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    held = await mine.campaign(who())
    if why == "clocks parted":
        clock.step_wall(30.0)
    elif why == "larger epoch seen":
        mine.heed_epoch((0, held.epoch[1] + 1))
    else:
        mine.heed(await store.get(LEADER), 1, held.epoch[1] + 1)
    assert mine.held is None
    clock.turn(1.0)
    await mine.renew()
    with pytest.raises(LostRace):
        await mine.campaign(who())
    assert await store.get(LEADER) is not None, "somebody else could act beside those who were promised that they may"
    clock.turn(held.deadline - clock.boottime())
    await mine.renew()
    assert await store.get(LEADER) is None


async def test_resigning_frees_the_key_at_once() -> None:
    """And nobody believes to hold it while the answer travels."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    await mine.campaign(who())
    await mine.resign("a test")
    assert mine.held is None and await store.get(LEADER) is None


async def test_a_store_from_an_old_backup_raises_the_generation(tmp_path: Path) -> None:
    """Its revisions start again, so a new key could bear an epoch that was used before."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock, tmp_path / "seen.json")
    held = await mine.campaign(who())
    await mine.resign("a test")
    store.restore([], held.epoch[1] - 1)
    after_restart = election(store, clock, tmp_path / "seen.json")
    with pytest.raises(LostRace):
        await after_restart.campaign(who())
    again = await after_restart.campaign(who())
    assert again.epoch[0] == 1 and again.epoch > held.epoch


async def test_a_larger_epoch_seen_anywhere_ends_the_term() -> None:
    """Also when it comes from a processor or a peer and not from the store."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    held = await mine.campaign(who())
    mine.heed_epoch(held.epoch)
    assert mine.held is not None
    mine.heed_epoch((held.epoch[0], held.epoch[1] + 1))
    assert mine.held is None


async def test_a_raised_generation_ends_the_term() -> None:
    """Whoever raised it knew of an epoch that this term does not exceed."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    held = await mine.campaign(who())
    await store.compare_and_put(GENERATION, msgspec.json.encode(3), ABSENT)
    mine.heed(await store.get(LEADER), 3, held.epoch[1] + 1)
    assert mine.held is None


async def test_an_older_view_of_the_store_does_not_end_a_new_term() -> None:
    """A watch may still show what was there before the campaign."""
    clock = TurnedClock()
    store = MemoryStore(clock)
    mine = election(store, clock)
    held = await mine.campaign(who())
    mine.heed(None, 0, held.epoch[1] - 1)
    assert mine.held is not None
    mine.heed(None, 0, held.epoch[1])
    assert mine.held is None


def test_what_was_seen_outlives_the_process(tmp_path: Path) -> None:
    """Grows only, and a file that cannot be read is no reason to stay down."""
    file = tmp_path / "seen.json"
    assert EpochSeen(file).observe((0, 7), "somebody")
    again = EpochSeen(file)
    assert again.epoch == (0, 7) and not again.observe((0, 5))
    assert again.admits((0, 7), "somebody") and not again.admits((0, 7), "else")
    file.write_text("{")
    assert EpochSeen(file).epoch == (-1, -1)
