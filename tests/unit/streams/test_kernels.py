"""`python -m streams.kernels`: an image has all machine code beforehand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import streams.kernels

THEN = """
import runpy, sys
runpy.run_module("streams.kernels", run_name="__main__")
print(*(name for name in sys.modules if name.startswith("streams.kernels.")))
"""


def test_all_kernels_are_compiled_at_once() -> None:
    """Each module, without a list that somebody would have to keep."""
    folder = Path(streams.kernels.__path__[0])
    modules = {f"streams.kernels.{path.stem}" for path in folder.glob("[a-z]*.py")}
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    said = subprocess.run([sys.executable, "-c", THEN], check=True, capture_output=True, text=True, env=environment)
    where, loaded = said.stdout.splitlines()
    assert modules <= set(loaded.split())
    assert Path(where).name.startswith("kernels-")
