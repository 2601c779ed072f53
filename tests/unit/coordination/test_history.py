"""The history: entries in one order, and every way to falsify it is named."""

import asyncio
import hashlib
from collections.abc import Callable

import msgspec
import pytest

from services.coordination import CasConflict, MemoryStore, StoreUnavailable, Versioned
from services.coordination.history import Entry, History, verify


class LosesAnswers(MemoryStore):
    """A store that does what it is asked and cannot say so, once."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = False

    async def compare_and_put(self, key: str, value: bytes, expected_revision: int) -> Versioned:
        written = await super().compare_and_put(key, value, expected_revision)
        if self.silent:
            self.silent = False
            raise StoreUnavailable("no answer")
        return written


async def add(history: History, sentence: str, operation_id: str = "", token: str = "") -> Entry:
    """One entry."""
    return await history.append(
        at_ms=1, region="east", kind="pause", sentence=sentence, epoch=(0, 4), operation_id=operation_id, token=token
    )


async def test_entries_follow_each_other() -> None:
    """Two controllers that write at the same time make two entries, in one chain."""
    store = MemoryStore()
    east, west = History(store), History(store)
    await asyncio.gather(*[add(history, f"{n}") for n in range(40) for history in (east, west)])
    entries = await History(store).entries()
    assert [entry.sequence for entry in entries] == list(range(1, 81))
    assert sorted(entry.sentence for entry in entries) == sorted(str(n) for n in range(40) for _ in range(2))
    assert verify(entries) is None and verify([]) is None


async def test_one_that_was_away_for_long_catches_up() -> None:
    """A passive controller has not followed; it finds the end, however far it is."""
    store = MemoryStore()
    away, busy = History(store), History(store)
    await add(away, "first")
    for number in range(60):
        await add(busy, f"{number}")
    assert (await add(away, "last")).sequence == 62
    assert verify(await away.entries()) is None


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_lost_answer_makes_one_entry(*, restarted: bool) -> None:
    """Tried again under the same operation, by the same process or by the one after it."""
    store = LosesAnswers()
    history = History(store)
    await add(history, "before", "op-0")
    store.silent = True
    with pytest.raises(StoreUnavailable):
        await add(history, "paused", "op-1")
    if restarted:
        history = History(store)
        await add(history, "something else")
    again = await add(history, "paused", "op-1")
    assert again.sequence == 2
    assert (await add(history, "paused", "op-1")).sequence == 2
    assert len(await history.entries()) == (3 if restarted else 2)


@pytest.mark.parametrize("others", [0, 2])
async def test_what_belongs_to_no_operation_is_written_once_too(others: int) -> None:
    """A controller that acquired the lease says so once, however many answers are lost, and whoever writes between."""
    store = LosesAnswers()
    history, other = History(store), History(store)
    await add(history, "before")
    store.silent = True
    with pytest.raises(StoreUnavailable):
        await add(history, "acquired", token="east/1")
    for number in range(others):
        await add(other, f"{number}")
    assert [(await add(history, "acquired", token="east/1")).sequence for _ in range(2)] == [2, 2]
    assert (await add(history, "acquired", token="east/2")).sequence == 3 + others
    assert verify(await history.entries()) is None


@pytest.mark.parametrize(
    ("falsify", "found"),
    [
        (lambda them: [them[0], changed(them[1], sentence="nothing happened"), *them[2:]], "entry 2 was changed"),
        (lambda them: [them[0], *them[2:]], "entry 2 is missing: entry 3"),
        (lambda them: [them[0], resealed(them[1], "nothing"), *them[2:]], "entry 3 does not follow entry 2"),
        (lambda them: [them[1], them[0], *them[2:]], "entry 1 is missing: entry 2"),
        (lambda them: [*them[:3], changed(them[3], previous="0" * 64)], "entry 4 does not follow entry 3"),
    ],
)
async def test_a_falsified_entry_is_named(falsify: Callable[[list[Entry]], list[Entry]], found: str) -> None:
    """Changed, removed, replaced by one with a fitting hash, moved, unhooked."""
    history = History(MemoryStore())
    for number in range(4):
        await add(history, f"{number}")
    entries = await history.entries()
    assert verify(entries) is None
    broken = verify(falsify(entries))
    assert broken is not None and broken.startswith(found)


def changed(entry: Entry, **fields: str) -> Entry:
    """The entry with other fields and its old hash."""
    return msgspec.structs.replace(entry, **fields)


def resealed(entry: Entry, sentence: str) -> Entry:
    """The entry as somebody would write it who knows how to hash."""
    from services.coordination.history import _sealed

    return _sealed(changed(entry, sentence=sentence))


def test_a_hash_stays_what_it_was_when_entries_gain_fields() -> None:
    """Over the fields that say something, so that a later release still finds today's history whole."""
    from services.coordination.history import FIRST_PREVIOUS, _sealed

    class LaterEntry(Entry, frozen=True, kw_only=True):
        witness: str = ""

    fields = {"sequence": 1, "at_ms": 5, "region": "east", "kind": "pause", "sentence": "ä", "previous": FIRST_PREVIOUS}
    assert _sealed(Entry(**fields)).digest == _sealed(LaterEntry(**fields)).digest
    said = f'{{"at_ms":5,"kind":"pause","previous":"{FIRST_PREVIOUS}","region":"east","sentence":"ä","sequence":1}}'
    assert _sealed(Entry(**fields)).digest == hashlib.sha256(said.encode()).hexdigest()


async def test_a_store_that_always_conflicts_is_an_error_and_no_endless_loop() -> None:
    """Bounded tries."""

    class Refusing(MemoryStore):
        async def compare_and_put(self, key: str, value: bytes, expected_revision: int) -> Versioned:
            raise CasConflict(f"{key} {value!r} {expected_revision}")

    with pytest.raises(CasConflict, match="while one was to be added"):
        await add(History(Refusing()), "x")
