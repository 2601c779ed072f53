"""Queries and histories as they might also have come: mistyped, with a word missing, with less known of the user.

Pure functions of what they change and a seeded generator. The text of a query is changed before it is cut into words
and trigrams, so a typo here is what a typo does to the tokens of a real one; the candidates stay what the real query
found.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from models.encode import QUERY_TOKENS, query_tokens
from models.text import read_query

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
TYPO_LENGTH_MIN: Final = 4
"""Characters of a word from which on people are taken to slip; a typo in a shorter one makes another word."""

Tokens = npt.NDArray[np.int32]


def with_typo(query: str, rng: np.random.Generator) -> str:
    """One slip of a finger in one word: a letter put in, left out, exchanged, or swapped with the next one.

    A query without a word of at least `TYPO_LENGTH_MIN` characters stays as it is.
    """
    words = query.split(" ")
    long = [place for place, word in enumerate(words) if len(word) >= TYPO_LENGTH_MIN]
    if not long:
        return query
    place = long[int(rng.integers(len(long)))]
    word = words[place]
    at = int(rng.integers(1, len(word) - 1))
    letter = _LETTERS[int(rng.integers(len(_LETTERS)))]
    slips = (
        word[:at] + letter + word[at:],
        word[:at] + word[at + 1 :],
        word[:at] + letter + word[at + 1 :],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    )
    words[place] = slips[int(rng.integers(len(slips)))]
    return " ".join(words)


def with_word_dropped(query: str, rng: np.random.Generator) -> str:
    """The query without one of its words; one of a single word stays as it is."""
    words = query.split()
    if len(words) < 2:
        return query
    del words[int(rng.integers(len(words)))]
    return " ".join(words)


def changed_query_tokens(
    tokens: Tokens, queries: npt.NDArray[np.str_], share: float, rng: np.random.Generator
) -> Tokens:
    """A copy of tokens (n, 24) in which a share of the queries (n,) has a typo, or, as often, a word less."""
    changed = tokens.copy()
    for row in np.flatnonzero(rng.random(len(queries)) < share).tolist():
        change = with_typo if rng.random() < 0.5 else with_word_dropped
        query = str(queries[row])
        altered = change(query, rng)
        if altered != query:
            changed[row] = query_tokens(read_query(altered))
    return changed


def with_tokens_dropped(tokens: Tokens, share: float, rng: np.random.Generator) -> Tokens:
    """A copy of tokens (n, 24) in which each is padding with a chance of `share`."""
    return np.where(rng.random((len(tokens), QUERY_TOKENS), np.float32) < share, np.int32(0), tokens)


def history_lengths(kinds: npt.NDArray[np.int32], share: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """How much of each history (n, 20; newest first, 0 is padding) is still known: for a share of them less than all.

    Shape (n,). What is forgotten is the older part, as when a user came back after the region's history was cut.
    """
    full = (kinds != 0).sum(axis=1).astype(np.int64)
    cut = (rng.random(len(kinds)) < share) & (full > 0)
    less = np.floor(rng.random(len(kinds)) * full).astype(np.int64)
    kept: npt.NDArray[np.int64] = np.where(cut, less, full)
    return kept
