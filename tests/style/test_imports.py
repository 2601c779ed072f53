"""Imports point one way: streams, models, services; the contracts are in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_imports_point_one_way() -> None:
    """import-linter holds every contract."""
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_supervisor_carries_little() -> None:
    """What lives as long as a region imports neither Kafka, nor Arrow, nor HTTP, nor a terminal library."""
    heavy = {
        "confluent_kafka",
        "pyarrow",
        "numpy",
        "numba",
        "aiohttp",
        "faust",
        "rich",
        "typer",
        "structlog",
        "asyncio",
    }
    code = f"import sys, services.region.main; print(*({heavy!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
