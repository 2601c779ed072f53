"""What is in the image of our own processes, found by starting one."""

from __future__ import annotations

import docker
import pytest

from tests.support.containers import image_or_skip

pytestmark = pytest.mark.docker
OURS = ("MERIDIAN_IMAGE", "meridian:0.1.0")
SEEDED = """
import pathlib, services.processor.assembly
from services.region.containers import KERNELS
compiled = {path.relative_to("/tmp/cache") for path in pathlib.Path("/tmp/cache").rglob("*.nb?")}
there = {path.relative_to(KERNELS) for path in KERNELS.rglob("*.nb?")}
print("compiled anew:", *sorted(path.name for path in compiled - there))
"""
SEED = """
from pathlib import Path
from services.region.containers import KERNELS, seed_kernels
seed_kernels(KERNELS, Path("/tmp/cache"))
"""


def test_a_processor_in_the_image_compiles_nothing() -> None:
    """Else each start of a region costs ten seconds of a core, also the one after a disaster."""
    said = docker.from_env().containers.run(
        image_or_skip(OURS),
        ["sh", "-c", f"python -c '{SEED}' && python -c '{SEEDED}'"],
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},
        network_mode="none",
        remove=True,
    )
    assert said.decode().strip() == "compiled anew:"
