"""Reading a shop's log of real searches from a file: CSV, JSONL or Parquet with a column mapping, or a named format.

The whole source is read and put in order of time before the first event is published: logs are often sorted by
something else, and an order that differs between two readings would give the same event two identities. A log that
does not fit into memory is split by time first.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from models.errors import SourceUnreadable
from models.records import ItemRecord, SearchRecord, Source

Row = dict[str, Any]
SESSION_GAP_MS: Final = 30 * 60_000
"""A user who was quiet for longer starts a new session, where the source names none."""


class ColumnMapping(msgspec.Struct, frozen=True, kw_only=True):
    """Which column of a file holds what. An empty name means that the file has no such column."""

    time: str = "time"
    """ISO 8601 (read as UTC where no zone is given), seconds or milliseconds since the epoch."""
    user: str = "user"
    query: str = "query"
    item: str = "item"
    """The clicked item; an empty cell is a search without a click."""
    click_time: str = "click_time"
    session: str = "session"
    position: str = "position"
    outcome: str = "outcome"
    title: str = "title"
    """Of the catalogue file, as are the ones below; its item column is `item`."""
    category: str = "category"
    price: str = "price"
    stock: str = "stock"


def parse_mapping(pairs: Iterable[str]) -> ColumnMapping:
    """Build a mapping from `time=query_time` pairs as they stand on a command line."""
    known = ColumnMapping.__struct_fields__
    chosen: dict[str, str] = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals or field not in known:
            raise SourceUnreadable(f"column mapping {pair!r}: write FIELD=COLUMN with FIELD one of {', '.join(known)}")
        chosen[field] = column
    return ColumnMapping(**chosen)


def parse_time_ms(value: object) -> int:
    """Milliseconds since the epoch from ISO 8601 text, a datetime, or a number of seconds or milliseconds.

    Raises ValueError on anything else. Numbers from 10^11 on are milliseconds (10^11 s would be the year 5138).
    """
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(value, str):
        text = value.strip()
        if text and text.lstrip("-").replace(".", "", 1).isdigit():
            return parse_time_ms(float(text))
        return parse_time_ms(datetime.fromisoformat(text))
    if isinstance(value, int | float):
        return round(value) if abs(value) >= 1e11 else round(value * 1000)
    raise ValueError(f"{value!r} is no time")


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        yield from csv.DictReader(lines)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise SourceUnreadable(f"{path}, line {number}: no JSON ({error.msg}); mend or remove it") from error
            if not isinstance(row, dict):
                raise SourceUnreadable(f"{path}, line {number}: not a JSON object; write one object a line")
            yield row


def _parquet_rows(path: Path) -> Iterator[Row]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as table:
        for batch in table.iter_batches():
            yield from batch.to_pylist()


_READERS: Final[dict[str, Callable[[Path], Iterator[Row]]]] = {
    "csv": _csv_rows,
    "jsonl": _jsonl_rows,
    "parquet": _parquet_rows,
}
FORMATS: Final = (*_READERS, "bestbuy")


def _rows(path: Path, format_name: str) -> Iterator[Row]:
    if not path.is_file():
        raise SourceUnreadable(f"{path} is not a file; name a CSV, JSONL or Parquet file of searches")
    reader = _READERS[format_name]
    try:
        yield from reader(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceUnreadable(f"{path} cannot be read as {format_name}: {error}; check its format") from error
    except ValueError as error:  # pyarrow's errors are ValueErrors
        raise SourceUnreadable(f"{path} cannot be read as {format_name}: {error}; check its format") from error


def _text(row: Row, column: str) -> str:
    value = row.get(column) if column else None
    return "" if value is None else str(value).strip()


def _optional_number(row: Row, column: str) -> float | None:
    try:
        return float(_text(row, column))
    except ValueError:
        return None


def _search(index: int, row: Row, columns: ColumnMapping, path: Path) -> SearchRecord:
    missing = [name for name in (columns.time, columns.user, columns.query) if name not in row]
    if missing:
        raise SourceUnreadable(
            f"{path}: no column {', '.join(missing)} (it has {', '.join(map(str, row))}); map it with FIELD=COLUMN"
        )
    try:
        time_ms = parse_time_ms(row[columns.time])
        click_time = row.get(columns.click_time) if columns.click_time else None
        click_time_ms = parse_time_ms(click_time) if click_time not in (None, "") else time_ms
    except ValueError as error:
        raise SourceUnreadable(f"{path}, row {index + 1}: {error}; times are ISO 8601 or epoch numbers") from error
    outcome = _text(row, columns.outcome)
    position = _optional_number(row, columns.position)
    return SearchRecord(
        index=index,
        time_ms=time_ms,
        user=_text(row, columns.user),
        query=_text(row, columns.query),
        session=_text(row, columns.session),
        clicked=_text(row, columns.item),
        click_time_ms=click_time_ms,
        position=int(position) if position and 0 < position < 1 << 16 else 0,
        outcome="purchase" if outcome == "purchase" else "cart" if outcome == "cart" else "click",
    )


def _with_sessions(searches: list[SearchRecord]) -> list[SearchRecord]:
    """Name the sessions of a source that has none: a user's searches without a long pause between them."""
    last_seen: dict[str, int] = {}
    numbers: dict[str, int] = {}
    named: list[SearchRecord] = []
    for search in searches:
        if search.session:
            named.append(search)
            continue
        if search.time_ms - last_seen.get(search.user, search.time_ms - SESSION_GAP_MS - 1) > SESSION_GAP_MS:
            numbers[search.user] = numbers.get(search.user, 0) + 1
        last_seen[search.user] = search.time_ms
        named.append(msgspec.structs.replace(search, session=f"{search.user}/{numbers[search.user]}"))
    return named


