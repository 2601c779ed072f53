"""History and receipts in a real etcd: a member dies while two controllers write, and a store that was rebuilt."""

import asyncio
from pathlib import Path

import pytest

from services.coordination import StoreUnavailable
from services.coordination.history import History, verify
from services.receipts import Range, Receipt, ReceiptBook
from tests.support.etcd import EtcdCluster
from tests.support.poll import wait_until_async

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

ENTRIES = 20


def receipt() -> Receipt:
    """An open one."""
    ranges = [Range(log="east-1.events", partition=0, start=4, end=6, events=3)]
    return Receipt(
        receipt_id="east-1-0-7",
        kind="failover",
        region="east",
        incarnation="east-1",
        was_active=True,
        issued_by="west",
        epoch=(0, 7),
        created_ms=5_000,
        reason="lost",
        survivors=["west"],
        last_contact_ms=4_000,
        ranges=ranges,
        remaining=ranges,
        state="open",
    )


async def append(history: History, region: str, number: int) -> None:
    """One entry, tried again while it is unknown whether it is there."""

    async def added() -> bool:
        try:
            await history.append(
                at_ms=number, region=region, kind="note", sentence=f"{number}", operation_id=f"{region}-{number}"
            )
        except StoreUnavailable:
            return False
        return True

    await wait_until_async(added, 60, "the entry to be written")


async def test_each_entry_once_although_a_member_dies(fresh_etcd_cluster: EtcdCluster, tmp_path: Path) -> None:
    """Two controllers, one chain; then the same receipts again in a store that knows nothing."""
    stores = {region: fresh_etcd_cluster.store(first=region) for region in ("east", "west")}
    try:

        async def write(region: str) -> None:
            history = History(stores[region])
            for number in range(ENTRIES):
                if (region, number) == ("west", ENTRIES // 2):
                    fresh_etcd_cluster.members["east"].kill()
                await append(history, region, number)

        await asyncio.gather(write("east"), write("west"))
        entries = await History(stores["west"]).entries()
        assert verify(entries) is None
        assert sorted((entry.region, int(entry.sentence)) for entry in entries) == sorted(
            (region, number) for region in stores for number in range(ENTRIES)
        )
        book = ReceiptBook(stores["west"], tmp_path / "receipts")
        await book.put(receipt())
        await book.mirror()
    finally:
        for store in stores.values():
            await store.close()


async def test_a_rebuilt_store_gets_its_receipts_from_the_regions(etcd_cluster: EtcdCluster, tmp_path: Path) -> None:
    """Etcd was made anew, and the files are all there is."""
    store = etcd_cluster.store()
    try:
        before = ReceiptBook(store, tmp_path)
        await before.put(receipt())
        await before.mirror()
        found = await store.get("/meridian/receipts/east-1-0-7")
        assert found is not None
        await store.compare_and_delete(found.key, found.revision)
        assert await before.all() == []
        after = ReceiptBook(store, tmp_path)
        assert await after.mirror() == [receipt()] == await after.all()
    finally:
        if (left := await store.get("/meridian/receipts/east-1-0-7")) is not None:
            await store.compare_and_delete(left.key, left.revision)  # the cluster is shared
        await store.close()
