"""How titles and queries become comparable numbers.

Words are folded (case, accents, apostrophes, Roman numerals) and compared by hash; spelling is compared by the letter
trigrams of the text with all spaces taken out, so that `xmen`, `x-men` and `X Men` are near each other. A text's
trigrams are kept as bits of a fixed-width signature: comparing one query with hundreds of titles is then a handful of
vectorised instructions, where sets of strings would cost milliseconds.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

WORDS_MAX: Final = 16
"""Words of a title or query beyond this are not compared."""
SIGNATURE_LANES: Final = 8
_SIGNATURE_BITS: Final = SIGNATURE_LANES * 64
_ROMAN: Final = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9"}
_WORD: Final = re.compile(r"[^\W_]+")
_APOSTROPHES: Final = str.maketrans("", "", "'`\u2019\u00b4")
_CUT: Final = 400
"""Characters of a text that are looked at."""


@dataclass(frozen=True, slots=True)
class Text:
    """A title or a query, folded."""

    words: tuple[str, ...]
    word_hashes: npt.NDArray[np.uint64]
    """Shape (len(words),), none zero."""
    squashed: str
    """All letters and digits without spaces."""
    initials: str
    """First letters, numbers in full: `codmw3`."""
    numbers: frozenset[str]
    """The words that hold a digit."""
    signature: npt.NDArray[np.uint64]
    """Shape (8,): one bit for each trigram."""


def word_hash(word: str) -> int:
    """Number (uint64, never 0) of a folded word."""
    return xxhash.xxh3_64_intdigest(word.encode()) or 1


def fold_words(text: str) -> list[str]:
    """The words of a text: lower case, no accents, no apostrophes, Roman numerals as digits."""
    plain = text[:_CUT].lower().translate(_APOSTROPHES)
    if not plain.isascii():
        decomposed = unicodedata.normalize("NFKD", plain)
        plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    return [_ROMAN.get(word, word) for word in _WORD.findall(plain)]


def trigrams(squashed: str) -> list[str]:
    """Overlapping letter triples, the first one anchored at the start; a shorter text is its own."""
    marked = "^" + squashed
    return [marked[at : at + 3] for at in range(max(len(marked) - 2, 1))] if squashed else []


def one_slip(one: str, other: str) -> bool:
    """Whether two words differ by one letter put in, left out, exchanged for another, or changed with its neighbour."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    if len(one) == len(other):
        swapped = one[start + 1 : start + 2] + one[start] == other[start : start + 2]
        return one[start + 1 :] == other[start + 1 :] or (swapped and one[start + 2 :] == other[start + 2 :])
    shorter, longer = sorted((one, other), key=len)
    return shorter[start:] == longer[start + 1 :]


def signature_of(squashed: str) -> npt.NDArray[np.uint64]:
    """Shape (8,): the trigrams of a text as bits."""
    bits = 0
    for trigram in trigrams(squashed):
        bits |= 1 << (xxhash.xxh32_intdigest(trigram.encode()) % _SIGNATURE_BITS)
    return np.frombuffer(bits.to_bytes(SIGNATURE_LANES * 8, "little"), np.uint64)


def read_title(text: str) -> Text:
    """Fold a title."""
    words = tuple(fold_words(text)[:WORDS_MAX])
    squashed = "".join(words)
    return Text(
        words=words,
        word_hashes=np.array([word_hash(word) for word in words], np.uint64),
        squashed=squashed,
        initials="".join(word if word[0].isdigit() else word[0] for word in words),
        numbers=frozenset(word for word in words if any(character.isdigit() for character in word)),
        signature=signature_of(squashed),
    )


@lru_cache(maxsize=8192)
def read_query(text: str) -> Text:
    """Fold a query; remembered, since queries repeat."""
    return read_title(text)
