"""Candidates: everything that was asked for, nothing that was not, the same every time."""

import msgspec
import numpy as np
import pytest

from models import lexical
from models.catalogue import Catalogue
from models.retrieval import CALLERS_MAX, CANDIDATES_MAX, FROM_CALLER, FROM_HISTORY, FROM_QUERY, Retriever
from models.shop import ShopSettings, generate
from streams.asks import Ask
from streams.hashing import item_hash, query_hash
from streams.kinds import Kind
from streams.state import CatalogueEntry
from tests.support.plain_counters import PlainCounters

NOW = 1_700_000_000_000
USER = 77
TITLES = {
    "g1": "Gears of War",
    "g2": "Gears of War 2",
    "g3": "Gears of War 3",
    "b1": "Batman: Arkham City",
    "b2": "Batman: Arkham City Collector's Edition",
    "m3": "Call of Duty: Modern Warfare 3",
    "ac": "Assassin's Creed II",
    "ho": "Hat",
}


def entry(item: str, **body: object) -> CatalogueEntry:
    """An entry as the fold keeps it."""
    return CatalogueEntry(item=item, time_ms=NOW, identity=1, body=msgspec.json.encode(body), deleted=False)


def shop(extra: int = 0) -> tuple[dict[int, CatalogueEntry], Catalogue, Retriever]:
    """The titles above, and `extra` others."""
    entries = {item_hash(item): entry(item, title=title, category=item[0]) for item, title in TITLES.items()}
    for number in range(extra):
        entries[item_hash(f"x{number}")] = entry(f"x{number}", title=f"Thing{number} Filler", category="x", stock=0)
    catalogue = Catalogue(entries)
    return entries, catalogue, Retriever(catalogue)


def ask(query: str = "", **more: object) -> Ask:
    """A search, or with `kind` something else."""
    kind = more.pop("kind", "search")
    return Ask(ask_id="a", reply_to="g", kind=kind, deadline_unix_ms=0, at_ms=NOW, user=USER, query=query, **more)  # type: ignore[arg-type]


def items(
    retriever: Retriever, catalogue: Catalogue, request: Ask, counters: PlainCounters, limit: int = 200
) -> list[str]:
    """Ids of the candidates, best title first."""
    found = retriever.candidates(request, counters.read(NOW), limit)
    order = np.argsort(-found.lexical, kind="stable")
    return [catalogue.item_at(int(found.rows[place])).item for place in order]


@pytest.mark.parametrize("extra", [0, lexical.SCAN_ROWS + 500])
@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("gears of war 3", "g3"),
        ("GEARS OF WAR III", "g3"),
        ("geers of war", "g1"),
        ("arkham city", "b1"),
        ("batman collectors edition", "b2"),
        ("assasins creed 2", "ac"),
        ("modern warfare 3", "m3"),
    ],
)
def test_titles_are_found_despite_typos(query: str, best: str, extra: int) -> None:
    """Compared in full or through the index, the right title comes first."""
    _, catalogue, retriever = shop(extra)
    assert items(retriever, catalogue, ask(query), PlainCounters())[0] == best


def test_clicked_items_are_candidates_whatever_their_title() -> None:
    """A click for a query makes the item a candidate for it, among thousands of others."""
    _, _, retriever = shop(5000)
    counters = PlainCounters()
    counters.take(Kind.CLICK, NOW, 1, 1, query_hash("mw3"), item_hash("ho"))
    found = retriever.candidates(ask("MW3"), counters.read(NOW))
    place = found.items.tolist().index(item_hash("ho"))
    assert found.source[place] & FROM_QUERY


def test_the_union_is_bounded_and_in_order_of_hashes() -> None:
    """Never more than the limit, never one twice, sorted so that ties break alike everywhere."""
    _, _, retriever = shop(5000)
    for limit in (1, 7, CANDIDATES_MAX):
        found = retriever.candidates(ask("filler gears"), PlainCounters().read(NOW), limit)
        assert len(found) == limit == len(set(found.items.tolist()))
        assert found.items.tolist() == sorted(found.items.tolist())


