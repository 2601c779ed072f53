"""Queries and histories changed on purpose: by a little, from a seed, and never the original."""

from __future__ import annotations

import numpy as np
import pytest

from models.data.augmentation import (
    changed_query_tokens,
    history_lengths,
    with_tokens_dropped,
    with_typo,
    with_word_dropped,
)
from models.encode import query_tokens
from models.text import one_slip, read_query


def generator(seed: int = 1) -> np.random.Generator:
    """Chance from a seed."""
    return np.random.Generator(np.random.PCG64(seed))


def test_a_typo_is_one_slip_in_one_word() -> None:
    """Whatever the seed: one word differs, by one letter or two neighbours; all four kinds of slip come up."""
    lengths = set()
    for seed in range(200):
        found = with_typo("modern warfare ps3", generator(seed)).split(" ")
        pairs = [pair for pair in zip(["modern", "warfare", "ps3"], found, strict=True) if pair[0] != pair[1]]
        assert len(pairs) <= 1
        assert all(one_slip(*pair) for pair in pairs)
        lengths |= {len(after) - len(before) for before, after in pairs}
    assert lengths == {-1, 0, 1}


@pytest.mark.parametrize("query", ["", "ps3", "a bc def"])
def test_short_words_are_left_alone(query: str) -> None:
    """A typo in a word of three letters makes another word."""
    assert with_typo(query, generator()) == query


def test_a_word_less() -> None:
    """One of the words is gone; a single one stays."""
    found = {with_word_dropped("call of duty", generator(seed)) for seed in range(40)}
    assert found == {"of duty", "call duty", "call of"}
    assert with_word_dropped("halo", generator()) == "halo"


def test_the_asked_share_of_queries_changes() -> None:
    """Tokens of the changed text, everything else as it was, and the same again from the same seed."""
    queries = np.array(["modern warfare", "assassins creed"] * 200)
    tokens = np.stack([query_tokens(read_query(str(query))) for query in queries])
    before = tokens.copy()
    found = changed_query_tokens(tokens, queries, 0.25, generator())
    changed = (found != tokens).any(axis=1)
    assert 60 < changed.sum() < 140
    assert np.array_equal(tokens, before)
    assert np.array_equal(found, changed_query_tokens(tokens, queries, 0.25, generator()))
    assert np.array_equal(changed_query_tokens(tokens, queries, 0.0, generator()), tokens)


def test_tokens_and_history_are_forgotten_in_part() -> None:
    """Of the tokens a share; of histories the older part, and never more than there is."""
    tokens = np.ones((500, 24), np.int32)
    assert 0.07 < 1 - with_tokens_dropped(tokens, 0.1, generator()).mean() < 0.13
    kinds = np.zeros((300, 20), np.int32)
    kinds[:200, :8] = 2
    known = history_lengths(kinds, 0.5, generator())
    assert not known[200:].any()
    assert known[:200].max() == 8
    assert 60 < (known[:200] < 8).sum() < 140
