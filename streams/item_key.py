"""The number of an item, for whoever has no other use for the kernels.

The same number as `hashing.item_hash`, which calls a compiled kernel. Loading the compiler costs a process some 125 MB
and half a second; a gateway needs this number only to choose the partition of catalogue events, so it computes it in
plain Python (a microsecond for each eight bytes). A property test holds the two together.
"""

from typing import Final

_MASK: Final = (1 << 64) - 1
_G: Final = 0x9E3779B97F4A7C15
_P: Final = 0xC2B2AE3D27D4EB4F
_Q: Final = 0x165667B19E3779F9
_C1: Final = 0xBF58476D1CE4E5B9
_C2: Final = 0x94D049BB133111EB


def item_key(item: str) -> int:
    """The number (uint64) of an item id, byte for byte."""
    raw = item.encode()
    hashed = 0
    whole = len(raw) & ~7
    for start in range(0, whole, 8):
        hashed = _mix(hashed ^ (int.from_bytes(raw[start : start + 8], "little") * _P & _MASK))
    if whole < len(raw):
        hashed = _mix(hashed ^ (int.from_bytes(raw[whole:], "little") * _Q & _MASK))
    return _mix((hashed + len(raw) * _G) & _MASK)


def _mix(x: int) -> int:
    """The finaliser of splitmix64, as in `kernels.mix`."""
    x = (x ^ (x >> 30)) * _C1 & _MASK
    x = (x ^ (x >> 27)) * _C2 & _MASK
    return x ^ (x >> 31)
