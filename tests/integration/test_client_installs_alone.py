"""The client library is a distribution of its own: its wheel holds the sources and types, and works elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APP = """
import asyncio, sys
from meridian_client import Click, GatewayUnavailable, MeridianClient, Unknown

async def main():
    async with MeridianClient("http://127.0.0.1:9", source="/apps/alone") as client:
        (outcome,) = await client.publish([Click(user="ann", item="a")], timeout_seconds=0.2)
        assert isinstance(outcome, Unknown), outcome
        try:
            await client.search("ann", "usb", timeout_ms=100)
        except GatewayUnavailable:
            pass
    assert not [name for name in sys.modules if name.split(".")[0] in ("services", "streams", "models")]

asyncio.run(main())
print("fine")
"""


def test_the_wheel_works_without_the_rest(tmp_path: Path) -> None:
    """Built from its folder, put somewhere else, used by an app that imports nothing of this project."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT / "services" / "client")], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("meridian_client-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert {"meridian_client/__init__.py", "meridian_client/py.typed"} <= names
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        archive.extractall(tmp_path / "site")
    needed = {line.removeprefix("Requires-Dist: ").split("<")[0].split(">")[0] for line in metadata.splitlines()
              if line.startswith("Requires-Dist")}  # fmt: skip
    assert needed == {"aiohttp", "msgspec"}
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    ended = subprocess.run(
        [sys.executable, "-c", APP], check=False, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert ended.stdout == "fine\n", ended.stderr
