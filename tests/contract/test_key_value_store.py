"""The contract of the coordination store, asked of every driver, the fake included."""

import asyncio
import json
import multiprocessing
from pathlib import Path

import pytest

from services.coordination import CasConflict, FileStore, KeyValueStore, MemoryStore, StoreDamaged, StoreUnavailable
from services.coordination.base import ABSENT


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyValueStore:
    """Each driver in turn, empty."""
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "region" / "coordination.json")


async def test_a_key_that_was_never_written_is_none(store: KeyValueStore) -> None:
    """Reading what is not there is no error."""
    assert await store.get("/a") is None
    assert await store.list("/") == []


async def test_every_byte_survives(store: KeyValueStore) -> None:
    """Values are bytes, whatever they hold."""
    await store.compare_and_put("/a", bytes(range(256)), ABSENT)
    found = await store.get("/a")
    assert found is not None
    assert found.value == bytes(range(256))


async def test_revisions_grow_over_the_whole_store_and_creation_is_kept(store: KeyValueStore) -> None:
    """A value knows when it was last changed and when its key came to be."""
    a = await store.compare_and_put("/a", b"1", ABSENT)
    b = await store.compare_and_put("/b", b"1", ABSENT)
    a2 = await store.compare_and_put("/a", b"2", a.revision)
    assert a.revision < b.revision < a2.revision
    assert a2.create_revision == a.create_revision == a.revision
    assert await store.get("/a") == a2


@pytest.mark.parametrize("expected", [ABSENT, 99])
async def test_a_write_that_expects_something_else_changes_nothing(store: KeyValueStore, expected: int) -> None:
    """Nobody overwrites what it has not seen."""
    a = await store.compare_and_put("/a", b"1", ABSENT)
    with pytest.raises(CasConflict, match="read it again"):
        await store.compare_and_put("/a", b"2", expected)
    with pytest.raises(CasConflict):
        await store.compare_and_delete("/a", expected)
    assert await store.get("/a") == a


async def test_a_deleted_key_starts_a_new_life(store: KeyValueStore) -> None:
    """After a delete the old revision is worth nothing, and the key's creation is a later one."""
    a = await store.compare_and_put("/a", b"1", ABSENT)
    await store.compare_and_delete("/a", a.revision)
    assert await store.get("/a") is None
    with pytest.raises(CasConflict):
        await store.compare_and_put("/a", b"2", a.revision)
    again = await store.compare_and_put("/a", b"2", ABSENT)
    assert again.create_revision > a.revision


async def test_a_prefix_lists_its_keys_in_order(store: KeyValueStore) -> None:
    """Listing is sorted and takes nothing from outside the prefix."""
    for key in ("/b/2", "/b/1", "/c"):
        await store.compare_and_put(key, b"", ABSENT)
    assert [entry.key for entry in await store.list("/b/")] == ["/b/1", "/b/2"]


async def test_of_many_writers_that_saw_the_same_revision_one_wins(store: KeyValueStore) -> None:
    """Compare-and-swap is one step, also under concurrency."""
    tries = [store.compare_and_put("/a", str(n).encode(), ABSENT) for n in range(20)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, CasConflict) for outcome in outcomes) == 19


def _count_up(path: Path, times: int) -> None:
    async def count() -> None:
        store = FileStore(path)
        for _ in range(times):
            while True:
                found = await store.get("/n")
                try:
                    value = str(int(found.value) + 1 if found else 1).encode()
                    await store.compare_and_put("/n", value, found.revision if found else ABSENT)
                    break
                except CasConflict:
                    continue

    asyncio.run(count())


async def test_processes_share_one_file_without_losing_an_update(tmp_path: Path) -> None:
    """Three processes that count in the same file lose no step."""
    path = tmp_path / "coordination.json"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_count_up, args=(path, 20)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        await asyncio.to_thread(writer.join, 60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    found = await FileStore(path).get("/n")
    assert found is not None
    assert found.value == b"60"


async def test_a_damaged_file_is_an_error_and_not_an_empty_store(tmp_path: Path) -> None:
    """A region that forgot what it acknowledged would accept a log that was cut."""
    path = tmp_path / "coordination.json"
    path.write_text(json.dumps({"revision": "?"}))
    with pytest.raises(StoreDamaged, match="restore it from a backup"):
        await FileStore(path).get("/a")


async def test_an_unwritable_place_is_unavailable(tmp_path: Path) -> None:
    """A store that cannot be written says so, with the path."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreUnavailable, match="cannot lock"):
        await FileStore(blocked / "coordination.json").compare_and_put("/a", b"", ABSENT)
