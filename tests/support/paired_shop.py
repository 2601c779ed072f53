"""A made-up shop in which every item has one that goes with it, and item vectors that know some of these pairs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from models.encode import as_item_numbers
from models.export import triton_config
from models.records import ItemRecord, SearchRecord, Source
from models.registry import About, write_version
from streams.hashing import item_hash

COUPLES = 24
BUCKETS = 16_381
MINUTE_MS = 60_000


def name_of(couple: int, part: int) -> str:
    """An item of a couple; `part` is 0 or 1."""
    return f"item-{couple}-{part}"


def paired_shop(sessions: int = 640, *, seed: int = 5) -> Source:
    """Each session clicks one of a couple and then the other; every tenth time something else."""
    rng = np.random.Generator(np.random.PCG64(seed))
    # A title of one word that no other title resembles: titles must not give the couples away.
    items = [
        ItemRecord(time_ms=1, item=name_of(couple, part), title="".join(rng.choice(list("bcdfghjklmnpqrstvwxz"), 9)))
        for couple in range(COUPLES)
        for part in (0, 1)
    ]
    searches: list[SearchRecord] = []
    for session in range(sessions):
        couple, part, other = (int(rng.integers(high)) for high in (COUPLES, 2, COUPLES))
        second = name_of(couple if rng.random() < 0.9 else other, 1 - part)
        for step, item in enumerate((name_of(couple, part), second)):
            time_ms = (10 * session + 2 * step + 1) * MINUTE_MS
            searches.append(
                SearchRecord(
                    index=len(searches),
                    time_ms=time_ms,
                    user=f"user-{session}",
                    session=f"session-{session}",
                    query=f"q{int(rng.integers(5))}",
                    clicked=item,
                    click_time_ms=time_ms + 1000,
                )
            )
    return Source(name="paired shop", items=items, searches=searches)


def couple_vectors(known: int = COUPLES, *, seed: int = 3) -> bytes:
    """`weights.npz` of which only the item table is there: the items of the first `known` couples lie side by side."""
    rng = np.random.Generator(np.random.PCG64(seed))
    table = np.zeros((BUCKETS + 1, 32), np.float32)
    for couple in range(known):
        middle = rng.normal(size=32)
        for part in (0, 1):
            number = as_item_numbers(np.array([item_hash(name_of(couple, part))], np.uint64))[0]
            table[1 + number % BUCKETS] = middle + 0.1 * rng.normal(size=32)
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **{"text.items.weight": table})
    return sink.getvalue()


def base_version(repository: Path, source: Source, rows: int, weights: bytes | None) -> Path:
    """A version as QHRank's are, as far as `similar` looks at it."""
    files = {"model.onnx": b"none", "golden.npz": _no_golden(), "metrics.json": b"{}"}
    if weights is not None:
        files["weights.npz"] = weights

    about = About(trained_on=source.name, frontier={"rows": rows}, seed=7)
    return write_version(repository, "ranker", 2, files, triton_config("ranker"), about)


def _no_golden() -> bytes:
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, scores=np.zeros((1, 1), np.float32), top10=np.zeros((1, 1), np.int64))
    return sink.getvalue()
