"""How titles and queries become comparable."""

import numpy as np
import pytest

from models.text import WORDS_MAX, fold_words, one_slip, read_query, read_title, signature_of


def test_words_are_folded() -> None:
    """Case, accents, apostrophes and Roman numerals make no difference."""
    assert fold_words("Assassin\u2019s CREED II: Brütal!") == ["assassins", "creed", "2", "brutal"]
    assert fold_words("X-Men 你好") == ["x", "men", "你好"]


def test_squashed_initials_and_numbers() -> None:
    """What abbreviations and numbered parts are compared by."""
    text = read_title("Call of Duty: Modern Warfare 3")
    assert (text.initials, text.squashed, text.numbers) == ("codmw3", "callofdutymodernwarfare3", frozenset({"3"}))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("gears", "geers", True),
        ("gears", "gars", True),
        ("gears", "gearss", True),
        ("gears", "gaers", True),
        ("gears", "gears", False),
        ("gears", "grs", False),
        ("gears", "sgear", False),
        ("ab", "ba", True),
        ("", "a", True),
        ("a", "b", True),
    ],
)
def test_one_slip(one: str, other: str, *, expected: bool) -> None:
    """The four slips of a typing hand, in both directions, and nothing else."""
    assert one_slip(one, other) is one_slip(other, one) is expected


def test_signatures_overlap_like_trigrams() -> None:
    """A typo changes a few bits; another word shares almost none; nothing has no bits."""
    right, wrong, other = (signature_of(word) for word in ("assassinscreed", "assasinscreed", "battlefield"))
    assert np.bitwise_count(right & wrong).sum() > 0.7 * np.bitwise_count(right).sum()
    assert np.bitwise_count(right & other).sum() <= 2
    assert not signature_of("").any()


def test_long_texts_are_bounded() -> None:
    """A page of text is read up to its bound."""
    assert len(read_query("word " * 10_000).words) == WORDS_MAX
