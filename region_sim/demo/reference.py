"""The digest of all logs replayed from zero, by a process of its own: what the running states are held against."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from region_sim.errors import DrillBroken
from services.common.deployment import Deployment
from services.common.settings import environment_of
from services.region.deploy import region_settings


async def reference_digest(deployment: Deployment, region: str, frontier: Sequence[tuple[str, int, int]]) -> str | None:
    """Replay the logs in `region`'s Kafka from zero up to `frontier`; None when it says none. Raises DrillBroken."""
    until = json.dumps([list(row) for row in frontier])
    replayed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services.cli", "digest", "--from-zero", "--until", until, "--json"],
        env={**os.environ, **environment_of(region_settings(deployment, deployment.site(region)))},
        capture_output=True,
        text=True,
        check=False,
    )
    if replayed.returncode != 0:
        raise DrillBroken(f"`meridian digest` ended with {replayed.returncode}: {replayed.stderr.strip()[-500:]}")
    try:
        found = msgspec.json.decode(replayed.stdout, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise DrillBroken(f"`meridian digest` printed no JSON: {error}") from error
    digest = found.get("digest")
    return digest if isinstance(digest, str) else None