def _ordered(searches: list[SearchRecord]) -> list[SearchRecord]:
    ordered = sorted(searches, key=lambda search: (search.time_ms, search.index))
    return _with_sessions([msgspec.structs.replace(search, index=place) for place, search in enumerate(ordered)])


def _items(path: Path, format_name: str, columns: ColumnMapping, time_ms: int) -> list[ItemRecord]:
    entries: list[ItemRecord] = []
    for row in _rows(path, format_name):
        item = _text(row, columns.item)
        if not item:
            continue
        stock = _optional_number(row, columns.stock)
        entries.append(
            ItemRecord(
                time_ms=time_ms,
                item=item,
                title=_text(row, columns.title),
                category=_text(row, columns.category),
                price=_optional_number(row, columns.price),
                stock=None if stock is None else int(stock),
            )
        )
    return entries


def _clicked_items(searches: list[SearchRecord], time_ms: int) -> list[ItemRecord]:
    """A catalogue of bare ids, for a log that comes without one: what was clicked somewhere in it."""
    return [
        ItemRecord(time_ms=time_ms, item=item, title=item)
        for item in sorted({s.clicked for s in searches if s.clicked})
    ]


BESTBUY_COLUMNS: Final = ColumnMapping(time="query_time", item="sku", session="", position="", outcome="")


def _bestbuy(folder: Path) -> Source:
    """A folder with `clicks.csv` (searches) and `products.tsv` (sku, name).

    The catalogue is the products alone: an item that only turns up as a click was not in it, so nobody could have
    ranked it, and it counts as missed.
    """
    clicks, products = folder / "clicks.csv", folder / "products.tsv"
    for path in (clicks, products):
        if not path.is_file():
            raise SourceUnreadable(
                f"{path} is missing; the bestbuy format is a folder with clicks.csv and products.tsv"
            )
    searches = _ordered([_search(n, row, BESTBUY_COLUMNS, clicks) for n, row in enumerate(_rows(clicks, "csv"))])
    start_ms = searches[0].time_ms - 1 if searches else 0
    items: list[ItemRecord] = []
    for line in products.read_text(encoding="utf-8").splitlines():
        sku, tab, name = line.partition("\t")
        if tab and sku:
            items.append(ItemRecord(time_ms=start_ms, item=sku.strip(), title=name.strip()))
    return Source(name="bestbuy", items=items, searches=searches)


def open_source(
    path: Path,
    format_name: str = "",
    columns: ColumnMapping | None = None,
    items_path: Path | None = None,
) -> Source:
    """Read a log of searches.

    `format_name` is one of FORMATS; by default it follows from the path (a folder with clicks.csv is `bestbuy`).
    `items_path` is a catalogue in a file of the kinds above; without one, the clicked items are the catalogue.
    Raises SourceUnreadable.
    """
    columns = columns or ColumnMapping()
    if not path.exists():
        raise SourceUnreadable(f"{path} does not exist; name a file of searches, or a folder in the bestbuy format")
    format_name = format_name or _format_of(path)
    if path.is_dir() and not format_name:
        from models.data.zozotown import NO_SOURCE, is_zozotown

        if is_zozotown(path):
            raise SourceUnreadable(NO_SOURCE.format(folder=path))
        raise SourceUnreadable(f"{path} is a folder without clicks.csv; name the file of searches in it, or its format")
    if format_name == "bestbuy":
        return _bestbuy(path)
    if format_name not in _READERS:
        raise SourceUnreadable(f"format {format_name!r} of {path} is unknown; use one of {', '.join(FORMATS)}")
    searches = _ordered([_search(n, row, columns, path) for n, row in enumerate(_rows(path, format_name))])
    start_ms = searches[0].time_ms - 1 if searches else 0
    if items_path is None:
        items = _clicked_items(searches, start_ms)
    else:
        items = _items(items_path, _format_of(items_path), columns, start_ms)
    return Source(name=path.stem, items=items, searches=searches)


def _format_of(path: Path) -> str:
    if path.is_dir() and (path / "clicks.csv").is_file():
        return "bestbuy"
    suffix = path.suffix.lstrip(".").lower()
    return {"ndjson": "jsonl", "json": "jsonl", "pq": "parquet"}.get(suffix, suffix)
