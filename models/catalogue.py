"""The catalogue as ranking needs it: built from the fold's entries, and following them as they change.

What is compared with every candidate (words, trigrams, price, age) stands in columns, one row for each item, so that
encoding two hundred candidates is a gather; what people read (title, attributes) stays in one object per item. Bodies
come from outside and may be anything: a field that cannot be read is left out, and the item stays rankable.

An item whose stock is unknown counts as in stock: a shop that does not tell its stock wants its items shown.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from models.text import SIGNATURE_LANES, WORDS_MAX, Text, read_title
from streams.asks import FilterValue
from streams.errors import DECODE_ERRORS

U64 = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
NO_STOCK_KNOWN: Final = -1
_STOCK_MAX: Final = 1 << 30


class Entry(Protocol):
    """What is read of `streams.state.CatalogueEntry`."""

    @property
    def item(self) -> str:
        """The item's id."""

    @property
    def time_ms(self) -> int:
        """When this entry was made."""

    @property
    def body(self) -> bytes:
        """JSON."""

    @property
    def deleted(self) -> bool:
        """Whether the item is gone."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An item that can be ranked."""

    item: str
    hash: int
    title: str = ""
    category: str = ""
    price: float | None = None
    attributes: dict[str, tuple[str, ...]] = {}
    """Values as text, one or several for each name."""
    stock: int | None = None
    time_ms: int = 0


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def plain_value(value: object) -> str:
    """An attribute's or filter's value as the text it is compared by: `true`, `12`, `1.5`, `red`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    number = _finite(value)
    if number is None:
        return str(value)
    return str(int(number)) if number.is_integer() else repr(number)


def _attributes(raw: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(raw, dict):
        return {}
    return {
        str(name): tuple(plain_value(one) for one in value) if isinstance(value, list) else (plain_value(value),)
        for name, value in raw.items()
        if value is not None and not isinstance(value, dict)
    }


def read_item(item: str, item_hash: int, time_ms: int, body: bytes) -> Item:
    """Read an entry's body; what cannot be read is left out."""
    try:
        raw: Any = msgspec.json.decode(body) if body else {}
    except DECODE_ERRORS:
        raw = {}
    if not isinstance(raw, dict):
        raw = {}
    title, category, stock = raw.get("title"), raw.get("category"), _finite(raw.get("stock"))
    return Item(
        item=item,
        hash=item_hash,
        title=title if isinstance(title, str) else "",
        category=category if isinstance(category, str) else "",
        price=_finite(raw.get("price")),
        attributes=_attributes(raw.get("attributes")),
        stock=None if stock is None else int(min(max(stock, 0), _STOCK_MAX)),
        time_ms=time_ms,
    )


class Columns:
    """One row for each item, live or free; arrays grow by doubling."""

    def __init__(self, capacity: int = 64) -> None:
        self.hash: U64 = np.zeros(capacity, np.uint64)
        self.live: Mask = np.zeros(capacity, np.bool_)
        self.words: U64 = np.zeros((capacity, WORDS_MAX), np.uint64)
        self.word_count = np.zeros(capacity, np.float32)
        self.number_count = np.zeros(capacity, np.float32)
        self.signature: U64 = np.zeros((capacity, SIGNATURE_LANES), np.uint64)
        self.trigram_count = np.zeros(capacity, np.float32)
        self.price = np.full(capacity, np.nan, np.float32)
        self.stock = np.full(capacity, NO_STOCK_KNOWN, np.int32)
        self.time_ms = np.zeros(capacity, np.int64)

    def grow(self) -> None:
        """Double every column."""
        for name, column in vars(self).items():
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))

    def write(self, row: int, item: Item, text: Text) -> None:
        """Fill a row."""
        count = len(text.words)
        self.hash[row] = item.hash
        self.live[row] = True
        self.words[row] = 0
        self.words[row, :count] = text.word_hashes
        self.word_count[row] = count
        self.number_count[row] = len(text.numbers)
        self.signature[row] = text.signature
        self.trigram_count[row] = np.bitwise_count(text.signature).sum()
        self.price[row] = np.nan if item.price is None else item.price
        self.stock[row] = NO_STOCK_KNOWN if item.stock is None else item.stock
        self.time_ms[row] = item.time_ms


