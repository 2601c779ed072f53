"""The steps of a replay: ids that a second run repeats, clicks after the searches made before them."""

from models.records import ItemRecord, SearchRecord, Source
from services.client import Cart, Click, Item, Search
from services.replay.script import EventStep, Script, SearchStep, chunks, searches_in, split


def search(index: int, time_ms: int, clicked: str = "a", click_time_ms: int = 0, **more: str) -> SearchRecord:
    """A search by its own user."""
    return SearchRecord(
        index=index,
        time_ms=time_ms,
        user=f"u{index}",
        query=f"q{index}",
        clicked=clicked,
        click_time_ms=click_time_ms,
        **more,  # type: ignore[arg-type]
    )


def source(*searches: SearchRecord, items: tuple[ItemRecord, ...] = ()) -> Source:
    """A log by the name of `log`."""
    return Source(name="log", items=list(items), searches=list(searches))


def test_a_click_comes_after_searches_that_were_made_before_it() -> None:
    """The second search was made before the first one's click, so it must be ranked without knowing it."""
    script = Script(source(search(0, 100, click_time_ms=300), search(1, 200, click_time_ms=250), search(2, 400)))
    assert [step.event.id for step in script.steps()] == [
        "0-search",
        "1-search",
        "1-click",
        "0-click",
        "2-search",
        "2-click",
    ]


def test_ids_and_times_are_the_logs_own() -> None:
    """Two scripts of one log say exactly the same, so publishing twice counts once."""
    log = source(search(0, 100, click_time_ms=300, session="s", outcome="cart"))
    first, second = list(Script(log).steps()), list(Script(log).steps())
    assert first == second
    events = [step.event for step in first]
    assert [(e.id, e.time_ms, type(e.body)) for e in events] == [
        ("0-search", 100, Search),
        ("0-click", 300, Click),
        ("0-cart", 45_300, Cart),
    ]
    assert {e.source for e in events} == {"/replay/log"}
    assert events[1].body == Click(user="u0", item="a", query="q0", session="s")


def test_the_catalogue_comes_first_and_its_changes_when_they_happened() -> None:
    """Items known before the first search are the catalogue; a later price is a step of its own."""
    items = (
        ItemRecord(time_ms=99, item="a", title="A"),
        ItemRecord(time_ms=150, item="a", title="A", price=2.0),
    )
    script = Script(source(search(0, 100), search(1, 200), items=items))
    assert [step.event.body for step in script.catalogue()] == [Item(item="a", title="A")]
    kinds = [step.event.body.kind for step in script.steps()]
    assert kinds == ["search", "click", "item", "search", "click"]
    assert script.catalogue()[0].event.id == "item-a-99"


def test_an_item_without_a_title_is_called_by_its_id() -> None:
    """The API asks for a title."""
    script = Script(source(search(0, 100), items=(ItemRecord(time_ms=1, item="a"),)))
    body = script.catalogue()[0].event.body
    assert isinstance(body, Item) and body.title == "a"


def test_skip_and_limit_count_searches_and_keep_ids() -> None:
    """A part of a log says the same about its searches as the whole log does, and no more."""
    log = source(
        *(search(n, 100 * n, click_time_ms=100 * n + 1) for n in range(5)),
        items=(ItemRecord(time_ms=450, item="a"),),
    )
    part = list(Script(log).steps(skip=1, limit=2))
    assert [step.event.id for step in part] == ["1-search", "1-click", "2-search", "2-click"]
    whole = list(Script(log).steps())
    assert all(step in whole for step in part)


def test_split_leaves_a_late_click_in_the_ranked_part() -> None:
    """What was clicked after the first ranked search cannot be known to it."""
    log = source(search(0, 100, click_time_ms=350), search(1, 200, click_time_ms=201), search(2, 300))
    before, rest = split(Script(log).steps(), 2)
    assert [step.event.id for step in before] == ["0-search", "1-search", "1-click"]
    assert [step.event.id for step in rest] == ["2-search", "2-click", "0-click"]
    assert searches_in(before) == 2 and searches_in(rest) == 1


def test_chunks_hold_everything_once() -> None:
    """The last one is shorter."""
    steps = list(Script(source(*(search(n, n) for n in range(5)))).steps())
    sizes = [len(chunk) for chunk in chunks(steps, 4)]
    assert sizes == [4, 4, 2]


def test_only_searches_are_ranked_and_only_clicks_judge() -> None:
    """Outcome steps carry what they followed."""
    steps = list(Script(source(search(0, 1), search(1, 2, clicked=""))).steps())
    assert [type(step) for step in steps] == [SearchStep, EventStep, SearchStep]
    assert isinstance(steps[1], EventStep) and steps[1].outcome is not None and steps[1].outcome.kind == "click"
