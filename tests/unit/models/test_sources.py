"""Reading logs of searches from files."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from models.errors import SourceUnreadable
from models.records import ItemRecord, OutcomeRecord, SearchRecord, outcomes_of, timeline
from models.sources import ColumnMapping, open_source, parse_mapping, parse_time_ms

ROWS = [
    {"time": "2024-05-01T10:00:00Z", "user": "u1", "query": "halo", "item": "h1", "click_time": "2024-05-01T10:00:30Z"},
    {"time": "2024-05-01T09:00:00Z", "user": "u2", "query": "rage", "item": "", "click_time": ""},
]


def _csv(folder: Path) -> Path:
    path = folder / "log.csv"
    lines = [",".join(ROWS[0])] + [",".join(row.values()) for row in ROWS]
    path.write_text("\n".join(lines) + "\n")
    return path


def _jsonl(folder: Path) -> Path:
    import json

    path = folder / "log.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


def _parquet(folder: Path) -> Path:
    path = folder / "log.parquet"
    parquet.write_table(pa.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("write", [_csv, _jsonl, _parquet])
def test_formats_agree_and_are_put_in_order(tmp_path: Path, write: object) -> None:
    """The three formats give the same records, sorted by time and numbered."""
    source = open_source(write(tmp_path))  # type: ignore[operator]
    assert [(s.index, s.query, s.clicked) for s in source.searches] == [(0, "rage", ""), (1, "halo", "h1")]
    assert source.searches[1].click_time_ms - source.searches[1].time_ms == 30_000
    assert [item.item for item in source.items] == ["h1"]
    assert source.items[0].time_ms < source.searches[0].time_ms


def test_times_are_read_as_utc() -> None:
    """No zone means UTC; numbers are seconds, or milliseconds when they are too large for seconds."""
    expected = 1_313_035_144_270
    for value in ("2011-08-11 03:59:04.27", "2011-08-11T05:59:04.270+02:00", expected, str(expected), expected / 1000):
        assert parse_time_ms(value) == expected
    with pytest.raises(ValueError, match="is no time"):
        parse_time_ms(None)


def test_columns_can_be_mapped(tmp_path: Path) -> None:
    """A mapping names the file's own columns."""
    path = tmp_path / "other.csv"
    path.write_text("ts,who,words,sku,act\n1714557600,u,halo,h1,purchase\n")
    columns = parse_mapping(["time=ts", "user=who", "query=words", "item=sku", "outcome=act"])
    search = open_source(path, columns=columns).searches[0]
    assert (search.user, search.query, search.clicked, search.outcome) == ("u", "halo", "h1", "purchase")
    assert columns.session == ColumnMapping().session


def test_catalogue_file(tmp_path: Path) -> None:
    """Titles, prices and stock come from a file of their own; what is unreadable there is left out."""
    items = tmp_path / "items.csv"
    items.write_text("item,title,category,price,stock\nh1,Halo,games,19.99,3\nh2,Halo 2,games,cheap,\n")
    source = open_source(_csv(tmp_path), items_path=items)
    assert [(i.item, i.title, i.price, i.stock) for i in source.items] == [
        ("h1", "Halo", 19.99, 3),
        ("h2", "Halo 2", None, None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "when,user,query\n1,u,q\n", "no column time"),
        ("b.csv", "time,user,query\nyesterday,u,q\n", "row 1"),
        ("c.jsonl", '{"time": 1\n', "line 1: no JSON"),
        ("d.jsonl", "[1]\n", "not a JSON object"),
        ("e.parquet", "no parquet", "cannot be read as parquet"),
        ("f.xlsx", "", "use one of csv"),
    ],
)
def test_unreadable_files_say_what_to_do(tmp_path: Path, name: str, content: str, says: str) -> None:
    """A bad file is refused with its name, the place and the next step."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(SourceUnreadable, match=says) as refused:
        open_source(path)
    assert name in str(refused.value)


def test_a_missing_file_and_a_bad_mapping_are_refused(tmp_path: Path) -> None:
    """Neither ends in a stack trace of the library underneath."""
    with pytest.raises(SourceUnreadable, match="does not exist"):
        open_source(tmp_path / "none.csv")
    with pytest.raises(SourceUnreadable, match="FIELD=COLUMN"):
        parse_mapping(["when=ts"])


def test_bestbuy_folder(tmp_path: Path) -> None:
    """The catalogue is products.tsv alone: a click on anything else stays a click, but is no item."""
    (tmp_path / "clicks.csv").write_text(
        "query_time,click_time,user,query,sku,category\n"
        "2011-08-11 05:02:07.564,2011-08-11 05:02:55.937,u1,troy,2,c\n"
        "2011-08-11 05:02:07.564,2011-08-11 05:02:30,u1,troy,9,c\n"
        "2011-08-11 06:02:07.564,2011-08-11 06:02:30,u1,troy,2,c\n"
    )
    (tmp_path / "products.tsv").write_text("1\tHalo\n2\tTroy\n")
    source = open_source(tmp_path)
    assert source.name == "bestbuy"
    assert [(item.item, item.title) for item in source.items] == [("1", "Halo"), ("2", "Troy")]
    assert [search.clicked for search in source.searches] == ["2", "9", "2"]
    assert [search.session for search in source.searches] == ["u1/1", "u1/1", "u1/2"]
    (tmp_path / "products.tsv").unlink()
    with pytest.raises(SourceUnreadable, match=r"products\.tsv is missing"):
        open_source(tmp_path, "bestbuy")


def _search(index: int, time_ms: int, click_ms: int, **more: object) -> SearchRecord:
    return SearchRecord(
        index=index,
        time_ms=time_ms,
        user="u",
        query="q",
        clicked="i",
        click_time_ms=click_ms,
        **more,  # type: ignore[arg-type]
    )


def test_timeline_tells_a_click_when_it_happened() -> None:
    """A search that was made before another search's click comes before that click."""
    searches = [_search(0, 100, 300), _search(1, 200, 250), _search(2, 300, 301)]
    items = [ItemRecord(time_ms=100, item="early"), ItemRecord(time_ms=999, item="late")]
    told = [
        (step.item if isinstance(step, ItemRecord) else "click" if isinstance(step, OutcomeRecord) else "search")
        + ("" if isinstance(step, ItemRecord) else str(getattr(step, "index", None) or _index(step)))
        for step in timeline(searches, items)
    ]
    assert told == ["early", "search0", "search1", "click1", "click0", "search2", "click2", "late"]


def _index(step: SearchRecord | OutcomeRecord) -> int:
    return step.index if isinstance(step, SearchRecord) else step.search.index


def test_outcomes_follow_their_search() -> None:
    """A purchase is a click, a cart and a purchase; a click that is dated before its search comes right after it."""
    assert [step.kind for step in outcomes_of(_search(0, 100, 200, outcome="purchase"))] == [
        "click",
        "cart",
        "purchase",
    ]
    assert outcomes_of(_search(0, 100, 50))[0].time_ms == 100
    assert outcomes_of(SearchRecord(index=0, time_ms=1, user="u", query="q")) == []
