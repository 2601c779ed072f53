"""Cases without a log: queries that name an item in their tokens, counters that know a little, made from a seed."""

from __future__ import annotations

import numpy as np

from models.cases import Cases
from models.encode import FEATURE, FEATURE_NAMES, QUERY_TOKENS
from models.retrieval import HISTORY_MAX

ITEMS = 40


def small_cases(count: int, *, width: int = 16, seed: int = 1, first: int = 0) -> Cases:
    """Case by case: an item is wanted, two of the query's tokens are its own, and its counters are a bit higher."""
    rng = np.random.Generator(np.random.PCG64(seed))
    items = np.stack([rng.permutation(ITEMS)[:width] for _ in range(count)]).astype(np.int64) + 1
    places = np.arange(width) >= rng.integers(width // 2, width + 1, count)[:, None]
    items[places] = 0
    clicked = (rng.random(count) * (items != 0).sum(axis=1)).astype(np.int16)
    wanted = items[np.arange(count), clicked]
    tokens = np.zeros((count, QUERY_TOKENS), np.int32)
    tokens[:, 0], tokens[:, 1] = wanted, 100 + wanted
    tokens[:, 2] = 200 + rng.integers(0, 50, count)
    history = np.zeros((count, HISTORY_MAX), np.int64)
    history[::5, 0] = wanted[::5]
    feats = rng.normal(size=(count, width, len(FEATURE_NAMES))).astype(np.float32)
    feats[np.arange(count), clicked, FEATURE["blend_log"]] += 1.5
    feats[:, :, FEATURE["blend"]] = np.exp(feats[:, :, FEATURE["blend_log"]])
    feats[items == 0] = 0
    return Cases(
        query_tokens=tokens,
        history_items=history,
        history_types=(history != 0).astype(np.int32) * 2,
        history_gap=(history != 0).astype(np.int32) * 3,
        candidate_items=items,
        candidate_feats=feats,
        clicked=clicked,
        clicked_item=wanted,
        index=np.arange(first, first + count),
        time_ms=np.arange(first, first + count) * 1000,
        query=np.array([f"item number {number}" for number in wanted.tolist()]),
    )