def test_filter_exclude_and_stock_are_honoured() -> None:
    """What was excluded, filtered out or sold out is never a candidate, from whatever source."""
    _, catalogue, retriever = shop(300)
    counters = PlainCounters()
    for item in ("g1", "b1", "x5"):
        counters.take(Kind.CLICK, NOW, USER, 1, query_hash("gears"), item_hash(item))
    assert set(items(retriever, catalogue, ask("gears", filter={"category": "g"}), counters)) == {"g1", "g2", "g3"}
    assert set(items(retriever, catalogue, ask("gears", filter={"category": "g"}, exclude=["g1"]), counters)) == {
        "g2",
        "g3",
    }
    assert not {i for i in items(retriever, catalogue, ask("gears", in_stock=True), counters) if i[0] == "x"}
    assert items(retriever, catalogue, ask("gears", filter={"category": "none"}), counters) == []


def test_the_callers_candidates_and_no_others() -> None:
    """Exactly the known ones are scored; the unknown ones are named in the caller's order."""
    _, catalogue, retriever = shop(10)
    request = ask("gears", candidates=["zz", "g2", "x1", "yy", "g2"])
    found = retriever.candidates(request, PlainCounters().read(NOW))
    assert {catalogue.item_at(int(row)).item for row in found.rows} == {"g2", "x1"}
    assert found.unknown == ("zz", "yy")
    assert set(found.source.tolist()) == {FROM_CALLER}
    assert len(retriever.candidates(ask("gears", candidates=[]), PlainCounters().read(NOW))) == 0


def test_the_callers_candidates_pass_what_others_must() -> None:
    """Excluded, filtered out and sold out ones are neither scored nor named; an excluded unknown one is not either."""
    _, catalogue, retriever = shop(10)
    wanted = ["zz", "g2", "x1", "b1", "g1", "yy"]

    def left(**more: object) -> tuple[set[str], tuple[str, ...]]:
        found = retriever.candidates(ask("gears", candidates=wanted, **more), PlainCounters().read(NOW))
        return {catalogue.item_at(int(row)).item for row in found.rows}, found.unknown

    assert left(in_stock=True) == ({"g1", "g2", "b1"}, ("zz", "yy"))
    assert left(filter={"category": "g"}) == ({"g1", "g2"}, ("zz", "yy"))
    assert left(exclude=["g1", "zz"]) == ({"g2", "x1", "b1"}, ("yy",))


def test_many_candidates_of_the_caller_are_scored_as_far_as_a_worker_goes() -> None:
    """A smaller limit does not cut them; the known ones beyond stand before the unknown ones, in the caller's order."""
    _, _, retriever = shop(CALLERS_MAX + 2)
    known = [f"x{number}" for number in range(CALLERS_MAX + 2)]
    view = PlainCounters().read(NOW)
    assert len(retriever.candidates(ask(candidates=known[:300]), view, 100)) == 300
    found = retriever.candidates(ask(candidates=["zz", *known]), view, 100)
    assert len(found) == CALLERS_MAX
    assert found.unknown == (*known[-2:], "zz")


def test_what_others_clicked_next_is_a_candidate() -> None:
    """Without a query, items that were clicked in one session with the user's last ones come up."""
    _, catalogue, retriever = shop(5000)
    counters = PlainCounters()
    for item in ("g1", "x77"):
        counters.take(Kind.CLICK, NOW, 1, 5, 0, item_hash(item))
    counters.take(Kind.CLICK, NOW, USER, 6, 0, item_hash("g1"))
    for request in (ask(kind="recommendations"), ask(kind="similar", item="g1")):
        found = retriever.candidates(request, counters.read(NOW))
        place = found.items.tolist().index(item_hash("x77"))
        assert found.source[place] & FROM_HISTORY
    assert item_hash("g1") not in found.items.tolist()
    assert items(retriever, catalogue, ask(kind="similar", item="g2"), PlainCounters())[0] in ("g1", "g3")


def test_items_that_nobody_clicked_fill_up() -> None:
    """A young shop without a single click still has candidates, for a query that goes with nothing as well."""
    _, catalogue, retriever = shop()
    assert set(items(retriever, catalogue, ask("qqqqq"), PlainCounters())) == set(TITLES)
    assert len(Retriever(Catalogue({})).candidates(ask("halo"), PlainCounters().read(NOW))) == 0


