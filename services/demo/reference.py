"""The digest of all logs replayed from zero, by a process of its own: what the running states are held against."""

import json
import os
import subprocess
import sys

import msgspec

from services.common.settings import environment_of
from services.demo.deployment import DemoDeployment
from services.demo.errors import DemoError
from services.processor.client import StateSummary
from services.region.deploy import region_settings


def reference_digest(deployment: DemoDeployment, region: str, live: StateSummary) -> str | None:
    """Replay the logs in `region`'s Kafka from zero up to the frontier of `live`. Raises DemoError."""
    until = json.dumps([list(row) for row in live.frontier])
    replayed = subprocess.run(  # noqa: S603 - this project's own command
        [sys.executable, "-m", "services.cli", "digest", "--from-zero", "--until", until, "--json"],
        env={**os.environ, **environment_of(region_settings(deployment.sites, deployment.sites.site(region)))},
        capture_output=True,
        text=True,
        check=False,
    )
    if replayed.returncode != 0:
        raise DemoError(f"`meridian digest` ended with {replayed.returncode}: {replayed.stderr.strip()[-500:]}")
    try:
        found = msgspec.json.decode(replayed.stdout, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise DemoError(f"`meridian digest` printed no JSON: {error}") from error
    digest = found.get("digest")
    return digest if isinstance(digest, str) else None
