"""The hash functions under every table and every digest.

`mix` is the finaliser of splitmix64: a bijection, a few nanoseconds, no table, no seed, the same on every machine.
A log folded by one release must give the digest that another release gives, so nothing in this file may change
without a new `FOLD_VERSION`.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from streams.kernels.compile import U8_VIEW, compiled, i64, inlined, u64

G: Final = np.uint64(0x9E3779B97F4A7C15)
P: Final = np.uint64(0xC2B2AE3D27D4EB4F)
Q: Final = np.uint64(0x165667B19E3779F9)
_C1: Final = np.uint64(0xBF58476D1CE4E5B9)
_C2: Final = np.uint64(0x94D049BB133111EB)
_S27: Final = np.uint64(27)
_S30: Final = np.uint64(30)
_S31: Final = np.uint64(31)
_EIGHT: Final = np.uint64(8)
_FULL: Final = np.uint64(64)
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)


@inlined
def mix(x: np.uint64) -> np.uint64:
    """Spread one 64-bit value over all bits (the finaliser of splitmix64)."""
    x = (x ^ (x >> _S30)) * _C1
    x = (x ^ (x >> _S27)) * _C2
    return x ^ (x >> _S31)


@inlined
def key(tag: np.uint64, a: np.uint64, b: np.uint64) -> np.uint64:
    """Hash of what a counter counts: which table (tag), and its two halves."""
    return mix(mix(a + tag * G) ^ (b * P))


@inlined
def identity64(low: np.uint64, high: np.uint64) -> np.uint64:
    """The 64 bits that stand for a 128-bit identity; never 0, which marks an empty slot."""
    e = mix(mix(low + G) ^ (high * P))
    return e if e != _ZERO else _ONE


@compiled(u64(U8_VIEW, i64, i64, i64))
def hash_bytes(raw: npt.NDArray[np.uint8], start: int, stop: int, fold_case: int) -> np.uint64:
    """Hash `raw[start:stop]`, eight bytes at a step.

    With `fold_case`, ASCII letters count as lower case and other ASCII characters than letters and digits are left
    out; bytes of 128 and above count as they are, so that no Unicode table is part of the state.
    """
    h = _ZERO
    word = _ZERO
    shift = _ZERO
    length = 0
    for j in range(start, stop):
        c = raw[j]
        if fold_case != 0 and c < 128:
            if 65 <= c <= 90:
                c = np.uint8(c + 32)
            elif not (97 <= c <= 122 or 48 <= c <= 57):
                continue
        word |= np.uint64(c) << shift
        shift += _EIGHT
        length += 1
        if shift == _FULL:
            h = mix(h ^ (word * P))
            word = _ZERO
            shift = _ZERO
    if shift != _ZERO:
        h = mix(h ^ (word * Q))
    return mix(h + np.uint64(length) * G)
