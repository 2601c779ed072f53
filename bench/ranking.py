"""What one ranking costs before it is sent: reading counters, finding candidates, encoding, scoring; and where it goes.

    python -m bench.ranking [--items 500 10000 100000] [--searches 20000] [--profile]

For each size of catalogue a made-up shop is folded, catalogue first, then searches and clicks; the last searches are
then answered one after the other in this process: candidates (up to 200), tensors, and the shipped model on ONNX
Runtime with one thread. Beside the whole it measures the text index alone, and taking one changed title in. Times
are per search, in milliseconds. Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from models.encode import encode
from models.evaluation.entrants import onnx_scorer
from models.lexical import LexicalIndex
from models.records import ItemRecord, SearchRecord
from models.shop import ShopSettings, generate
from models.text import read_query
from models.walk import Walk, number_of, steps
from streams.asks import Ask

MODEL = Path(__file__).resolve().parents[1] / "models/repository/ranker/1"
ASKED = 500


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and mean in milliseconds."""
    times = np.array(seconds) * 1000
    return {
        "p50": round(float(np.percentile(times, 50)), 3),
        "p99": round(float(np.percentile(times, 99)), 3),
        "mean": round(float(times.mean()), 3),
    }


def timed(into: list[float], work: Callable[..., Any], *arguments: object) -> Any:
    """Run and note how long it took."""
    started = perf_counter()
    result = work(*arguments)
    into.append(perf_counter() - started)
    return result


def ask_of(search: SearchRecord) -> Ask:
    """The request of a search."""
    return Ask(
        ask_id="",
        reply_to="",
        kind="search",
        deadline_unix_ms=0,
        at_ms=search.time_ms,
        user=number_of(search.user),
        query=search.query,
    )


def folded_shop(items: int, searches: int) -> tuple[Walk, list[SearchRecord]]:
    """A shop that has seen all of its searches, and the last of them."""
    source = generate(ShopSettings(seed=1, items=items, searches=searches, days=20, launches_share=0.1))
    walk = Walk()
    for step in steps(source):
        walk.tell(step)
    walk.settle()
    return walk, source.searches[-ASKED:]


def stages(walk: Walk, searches: list[SearchRecord]) -> dict[str, dict[str, float]]:
    """Each stage of answering the searches."""
    scorer = onnx_scorer(MODEL)
    at_ms = searches[-1].time_ms
    times: dict[str, list[float]] = {name: [] for name in ("read", "candidates", "encode", "score", "whole")}
    for round_number in range(2):  # the first round fills caches and is not counted
        for search in searches:
            ask = ask_of(search)
            started = perf_counter()
            view = timed(times["read"], walk.index.read, at_ms)
            found = timed(times["candidates"], walk.retriever.candidates, ask, view)
            tensors = timed(times["encode"], encode, ask, found, view, walk.catalogue)
            timed(times["score"], scorer, tensors)
            times["whole"].append(perf_counter() - started)
        if round_number == 0:
            for noted in times.values():
                noted.clear()
    return {name: spread(noted) for name, noted in times.items()}


def text_index(walk: Walk, searches: list[SearchRecord]) -> dict[str, Any]:
    """The text index alone: finding rows, comparing titles, and taking a change in."""
    index = LexicalIndex(walk.catalogue)
    first: list[float] = []
    timed(first, index.propose, ("anything",), None)
    propose: list[float] = []
    compare: list[float] = []
    for search in searches:
        words = read_query(search.query).words
        rows = timed(propose, index.propose, words, None)
        timed(compare, index.match, words, rows)
    change: list[float] = []
    for number in range(20):
        item = walk.catalogue.item_at(int(walk.catalogue.live_rows()[number]))
        walk.tell(ItemRecord(time_ms=searches[-1].time_ms + 1 + number, item=item.item, title=f"{item.title} changed"))
        walk.settle()
        timed(change, index.propose, ("anything",), None)
    return {
        "build_ms": round(first[0] * 1000, 1),
        "propose_ms": spread(propose),
        "compare_ms": spread(compare),
        "change_ms": spread(change),
    }


def profile(walk: Walk, searches: list[SearchRecord]) -> None:
    """Print where the time goes."""
    watch = cProfile.Profile()
    watch.enable()
    for search in searches:
        ask = ask_of(search)
        view = walk.index.read(searches[-1].time_ms)
        encode(ask, walk.retriever.candidates(ask, view), view, walk.catalogue)
    watch.disable()
    pstats.Stats(watch, stream=sys.stdout).sort_stats("tottime").print_stats(15)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[500, 10_000, 100_000])
    parser.add_argument("--searches", type=int, default=20_000, help="searches that are folded before")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    given = parser.parse_args()
    result: dict[str, Any] = {}
    for items in given.items:
        walk, searches = folded_shop(items, given.searches)
        found = stages(walk, searches)
        result[str(items)] = {"stages_ms": found, "text_index": text_index(walk, searches)}
        print(f"{items} items: one ranking p50 {found['whole']['p50']} ms, p99 {found['whole']['p99']} ms")
        for name in ("read", "candidates", "encode", "score"):
            print(f"  {name:10} p50 {found[name]['p50']:7.3f} ms   p99 {found[name]['p99']:7.3f} ms")
        if given.profile:
            profile(walk, searches)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
