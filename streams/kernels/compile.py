"""How a kernel is compiled: once, for one signature, without the interpreter lock.

numba keeps machine code beside a source file and looks only at *that* file to tell whether it is stale, although
constants and small functions of other files are compiled in. A digest that silently came from last week's constants
would be worse than any compile time, so the cache folder is named by a hash of all kernel sources together.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import xxhash
from numba import types

F = TypeVar("F", bound=Callable[..., Any])
_config: Any = numba.config
_njit: Any = numba.njit
to_int: Any = np.int64
"""Makes a signed integer inside a kernel, where mixing it with an unsigned one would make a float."""

if _config.DISABLE_JIT:
    # Wrapping around 2**64 is what the hashes are made of; only the interpreted scalars would warn about it.
    np.seterr(over="ignore")

U8_VIEW = types.Array(types.uint8, 1, "C", readonly=True)
U8_ROWS_VIEW = types.Array(types.uint8, 2, "C", readonly=True)
U16_VIEW = types.Array(types.uint16, 1, "C", readonly=True)
I16_VIEW = types.Array(types.int16, 1, "C", readonly=True)
I32_VIEW = types.Array(types.int32, 1, "C", readonly=True)
I64_VIEW = types.Array(types.int64, 1, "C", readonly=True)
U64_VIEW = types.Array(types.uint64, 1, "C", readonly=True)
U64_ROWS_VIEW = types.Array(types.uint64, 2, "C", readonly=True)
U8 = types.uint8[::1]
I32 = types.int32[::1]
I32_ROWS = types.int32[:, ::1]
I64 = types.int64[::1]
U64 = types.uint64[::1]
U64_ROWS = types.uint64[:, ::1]
I64_ROWS = types.int64[:, ::1]
F64 = types.float64[::1]
F64_ROWS = types.float64[:, ::1]
F64_CUBE = types.float64[:, :, ::1]
i64 = types.int64
u64 = types.uint64
f64 = types.float64
none = types.void


@functools.cache
def cache_folder() -> Path:
    """Where the machine code of exactly these sources is kept."""
    here = Path(__file__).parent
    sources = xxhash.xxh3_64()
    for path in sorted(here.glob("*.py")):
        sources.update(path.name.encode() + path.read_bytes())
    pycache = here / "__pycache__"
    if os.access(pycache if pycache.exists() else here, os.W_OK):
        root = pycache
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "meridian"
    return root / f"kernels-{sources.hexdigest()}"


def _jit(function: F, *signature: Any) -> F:
    before = _config.CACHE_DIR
    _config.CACHE_DIR = str(cache_folder())
    try:
        jit = _njit(*signature, cache=True, nogil=True, boundscheck=False, error_model="numpy")
        return cast("F", jit(function))
    finally:
        _config.CACHE_DIR = before


def compiled(signature: Any) -> Callable[[F], F]:
    """Compile for exactly this signature, when the module is imported, or load that from the cache."""
    return functools.partial(_jit_as, signature)


def _jit_as(signature: Any, function: F) -> F:
    return _jit(function, signature)


def inlined(function: F) -> F:
    """A small function that only kernels call; it is compiled into each of them."""
    return _jit(function)
