"""`python -m streams.kernels` compiles all of them into the cache: what an image or an installation does beforehand."""

from __future__ import annotations

import importlib
import pkgutil

import streams.kernels
from streams.kernels.compile import cache_folder


def main() -> None:
    """Import every module of kernels, which compiles it, and say where the machine code lies."""
    for module in pkgutil.iter_modules(streams.kernels.__path__):
        if module.name != "__main__":
            importlib.import_module(f"streams.kernels.{module.name}")
    print(cache_folder())


if __name__ == "__main__":
    main()
