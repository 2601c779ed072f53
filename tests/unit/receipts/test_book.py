"""Receipts are kept once, changed by one at a time, and never forgotten."""

import asyncio
import errno
from pathlib import Path

import msgspec
import pytest

from services.coordination import MemoryStore, StoreDamaged
from services.receipts import Range, Receipt, ReceiptBook
from services.receipts.book import NoSuchReceipt, read_receipts


def receipt(receipt_id: str = "east-1-0-7", created_ms: int = 5_000, reason: str = "lost") -> Receipt:
    """An open one with two ranges."""
    ranges = [Range(log="east-1.events", partition=p, start=4, end=6, events=3) for p in (0, 1)]
    return Receipt(
        receipt_id=receipt_id,
        kind="failover",
        region="east",
        incarnation="east-1",
        was_active=True,
        issued_by="west",
        epoch=(0, 7),
        created_ms=created_ms,
        reason=reason,
        survivors=["west"],
        last_contact_ms=4_000,
        ranges=ranges,
        remaining=ranges,
        state="open",
        known_ends={"east-1.events": {0: 6, 1: 6}},
    )


async def test_a_receipt_is_written_once(tmp_path: Path) -> None:
    """Two controllers, or one that did not hear the answer: the first one stays."""
    store = MemoryStore()
    east, west = ReceiptBook(store, tmp_path / "east"), ReceiptBook(store, tmp_path / "west")
    first = await east.put(receipt(reason="first"))
    assert await west.put(receipt(reason="second")) == first
    await west.put(receipt("east-1-0-3", created_ms=1))
    assert [found.receipt_id for found in await east.all()] == ["east-1-0-3", "east-1-0-7"]
    with pytest.raises(NoSuchReceipt, match="receipts list"):
        await east.get("nothing")


async def test_changes_of_two_writers_both_count(tmp_path: Path) -> None:
    """Nobody overwrites what it has not seen."""

    class Slow(MemoryStore):
        async def get(self, key: str) -> object:  # type: ignore[override]
            found = await super().get(key)
            await asyncio.sleep(0)  # the other one reads as well before anybody writes
            return found

    book = ReceiptBook(Slow(), tmp_path)
    await book.put(receipt())

    def without(partition: int) -> object:
        return book.change(
            "east-1-0-7",
            lambda found: msgspec.structs.replace(
                found, remaining=[left for left in found.remaining if left.partition != partition]
            ),
        )

    await asyncio.gather(without(0), without(1))  # type: ignore[call-overload]
    assert (await book.get("east-1-0-7")).remaining == []
    revision = (await book._store.list(""))[0].revision
    await book.change("east-1-0-7", lambda found: found)
    assert (await book._store.list(""))[0].revision == revision


async def test_closed_receipts_are_no_longer_open(tmp_path: Path) -> None:
    """The controller advances only those that can change."""
    book = ReceiptBook(MemoryStore(), tmp_path)
    await book.put(receipt())
    await book.put(receipt("other", created_ms=1))
    await book.change("other", lambda found: msgspec.structs.replace(found, state="healed"))
    assert [found.receipt_id for found in await book.open()] == ["east-1-0-7"]


async def test_every_region_has_the_receipts_as_files(tmp_path: Path) -> None:
    """Written once, and again when they change; nothing half-written lies there."""
    book = ReceiptBook(MemoryStore(), tmp_path / "receipts")
    await book.mirror()
    assert not (tmp_path / "receipts").exists()
    await book.put(receipt())
    await book.mirror()
    file = tmp_path / "receipts" / "east-1-0-7.json"
    written = file.stat().st_mtime_ns
    await book.mirror()
    assert file.stat().st_mtime_ns == written
    await book.change("east-1-0-7", lambda found: msgspec.structs.replace(found, remaining=[]))
    await book.mirror()
    assert read_receipts(file)[0].remaining == []
    assert [path.name for path in (tmp_path / "receipts").iterdir()] == ["east-1-0-7.json"]


async def test_a_full_disk_keeps_no_receipt_from_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader whose disk is full goes on; the files are written once there is room again."""
    book = ReceiptBook(MemoryStore(), tmp_path)
    await book.put(receipt())

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", full)
        assert await book.mirror() == [receipt()]
        assert await book.mirror() == [receipt()]
        assert read_receipts(tmp_path) == []
    await book.mirror()
    assert read_receipts(tmp_path) == [receipt()]


async def test_a_store_that_lost_its_receipts_gets_them_back(tmp_path: Path) -> None:
    """Restored from an old backup, or rebuilt: what is on disk is put back, what is in the store stays as it is."""
    before = ReceiptBook(MemoryStore(), tmp_path)
    await before.put(receipt())
    await before.put(receipt("older", created_ms=1, reason="as on disk"))
    await before.mirror()
    store = MemoryStore()
    await ReceiptBook(store, tmp_path / "elsewhere").put(receipt("older", created_ms=1, reason="as in the store"))
    after = ReceiptBook(store, tmp_path)
    assert {found.receipt_id: found.reason for found in await after.mirror()} == {
        "older": "as in the store",
        "east-1-0-7": "lost",
    }
    assert await after.get("east-1-0-7") == receipt()


async def test_a_damaged_receipt_is_named(tmp_path: Path) -> None:
    """Neither skipped nor a traceback."""
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(StoreDamaged, match=r"bad\.json"):
        read_receipts(tmp_path)
    assert read_receipts(tmp_path / "nothing") == []
