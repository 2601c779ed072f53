"""From candidates and counters to the tensors that a model scores. The same code trains and serves.

The tensors are those of the full ranker to come (query tokens, history, candidates), so that it can take the small
model's place without any caller noticing; the small model looks at `candidate_feats` alone. Features are generic on
purpose: shares, logarithms and overlaps mean the same in every shop, so that weights learned in one hold in another.
Counters are features and are never baked into weights: a click counts for the very next ranking.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xxhash

from models.catalogue import Catalogue
from models.counters import CARTS, CLICKS, LONG, PURCHASES, SHORT, UNDECAYED, CounterView, Counts
from models.retrieval import HISTORY_MAX, Candidates, Reading
from models.text import Text, trigrams
from streams.asks import Ask
from streams.kinds import Kind

QUERY_TOKENS: Final = 24
QUERY_WORDS_MAX: Final = 8
TOKEN_BUCKETS: Final = 8_192
"""Tokens are in [1, TOKEN_BUCKETS); 0 is padding."""
GAP_BUCKETS: Final = 32
_POSITIVE: Final = np.uint64(0x7FFF_FFFF_FFFF_FFFF)
_SHARE_PRIOR: Final = 1.0
_VARIANT_PRIOR: Final = 2.0
_HISTORY_HALF_LIFE_MS: Final = 86_400_000.0

Tensors = dict[str, npt.NDArray[Any]]
Float = npt.NDArray[np.float32]

FEATURE_NAMES: Final = (
    "query_log_short",
    "query_log_long",
    "query_log_all",
    "query_share_short",
    "query_share_long",
    "query_known",
    "query_known_short",
    "variant_share_short",
    "variant_share_long",
    "variant_known",
    "popularity_log_short",
    "popularity_log_long",
    "popularity_share_short",
    "popularity_share_long",
    "trend",
    "purchases",
    "coverage",
    "title_coverage",
    "spelling",
    "likeness",
    "lexical_best",
    "lexical_gap",
    "numbers_equal",
    "numbers_extra",
    "initials",
    "co_clicks",
    "co_share",
    "touched",
    "touched_for_query",
    "price",
    "blend",
    "blend_log",
)
FEATURE: Final = {name: place for place, name in enumerate(FEATURE_NAMES)}


def encode(ask: Ask, candidates: Candidates, view: CounterView, catalogue: Catalogue) -> Tensors:
    """The model's inputs for one ask and its K candidates (B = 1); see `INPUTS` in models/export.py for the shapes."""
    features = np.zeros((len(candidates), len(FEATURE_NAMES)), np.float32)
    if len(candidates):
        asked = _write_query_counts(features, candidates, view)
        _write_popularity(features, candidates, view)
        _write_text(features, candidates, catalogue)
        _write_history(features, candidates, view, ask.at_ms)
        _write_price(features, catalogue.columns.price[candidates.rows])
        _write_blend(features, asked)
    items, kinds, gaps = _history_tensors(candidates.reading, ask.at_ms)
    return {
        "query_tokens": query_tokens(candidates.reading.typed)[None, :],
        "history_items": items[None, :],
        "history_types": kinds[None, :],
        "history_gap": gaps[None, :],
        "candidate_items": as_item_numbers(candidates.items)[None, :],
        "candidate_feats": features[None, :, :],
    }