class Catalogue:
    """The items that can be ranked now.

    `entries` is the fold's own mapping (item hash -> entry): `follow` reads what changed from it.
    """

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        self._entries = entries
        self._rows: dict[int, int] = {}
        self._free: list[int] = []
        self._items: list[Item | None] = []
        self._texts: list[Text | None] = []
        self._by_value: dict[tuple[str, str], set[int]] = {}
        self._subscribers: list[Callable[[list[int]], None]] = []
        self.word_items: Counter[int] = Counter()
        """In how many titles a word (by its hash) stands."""
        self.columns = Columns()
        self.follow(sorted(entries))

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, item_hash: int) -> bool:
        return item_hash in self._rows

    def get(self, item_hash: int) -> Item | None:
        """The item of a hash; None when it is unknown or was deleted."""
        row = self._rows.get(item_hash)
        return None if row is None else self._items[row]

    def row_of(self, item_hash: int) -> int | None:
        """The row of an item hash; None when it is unknown or was deleted."""
        return self._rows.get(item_hash)

    def text(self, row: int) -> Text:
        """The folded title of a live row."""
        text = self._texts[row]
        if text is None:
            raise KeyError(f"row {row} holds no item")
        return text

    def item_at(self, row: int) -> Item:
        """The item of a live row."""
        item = self._items[row]
        if item is None:
            raise KeyError(f"row {row} holds no item")
        return item

    def rows(self, hashes: U64) -> Rows:
        """The rows of item hashes, -1 for those that are not in the catalogue."""
        find = self._rows.get
        return np.fromiter((find(h, -1) for h in hashes.tolist()), np.int64, len(hashes))

    def live_rows(self) -> Rows:
        """The rows of all items."""
        return np.flatnonzero(self.columns.live)

    def subscribe(self, changed: Callable[[list[int]], None]) -> None:
        """Have `changed` called with the hashes of items after they changed."""
        self._subscribers.append(changed)

    def follow(self, changed: Iterable[int]) -> None:
        """Take the entries of these item hashes anew."""
        hashes = list(changed)
        for item_hash in hashes:
            entry = self._entries.get(item_hash)
            self._remove(item_hash)
            if entry is not None and not entry.deleted:
                self._add(read_item(entry.item, item_hash, entry.time_ms, entry.body))
        for subscriber in self._subscribers:
            subscriber(hashes)

    def _add(self, item: Item) -> None:
        if not self._free:
            capacity = len(self.columns.hash)
            if len(self._items) == capacity:
                self.columns.grow()
            self._free.append(len(self._items))
            self._items.append(None)
            self._texts.append(None)
        row = self._free.pop()
        text = read_title(item.title)
        self._rows[item.hash] = row
        self._items[row], self._texts[row] = item, text
        self.columns.write(row, item, text)
        self.word_items.update(set(text.word_hashes.tolist()))
        for key in _index_keys(item):
            self._by_value.setdefault(key, set()).add(row)

    def _remove(self, item_hash: int) -> None:
        row = self._rows.pop(item_hash, None)
        if row is None:
            return
        item, text = self.item_at(row), self.text(row)
        self.columns.live[row] = False
        self._items[row] = self._texts[row] = None
        self._free.append(row)
        for word in set(text.word_hashes.tolist()):
            self.word_items[word] -= 1
            if not self.word_items[word]:
                del self.word_items[word]
        for key in _index_keys(item):
            members = self._by_value[key]
            members.discard(row)
            if not members:
                del self._by_value[key]

    def allowed(self, wanted: Mapping[str, FilterValue], *, in_stock: bool) -> Mask | None:
        """Which rows pass a filter, over all rows; None when nothing is asked and every item passes.

        `wanted` names `category`, `price` or an attribute, with a value, a list of values (any of them), or a range
        `{"min": low, "max": high}` (both ends included, each may be left out). An item without the field fails.
        """
        if not wanted and not in_stock:
            return None
        mask: Mask = self.columns.live.copy()
        if in_stock:
            mask &= self.columns.stock != 0
        for name, value in wanted.items():
            mask &= self._matching(name, value)
        return mask

    def _matching(self, name: str, value: FilterValue) -> Mask:
        columns = self.columns
        if name == "price":
            low, high = _range(value)
            with np.errstate(invalid="ignore"):
                return (columns.price >= np.float32(low)) & (columns.price <= np.float32(high))
        matching: Mask = np.zeros(len(columns.live), np.bool_)
        if isinstance(value, dict):
            low, high = _range(value)
            values = {plain for field, plain in self._by_value if field == name and low <= _number(plain) <= high}
        else:
            values = {plain_value(one) for one in value} if isinstance(value, list) else {plain_value(value)}
        for plain in values:
            members = self._by_value.get((name, plain), set())
            matching[np.fromiter(members, np.int64, len(members))] = True
        return matching


def _index_keys(item: Item) -> set[tuple[str, str]]:
    keys = {(name, value) for name, values in item.attributes.items() for value in values}
    keys = {key for key in keys if key[0] not in ("category", "price")}
    if item.category:
        keys.add(("category", item.category))
    return keys


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _range(value: FilterValue) -> tuple[float, float]:
    """Both ends of a range; a single number is a range of its own, anything else matches nothing."""
    if isinstance(value, dict):
        low, high = _finite(value.get("min", -math.inf)), _finite(value.get("max", math.inf))
        return (-math.inf if low is None else low), (math.inf if high is None else high)
    number = _finite(value)
    return (math.nan, math.nan) if number is None else (number, number)