@pytest.mark.parametrize("extra", [0, lexical.SCAN_ROWS + 500])
def test_it_follows_the_catalogue(extra: int) -> None:
    """A new title is found at the next request, a changed one under its new words only, a deleted one never."""
    entries, catalogue, retriever = shop(extra)
    counters = PlainCounters()
    assert items(retriever, catalogue, ask("gears of war 3"), counters)[0] == "g3"
    entries[item_hash("g3")] = entry("g3", title="Teapot")
    entries[item_hash("new")] = entry("new", title="Zebra Crossing")
    del entries[item_hash("g2")]
    catalogue.follow([item_hash("g3"), item_hash("new"), item_hash("g2")])
    assert items(retriever, catalogue, ask("zebra"), counters)[0] == "new"
    assert items(retriever, catalogue, ask("teapot"), counters)[0] == "g3"
    assert "g2" not in items(retriever, catalogue, ask("gears of war 2"), counters)


def test_a_followed_catalogue_proposes_what_a_fresh_one_does() -> None:
    """After thousands of changes one by one, candidates are those of a region that has just started."""
    source = generate(ShopSettings(seed=2, items=3000, searches=300, days=3))
    entries: dict[int, CatalogueEntry] = {}
    followed_catalogue = Catalogue(entries)
    followed = Retriever(followed_catalogue)
    for number, record in enumerate(source.items):
        entries[item_hash(record.item)] = entry(record.item, title=record.title, category=record.category)
        followed_catalogue.follow([item_hash(record.item)])
        if number % 200 == 0:
            followed.candidates(ask("anything at all"), PlainCounters().read(NOW))
    fresh = Retriever(Catalogue(dict(reversed(entries.items()))))
    view = PlainCounters().read(NOW)
    for search in source.searches[:150]:
        mine, theirs = followed.candidates(ask(search.query), view), fresh.candidates(ask(search.query), view)
        assert mine.items.tolist() == theirs.items.tolist()
        assert np.array_equal(mine.lexical, theirs.lexical)


def test_a_text_index_that_lags_is_harmless() -> None:
    """Where a server takes changes in on its own time, what left the catalogue meanwhile is not proposed."""
    entries, catalogue, retriever = shop(2500)
    counters = PlainCounters()
    items(retriever, catalogue, ask("gears of war 3"), counters)
    retriever.text_index.refreshes_itself = False
    for item in ("g1", "g2", "g3"):
        del entries[item_hash(item)]
    entries[item_hash("new")] = entry("new", title="Zebra")
    catalogue.follow([item_hash(item) for item in ("g1", "g2", "g3", "new")])
    assert "g3" not in items(retriever, catalogue, ask("gears of war 3"), counters)
    assert "g3" not in items(retriever, catalogue, ask("geers of war 3"), counters)


def test_a_word_of_every_title_proposes_the_same_whatever_came_first() -> None:
    """Thousands of titles that are equally near: the order in which they arrived does not choose among them."""
    found = []
    for step in (1, -1):
        entries: dict[int, CatalogueEntry] = {}
        catalogue = Catalogue(entries)
        retriever = Retriever(catalogue)
        for number in list(range(3000))[::step]:
            value = item_hash(f"x{number:04d}")
            entries[value] = entry(f"x{number:04d}", title=f"Thing{number:04d} Filler")
            catalogue.follow([value])
            if number % 500 == 0:
                retriever.candidates(ask("filler"), PlainCounters().read(NOW))
        found.append(retriever.candidates(ask("filler"), PlainCounters().read(NOW)))
    assert found[0].items.tolist() == found[1].items.tolist()


@pytest.mark.parametrize(
    "query", ["", " ", "!!!", "a", "\x00", "é" * 3000, "x " * 2000, "你好", "'; DROP", "-", "AND OR NOT ("]
)
def test_no_query_breaks_it(query: str) -> None:
    """Empty, odd and huge queries are answered from what else is known."""
    for extra in (0, 2500):
        _, _, retriever = shop(extra)
        assert len(retriever.candidates(ask(query), PlainCounters().read(NOW))) > 0
