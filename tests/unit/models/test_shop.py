"""The made-up shop has the traits that it promises, and comes out the same every time."""

import subprocess
import sys
from collections import Counter

from models.shop import ShopSettings, generate

SMALL = ShopSettings(seed=4, items=120, searches=1500, users=400, days=20)
_DIGEST = (
    "from models.shop import *; import msgspec, hashlib; "
    "print(hashlib.sha256(msgspec.json.encode(generate(ShopSettings(seed=4, items=120, searches=1500, users=400, "
    "days=20)))).hexdigest())"
)


def test_same_seed_same_shop_in_any_process() -> None:
    """No salted hash, no clock: another process with another hash seed makes the same shop."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_another_seed_is_another_shop() -> None:
    """The seed reaches titles and searches."""
    other = generate(ShopSettings(seed=5, items=120, searches=1500, users=400, days=20))
    assert other.items[0].title != generate(SMALL).items[0].title


def test_searches_are_in_order_and_click_what_is_in_the_catalogue() -> None:
    """Times ascend, indices count, clicked items are known, nothing is clicked before it is searched."""
    source = generate(SMALL)
    known = {item.item for item in source.items}
    times = [search.time_ms for search in source.searches]
    assert times == sorted(times)
    assert [search.index for search in source.searches] == list(range(len(source.searches)))
    assert all(search.clicked in known and search.click_time_ms > search.time_ms for search in source.searches)
    assert all(search.position >= 1 for search in source.searches)


def test_popularity_is_skewed_and_drifts() -> None:
    """A few items take most clicks, and the first week's favourites are not the last week's."""
    searches = generate(SMALL).searches
    counts = Counter(search.clicked for search in searches)
    top = sum(count for _, count in counts.most_common(len(counts) // 10))
    assert top > 0.3 * len(searches)
    first = {item for item, _ in Counter(s.clicked for s in searches[:400]).most_common(10)}
    last = {item for item, _ in Counter(s.clicked for s in searches[-400:]).most_common(10)}
    assert 0 < len(first & last) < 10


def test_queries_repeat_but_are_also_mistyped_or_never_seen() -> None:
    """Both the exact table and the text have something to do."""
    queries = Counter(search.query.lower() for search in generate(SMALL).searches)
    assert queries.most_common(1)[0][1] > 20
    assert 0.05 < sum(count == 1 for count in queries.values()) / sum(queries.values()) < 0.5


def test_a_big_shop_does_not_run_out_of_words() -> None:
    """Short words are used up long before 20,000 items; the shop comes out all the same."""
    source = generate(ShopSettings(seed=1, items=20_000, searches=10, days=1))
    assert len({item.item for item in source.items}) == 20_000