def as_item_numbers(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Item hashes as the models take them: positive int64, 0 for padding."""
    return np.maximum((hashes & _POSITIVE).astype(np.int64), 1)


def query_tokens(text: Text) -> npt.NDArray[np.int32]:
    """Shape (24,): up to 8 hashed words, then hashed trigrams; 0 is padding."""
    spelled = [*(f"w:{word}" for word in text.words[:QUERY_WORDS_MAX]), *(f"t:{t}" for t in trigrams(text.squashed))]
    tokens = np.zeros(QUERY_TOKENS, np.int32)
    for place, token in enumerate(spelled[:QUERY_TOKENS]):
        tokens[place] = 1 + xxhash.xxh32_intdigest(token.encode()) % (TOKEN_BUCKETS - 1)
    return tokens


def _history_tensors(
    reading: Reading, at_ms: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Items (0 is padding), kinds + 1, and the logarithm of the age in seconds; each of shape (20,).

    Whoever asks for items like one looks at it now: it is the newest of the history.
    """
    items = np.zeros(HISTORY_MAX, np.int64)
    kinds = np.zeros(HISTORY_MAX, np.int32)
    gaps = np.zeros(HISTORY_MAX, np.int32)
    history = reading.history
    count = min(len(history.item), HISTORY_MAX)
    items[:count] = as_item_numbers(history.item[:count])
    kinds[:count] = history.kind[:count].astype(np.int32) + 1
    seconds = np.maximum(at_ms - history.time_ms[:count], 0) / 1000.0
    gaps[:count] = np.minimum(np.log2(1.0 + seconds).astype(np.int32) + 1, GAP_BUCKETS - 1)
    if reading.like:
        for column, newest in ((items, max(reading.like & int(_POSITIVE), 1)), (kinds, Kind.VIEW + 1), (gaps, 1)):
            column[1:] = column[:-1].copy()
            column[0] = newest
    return items, kinds, gaps


def _write(features: Float, name: str, values: npt.NDArray[Any] | float) -> None:
    features[:, FEATURE[name]] = values


def _write_query_counts(features: Float, candidates: Candidates, view: CounterView) -> Counts:
    """Clicks for the query itself, and for the ways of saying it or parts of it; returns the former, (K, 3)."""
    reading, items = candidates.reading, candidates.items
    asked: Counts = view.query_item_counts(reading.query, items) if reading.query else np.zeros((len(items), 3))
    totals = asked.sum(axis=0)
    if reading.query:
        # Logarithms of shares, not of counts: a shop with ten times the clicks must look the same.
        logs = np.log((asked + 0.1) / (totals + 1.0))
        _write(features, "query_log_short", logs[:, SHORT])
        _write(features, "query_log_long", logs[:, LONG])
        _write(features, "query_log_all", logs[:, UNDECAYED])
        _write(features, "query_share_short", asked[:, SHORT] / (totals[SHORT] + _SHARE_PRIOR))
        _write(features, "query_share_long", asked[:, LONG] / (totals[LONG] + _SHARE_PRIOR))
        _write(features, "query_known", totals[LONG] / (totals[LONG] + 2.0))
        _write(features, "query_known_short", totals[SHORT] / (totals[SHORT] + 8.0))
    shares = np.zeros((len(items), 3))
    trust = 0.0
    for variant in reading.variants:
        counts = view.query_item_counts(variant.query, items)
        sums = counts.sum(axis=0)
        if sums[UNDECAYED] == 0:
            continue
        known = float(sums[LONG] / (sums[LONG] + _VARIANT_PRIOR))
        weight = variant.weight**2 * known
        shares += weight * counts / np.maximum(sums, 1e-9)
        trust += weight
    if trust:
        _write(features, "variant_share_short", shares[:, SHORT] / trust)
        _write(features, "variant_share_long", shares[:, LONG] / trust)
        _write(features, "variant_known", min(trust, 2.0))
    return asked


def _write_popularity(features: Float, candidates: Candidates, view: CounterView) -> None:
    """Clicks of each candidate against those of the most clicked one, so that a shop's size does not show."""
    counts = view.item_counts(candidates.items)
    short, long = counts[:, CLICKS, SHORT], counts[:, CLICKS, LONG]
    most_short, most_long = float(short.max()), float(long.max())
    _write(features, "popularity_log_short", np.log((short + 0.25) / (most_short + 1.0)))
    _write(features, "popularity_log_long", np.log((long + 0.25) / (most_long + 1.0)))
    _write(features, "popularity_share_short", short / max(most_short, 1.0))
    _write(features, "popularity_share_long", long / max(most_long, 1.0))
    # The long lane forgets five times as slowly: of a steady item it holds about five times as much.
    _write(features, "trend", np.log((short + 1.0) / (long / 5.0 + 1.0)))
    bought = counts[:, CARTS, LONG] + 4.0 * counts[:, PURCHASES, LONG]
    _write(features, "purchases", bought / (long + 5.0))


def _write_blend(features: Float, asked: Counts) -> None:
    """One estimate of each candidate's share of the query's clicks.

    Recent clicks, backed off to older ones, those to the variants of the query, and those to text weighted with
    popularity: the usual chain of Dirichlet priors.
    """
    text = features[:, FEATURE["coverage"]] + features[:, FEATURE["spelling"]] + features[:, FEATURE["initials"]]
    guess = (0.02 + text**4) * (0.03 + features[:, FEATURE["popularity_share_long"]])
    trust = features[:, FEATURE["variant_known"]]
    prior = (0.5 * guess / guess.sum() + trust * features[:, FEATURE["variant_share_long"]]) / (0.5 + trust)
    long = (asked[:, LONG] + 2.0 * prior) / (asked[:, LONG].sum() + 2.0)
    short = (asked[:, SHORT] + 4.0 * long) / (asked[:, SHORT].sum() + 4.0)
    _write(features, "blend", short)
    _write(features, "blend_log", np.log(short + 1e-3))


def _write_text(features: Float, candidates: Candidates, catalogue: Catalogue) -> None:
    match, reading = candidates.match, candidates.reading
    if not reading.words:
        return
    _write(features, "coverage", match.coverage)
    _write(features, "title_coverage", match.title_coverage)
    _write(features, "spelling", match.spelling)
    _write(features, "likeness", match.likeness)
    best = float(match.score.max())
    _write(features, "lexical_best", (match.score >= best - 1e-6) & (best > 0))
    _write(features, "lexical_gap", best - match.score)
    numbers, squashed = reading.typed.numbers, reading.typed.squashed
    abbreviation = squashed if 2 <= len(squashed) <= 8 else ""
    equal = np.zeros(len(candidates), np.float32)
    initials = np.zeros(len(candidates), np.float32)
    for place, row in enumerate(candidates.rows.tolist()):
        title = catalogue.text(row)
        if numbers and title.numbers:
            equal[place] = len(numbers & title.numbers)
        if abbreviation and abbreviation in title.initials:
            initials[place] = 1.0
    _write(features, "numbers_equal", equal - (len(numbers) - equal))
    _write(features, "numbers_extra", catalogue.columns.number_count[candidates.rows] - equal)
    _write(features, "initials", initials)


def _write_history(features: Float, candidates: Candidates, view: CounterView, at_ms: int) -> None:
    reading, items = candidates.reading, candidates.items
    if len(reading.anchors):
        together: Counts = view.co_counts(reading.anchors, items)
        _write(features, "co_clicks", np.log1p(together[:, LONG]))
        _write(features, "co_share", together[:, LONG] / (together[:, LONG].sum() + _SHARE_PRIOR))
    history = reading.history
    if not len(history.item):
        return
    place_of = {value: place for place, value in enumerate(items.tolist())}
    touched, for_query = np.zeros(len(items)), np.zeros(len(items))
    ages = np.maximum(at_ms - history.time_ms, 0) / _HISTORY_HALF_LIFE_MS
    recency = np.exp2(-ages)
    newest_search_is_this = _follows_query(reading)
    for index, (value, kind) in enumerate(zip(history.item.tolist(), history.kind.tolist(), strict=True)):
        place = place_of.get(value)
        if place is None or kind == Kind.SEARCH:
            continue
        touched[place] += recency[index]
        if newest_search_is_this[index]:
            for_query[place] += recency[index]
    _write(features, "touched", np.minimum(touched, 4.0))
    _write(features, "touched_for_query", np.minimum(for_query, 4.0))


def _follows_query(reading: Reading) -> list[bool]:
    """For each event of the history: whether the search right before it was for the query asked now."""
    follows: list[bool] = []
    asked = False
    pairs = zip(reading.history.item.tolist(), reading.history.kind.tolist(), strict=True)
    for value, kind in reversed(list(pairs)):
        if kind == Kind.SEARCH:
            asked = value == reading.query
        follows.append(asked and kind != Kind.SEARCH)
    return follows[::-1]


def _write_price(features: Float, price: Float) -> None:
    """How far an item's price is from the candidates' usual one, in logarithms; 0 where it is unknown."""
    known = np.isfinite(price) & (price > 0)
    if known.any():
        logs = np.log(np.where(known, price, 1.0))
        _write(features, "price", np.where(known, logs - np.median(logs[known]), 0.0))


def counters_score(tensors: Tensors) -> Float:
    """Rung 2, shape (K,): the blended share of the query's clicks, then what goes with the user's history.

    All zero when no click on any candidate is known: then the counters have nothing to say.
    """
    features: Float = tensors["candidate_feats"][0]
    if not features[:, FEATURE["popularity_share_long"]].any():
        return np.zeros(len(features), np.float32)
    score: Float = features[:, FEATURE["blend"]] + np.float32(0.1) * features[:, FEATURE["co_share"]]
    return score


def popularity_score(tensors: Tensors) -> Float:
    """Rung 3, shape (K,): clicks of the last days against the most clicked candidate's, whatever was asked."""
    features: Float = tensors["candidate_feats"][0]
    score: Float = features[:, FEATURE["popularity_share_short"]] + 0.01 * features[:, FEATURE["popularity_share_long"]]
    return score
