"""What the regions agree on about models: numbers that never change their content, aliases that never stand nowhere."""

import asyncio

import pytest

from services.coordination import MemoryStore, StoreUnavailable
from services.coordination.base import ABSENT, StoreDamaged
from services.coordination.model_records import (
    AliasMoved,
    AliasRecord,
    VersionRecord,
    VersionTaken,
    VersionUnknown,
    alias,
    alias_from,
    aliases,
    point_alias,
    register_version,
    rollback_target,
    version_record,
    versions,
    watch_prefix,
)


def record(version: str, content: str = "") -> VersionRecord:
    """A version whose content is its number unless named."""
    return VersionRecord(version=version, sha256=(content or version) * 64, size_bytes=9, at_ms=1, by="ada")


async def registered(*numbers: str) -> MemoryStore:
    """A store that knows these versions."""
    store = MemoryStore()
    for number in numbers:
        await register_version(store, "ranker", record(number))
    return store


async def point(store: MemoryStore, version: str, expected: str | None, *, rollback: bool = False) -> AliasRecord:
    """Move the champion."""
    return await point_alias(
        store, "ranker", "champion", version, expected=expected, at_ms=int(version), by="ada", rollback=rollback
    )


async def test_a_number_keeps_its_content() -> None:
    """The same content again is the first record; another one is refused and changes nothing."""
    store = await registered("2", "10")
    again = VersionRecord(version="2", sha256="2" * 64, size_bytes=9, at_ms=99, by="bob")
    assert (await register_version(store, "ranker", again)).by == "ada"
    with pytest.raises(VersionTaken, match="registered by ada"):
        await register_version(store, "ranker", record("2", "f"))
    assert await version_record(store, "ranker", "2") == record("2")
    assert await version_record(store, "ranker", "3") is None
    assert [found.version for found in await versions(store, "ranker")] == ["2", "10"]


async def test_a_registration_whose_answer_was_lost_is_repeated() -> None:
    """The write happened: the second try finds its own record."""
    store = MemoryStore()
    store.drop_reply()
    with pytest.raises(StoreUnavailable):
        await register_version(store, "ranker", record("1"))
    assert await register_version(store, "ranker", record("1")) == record("1")


async def test_an_alias_moves_only_from_where_its_mover_saw_it() -> None:
    """To what is registered; pointing where it points already changes nothing."""
    store = await registered("1", "2", "3")
    assert await alias(store, "ranker", "champion") is None
    with pytest.raises(VersionUnknown, match="ranker/7 is not registered"):
        await point(store, "7", None)
    await point(store, "1", None)
    moved = await point(store, "2", "1")
    assert (moved.version, moved.sha256) == ("2", "2" * 64)
    assert [change.version for change in moved.history] == ["2", "1"]
    with pytest.raises(AliasMoved, match="champion of ranker is 2, not 1"):
        await point(store, "3", "1")
    with pytest.raises(AliasMoved, match="not unset"):
        await point(store, "3", None)
    assert await point(store, "2", "1") == moved
    assert await aliases(store, "ranker") == {"champion": moved}


async def test_of_two_movers_at_once_one_hears_that_it_was_too_late() -> None:
    """Neither undoes the other unseen."""
    store = await registered("1", "2", "3")
    await point(store, "1", None)
    outcomes = await asyncio.gather(point(store, "2", "1"), point(store, "3", "1"), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AliasMoved", "AliasRecord"]


async def test_rolling_back_walks_back_and_never_forth() -> None:
    """Twice is two steps; a promotion after it starts from there; before the first there is nothing."""
    store = await registered("1", "2", "3", "4")
    for before, version in ((None, "1"), ("1", "2"), ("2", "3")):
        found = await point(store, version, before)
    for expected in ("2", "1"):
        target = rollback_target(found)
        assert target is not None and target.version == expected
        found = await point(store, expected, found.version, rollback=True)
    assert rollback_target(found) is None
    found = await point(store, "4", "1")
    target = rollback_target(found)
    assert target is not None and target.version == "1"
    assert [change.version for change in found.history] == ["4", "1", "2", "3", "2", "1"]


async def test_records_of_earlier_releases_are_read() -> None:
    """They knew no content of a version."""
    store = await registered("1")
    old = b'{"version": "1", "history": [{"version": "1", "at_ms": 5, "by": "ada"}]}'
    written = await store.compare_and_put(watch_prefix("ranker") + "champion", old, ABSENT)
    assert alias_from(written).version == "1"
    assert (await point(store, "1", "1")).sha256 == "1" * 64, "the content is filled in"
    assert rollback_target(alias_from(written)) is None


async def test_an_alias_that_cannot_be_read_does_not_hide_the_others() -> None:
    """Who can do without it is told why; who cannot gets the error, and the champion is never done without."""
    store = await registered("1")
    moved = await point(store, "1", None)
    await store.compare_and_put(watch_prefix("ranker") + "shadow", b'{"share": 0.5}', ABSENT)
    told: dict[str, str] = {}
    assert await aliases(store, "ranker", told.__setitem__) == {"champion": moved}
    assert list(told) == ["shadow"] and "a newer release may have written it" in told["shadow"]
    with pytest.raises(StoreDamaged, match="shadow"):
        await aliases(store, "ranker")
    await store.compare_and_put(watch_prefix("other") + "champion", b"[]", ABSENT)
    with pytest.raises(StoreDamaged, match="champion"):
        await aliases(store, "other", told.__setitem__)
