"""Where receipts are kept: in the coordination store, and as files in every region.

The store decides (compare-and-swap, one key a receipt); the files are there so that a receipt outlives the store, and
so that whoever mends a broken deployment can read them with nothing running. A store that came back without receipts
that are on disk, because it was restored from an old backup or rebuilt, gets them again: a receipt is never forgotten.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.common.logging import get_logger
from services.coordination.base import ABSENT, CasConflict, CoordinationError, KeyValueStore, StoreDamaged
from services.coordination.keys import RECEIPTS
from services.receipts.model import Receipt

_CAS_TRIES = 50

log = get_logger(__name__)


class NoSuchReceipt(CoordinationError):
    """There is no receipt of that id."""


class ReceiptBook:
    """All receipts of a deployment; `directory` is this region's mirror of them."""

    def __init__(self, store: KeyValueStore, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self._mirrored: dict[str, Receipt] = {}
        self._restored = False
        self._disk_refuses = False

    async def put(self, receipt: Receipt) -> Receipt:
        """Keep a new receipt and return what is kept under its id: the first one, when it is put again.

        Raises StoreUnavailable when it is unknown whether it was kept: put it again.
        """
        try:
            await self._store.compare_and_put(RECEIPTS + receipt.receipt_id, msgspec.json.encode(receipt), ABSENT)
        except CasConflict:
            return await self.get(receipt.receipt_id)
        return receipt

    async def get(self, receipt_id: str) -> Receipt:
        """Return one receipt. Raises NoSuchReceipt, StoreUnavailable, StoreDamaged."""
        found = await self._store.get(RECEIPTS + receipt_id)
        if found is None:
            raise NoSuchReceipt(f"there is no receipt {receipt_id!r}. `meridian receipts list` shows those there are.")
        return decode_receipt(found.key, found.value)

    async def all(self) -> list[Receipt]:
        """Return every receipt, oldest first."""
        found = [decode_receipt(entry.key, entry.value) for entry in await self._store.list(RECEIPTS)]
        return sorted(found, key=lambda receipt: (receipt.created_ms, receipt.receipt_id))

    async def open(self) -> list[Receipt]:
        """Return those that are not closed, oldest first."""
        return [receipt for receipt in await self.all() if receipt.state == "open"]

    async def change(self, receipt_id: str, decide: Callable[[Receipt], Receipt]) -> Receipt:
        """Replace a receipt by what `decide` makes of it, and return that; writes nothing when it stays the same."""
        for _ in range(_CAS_TRIES):
            found = await self._store.get(RECEIPTS + receipt_id)
            if found is None:
                raise NoSuchReceipt(f"there is no receipt {receipt_id!r}")
            before = decode_receipt(found.key, found.value)
            after = decide(before)
            if after == before:
                return before
            try:
                await self._store.compare_and_put(found.key, msgspec.json.encode(after), found.revision)
            except CasConflict:
                continue
            return after
        raise CasConflict(f"{RECEIPTS}{receipt_id} was changed by others {_CAS_TRIES} times in a row")

    async def mirror(self) -> list[Receipt]:
        """Bring this region's files up to date and return every receipt. Raises OSError when they cannot be read.

        A disk that takes none of them (it is full) stops nothing else: the store has them, and they are written with
        the next call for which there is room.
        """
        receipts = await self.all()
        if not self._restored:
            missing = await asyncio.to_thread(self._only_on_disk, {receipt.receipt_id for receipt in receipts})
            receipts = [*receipts, *[await self.put(receipt) for receipt in missing]]
            self._restored = True
        changed = [receipt for receipt in receipts if self._mirrored.get(receipt.receipt_id) != receipt]
        if changed:
            try:
                await asyncio.to_thread(self._write, changed)
            except OSError as problem:
                if not self._disk_refuses:
                    log.warning("receipts are written to the disk later: the store has them", reason=str(problem))
                self._disk_refuses = True
            else:
                self._disk_refuses = False
                self._mirrored.update({receipt.receipt_id: receipt for receipt in changed})
        return receipts

    def _only_on_disk(self, known: set[str]) -> list[Receipt]:
        return [receipt for receipt in read_receipts(self._directory) if receipt.receipt_id not in known]

    def _write(self, receipts: list[Receipt]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for receipt in receipts:
            path = self._directory / f"{receipt.receipt_id}.json"
            beside = path.with_suffix(".new")
            with beside.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(receipt), indent=2))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_receipts(place: Path) -> list[Receipt]:
    """Return the receipts in a directory of them, or the one in a file, oldest first. Raises StoreDamaged, OSError."""
    files = sorted(place.glob("*.json")) if place.is_dir() else [place] if place.exists() else []
    found = [decode_receipt(str(file), file.read_bytes()) for file in files]
    return sorted(found, key=lambda receipt: (receipt.created_ms, receipt.receipt_id))


def decode_receipt(place: str, raw: bytes) -> Receipt:
    """Return the receipt that `raw`, found at `place`, holds. Raises StoreDamaged."""
    try:
        return msgspec.json.decode(raw, type=Receipt)
    except msgspec.DecodeError as error:
        raise StoreDamaged(f"{place} does not hold a receipt ({error}); a newer release may have written it") from error
