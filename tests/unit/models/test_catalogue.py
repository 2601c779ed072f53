"""The catalogue follows the fold's entries and survives whatever their bodies hold."""

import msgspec
import pytest

from models.catalogue import Catalogue, plain_value, read_item
from streams.hashing import item_hash
from streams.state import CatalogueEntry


def entry(item: str, *, deleted: bool = False, **body: object) -> CatalogueEntry:
    """An entry as the fold keeps it."""
    return CatalogueEntry(item=item, time_ms=1, identity=1, body=msgspec.json.encode(body), deleted=deleted)


def build(*entries: CatalogueEntry) -> tuple[dict[int, CatalogueEntry], Catalogue]:
    """A mapping such as the fold's, and a catalogue that follows it."""
    mapping = {item_hash(one.item): one for one in entries}
    return mapping, Catalogue(mapping)


def names(catalogue: Catalogue, wanted: dict[str, object], *, in_stock: bool = False) -> set[str]:
    """Items that pass a filter."""
    mask = catalogue.allowed(wanted, in_stock=in_stock)  # type: ignore[arg-type]
    rows = catalogue.live_rows() if mask is None else mask.nonzero()[0]
    return {catalogue.item_at(int(row)).item for row in rows}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'"text"',
        b'{"title": 5, "category": [], "price": "x", "attributes": 3, "stock": {}}',
        b'{"price": 1e999, "stock": -4, "attributes": {"a": null, "b": {"c": 1}}}',
        b'{"stock": 99999999999999999999, "price": true}',
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'{"title":"a\xff"}',
        b"[" * 100_000,
    ],
)
def test_bad_bodies_leave_fields_out(body: bytes) -> None:
    """No body raises; the item stays rankable under its id."""
    item = read_item("x", 1, 0, body)
    assert item.item == "x"
    assert item.price is None
    catalogue = Catalogue({1: CatalogueEntry("x", 0, 0, body, False)})
    assert len(catalogue) == 1


def test_it_follows_changes_and_deletions() -> None:
    """A changed entry is read anew, a tombstone takes the item out, and its row is used again."""
    mapping, catalogue = build(entry("a", title="Red Shoe"), entry("b", title="Blue Shoe"))
    a, b, c = item_hash("a"), item_hash("b"), item_hash("c")
    row = catalogue.row_of(a)
    mapping[a] = entry("a", deleted=True)
    mapping[b] = entry("b", title="Green Hat")
    mapping[c] = entry("c", title="New Scarf")
    catalogue.follow([a, b, c])
    assert a not in catalogue and len(catalogue) == 2
    found = catalogue.get(b)
    assert found is not None and found.title == "Green Hat"
    assert row in {catalogue.row_of(b), catalogue.row_of(c)}
    assert sum(catalogue.word_items.values()) == 4


def test_following_equals_building_anew() -> None:
    """After many changes the counts of words and the filter's index are those of a fresh catalogue."""
    mapping, catalogue = build(*(entry(f"i{n}", title=f"word{n % 7} thing", category=f"c{n % 3}") for n in range(100)))
    for n in range(0, 100, 3):
        mapping[item_hash(f"i{n}")] = entry(f"i{n}", title=f"other{n % 5}", category="c9", deleted=n % 2 == 0)
        catalogue.follow([item_hash(f"i{n}")])
    fresh = Catalogue(mapping)
    assert catalogue.word_items == fresh.word_items
    for category in ("c0", "c1", "c2", "c9"):
        assert names(catalogue, {"category": category}) == names(fresh, {"category": category})


def test_filters() -> None:
    """Category, attributes of every type, lists, ranges, prices; an unknown field passes nobody."""
    _, catalogue = build(
        entry(
            "a", title="A", category="shoes", price=10, attributes={"size": 42, "colours": ["red", "blue"], "new": True}
        ),
        entry("b", title="B", category="hats", price=20.5, attributes={"size": 43.5}),
        entry("c", title="C", category="hats"),
    )
    assert names(catalogue, {}) == {"a", "b", "c"}
    assert names(catalogue, {"category": "hats"}) == {"b", "c"}
    assert names(catalogue, {"category": ["shoes", "none"]}) == {"a"}
    assert names(catalogue, {"colours": "blue"}) == {"a"}
    assert names(catalogue, {"new": True, "size": 42.0}) == {"a"}
    assert names(catalogue, {"size": {"min": 43}}) == {"b"}
    assert names(catalogue, {"price": {"min": 5, "max": 20}}) == {"a"}
    assert names(catalogue, {"price": {"max": 100}}) == {"a", "b"}
    assert names(catalogue, {"price": 20.5}) == {"b"}
    assert names(catalogue, {"price": "cheap"}) == names(catalogue, {"brand": "x"}) == set()
    assert names(catalogue, {"category": "hats", "price": {"min": 1}}) == {"b"}


def test_unknown_stock_counts_as_in_stock() -> None:
    """Only an item that is known to be sold out fails `in_stock`."""
    _, catalogue = build(
        entry("none", title="N", stock=0), entry("some", title="S", stock=3), entry("unknown", title="U")
    )
    assert names(catalogue, {}, in_stock=True) == {"some", "unknown"}


def test_values_compare_as_text() -> None:
    """Numbers that are equal compare equal, large ones are not rounded together."""
    assert plain_value(42) == plain_value(42.0) == "42"
    assert plain_value(12345678) != plain_value(12345679)
    assert plain_value(True) == "true"
    assert plain_value(1.5) == "1.5"
