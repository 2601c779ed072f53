"""The numbers that stand for queries and items, computed from text.

The fold computes them in a kernel straight from a frame's dictionary buffers; whoever asks the state about a query
or an item must arrive at the same number, so both go through `kernels.mix.hash_bytes`.
"""

from typing import Final

import numpy as np

from streams.kernels.mix import hash_bytes, identity64


def query_hash(text: str) -> int:
    """The number (uint64) of a query. ASCII case, spaces and punctuation make no difference."""
    raw = text.encode()
    return int(hash_bytes(np.frombuffer(raw, np.uint8), 0, len(raw), 1))


def item_hash(text: str) -> int:
    """The number (uint64) of an item id, byte for byte."""
    raw = text.encode()
    return int(hash_bytes(np.frombuffer(raw, np.uint8), 0, len(raw), 0))


def identity_hash(identity: bytes) -> int:
    """The number (uint64, never 0) by which the fold knows an event; `identity` is 16 bytes."""
    low, high = np.frombuffer(identity, np.uint64)
    return int(identity64(low, high))


NO_QUERY: Final = query_hash("")
"""The number of a query without a single letter or digit; clicks under it are not counted by query."""
