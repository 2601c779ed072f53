"""The features of a ranking as they would be if no click had ever been counted.

What a ranker is worth without the stream is a question of its own: after the loss of a region's counters, or on the
first day of a shop. `models.encode` gives certain values when all counters are empty; these are put in here, so that
a model can be trained and judged on lists of either kind. What the user did just now, titles and prices stay.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.encode import FEATURE, FEATURE_NAMES

_NO_SHARE: Final = float(np.log(0.1))
_NO_POPULARITY: Final = float(np.log(0.25))
COUNTERS: Final = {
    "query_log_short": _NO_SHARE,
    "query_log_long": _NO_SHARE,
    "query_log_all": _NO_SHARE,
    "query_share_short": 0.0,
    "query_share_long": 0.0,
    "query_known": 0.0,
    "query_known_short": 0.0,
    "variant_share_short": 0.0,
    "variant_share_long": 0.0,
    "variant_known": 0.0,
    "popularity_log_short": _NO_POPULARITY,
    "popularity_log_long": _NO_POPULARITY,
    "popularity_share_short": 0.0,
    "popularity_share_long": 0.0,
    "trend": 0.0,
    "purchases": 0.0,
    "co_clicks": 0.0,
    "co_share": 0.0,
}
"""Features that are made of counters, with their values when nothing was counted; `blend` follows from text then."""
_PLACES: Final = np.array([FEATURE[name] for name in COUNTERS])
_EMPTY: Final = np.array(list(COUNTERS.values()), np.float32)
_OF_QUERIES: Final = np.array([FEATURE[name] for name in ("query_log_short", "query_log_long", "query_log_all")])

Float = npt.NDArray[np.float32]


def without_counters(features: npt.NDArray[Any], items: npt.NDArray[np.int64], asked: npt.NDArray[np.bool_]) -> Float:
    """Features (n, K, F) of items (n, K; 0 is padding) as float32, of rows that had a query (`asked`, n) and others."""
    assert features.shape[-1] == len(FEATURE_NAMES)
    bare: Float = features.astype(np.float32)
    bare[..., _PLACES] = _EMPTY
    bare[np.ix_(~asked, np.arange(bare.shape[1]), _OF_QUERIES)] = 0.0
    text = bare[..., FEATURE["coverage"]] + bare[..., FEATURE["spelling"]] + bare[..., FEATURE["initials"]]
    known = items != 0
    guess = np.where(known, 0.02 + text**4, 0.0)
    share = guess / np.maximum(guess.sum(axis=-1, keepdims=True), 1e-9)
    bare[..., FEATURE["blend"]] = share
    bare[..., FEATURE["blend_log"]] = np.log(share + 1e-3)
    bare[~known] = 0.0
    return bare
