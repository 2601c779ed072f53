"""How fast a whole region answers searches, with the region and the load generator on the same machine.

    python -m bench.end_to_end [--data FOLDER] [--bulk 30000] [--searches 3000] [--rate 50]

Starts a region of its own, publishes a log in bulk over HTTP (events a second), then asks for rankings in an open loop
and publishes each click. Latency counts from the time at which a search should have been sent. Also says how much
memory each process holds and how many cores it took in the ranked part. Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from models.records import Source
from services.common.clock import SystemClock
from services.demo.region import DemoRegion, running_region
from services.region.status import memory_bytes
from services.replay.cli import open_log
from services.replay.progress import ProgressBoard
from services.replay.report import ReplayReport
from services.replay.run import Replay, ReplayOptions

PROCESSES = ("kafka", "inference", "processor", "gateway")


def usage(region: DemoRegion) -> dict[str, tuple[float, float]]:
    """Processor seconds and proportional memory in MB of each process of the region."""
    found = {}
    for name in PROCESSES:
        identity = region.process(name).identity
        if identity is not None:
            fields = Path(f"/proc/{identity.pid}/stat").read_text().rpartition(")")[2].split()
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            found[name] = (seconds, (memory_bytes(identity.pid) or 0) / 1e6)
    return found


async def measure(source: Source, region: DemoRegion, options: argparse.Namespace) -> dict[str, object]:
    """Bulk, then the open loop."""
    clock = SystemClock()
    gateway = [region.addresses["gateway"]]
    with ProgressBoard() as board:
        bulk = await Replay(source, ReplayOptions(gateways=gateway, limit=options.bulk), board).run()
        before, own_before, started = usage(region), sum(os.times()[:2]), clock.monotonic()
        ranked = ReplayOptions(
            gateways=gateway, skip=options.bulk, limit=options.searches, rank=True, rate=options.rate
        )
        report = await Replay(source, ranked, board).run()
        after, seconds = usage(region), clock.monotonic() - started
    cores = {name: round((after[name][0] - before[name][0]) / seconds, 3) for name in after if name in before}
    cores["load generator"] = round((sum(os.times()[:2]) - own_before) / seconds, 3)
    return {
        "source": source.name,
        "bulk_events_per_second": round(bulk.bulk_events_per_second or 0),
        "rate_per_second": options.rate,
        **_ranked(report),
        "cores_used": cores,
        "memory_mb": {name: round(memory) for name, (_, memory) in after.items()},
    }


def _ranked(report: ReplayReport) -> dict[str, object]:
    if report.rankings is None or report.latency is None:
        sys.exit("nothing was ranked: give --searches above 0")
    return {
        "rankings": msgspec.to_builtins(report.rankings),
        "latency": msgspec.to_builtins(report.latency),
    }


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="shop")
    parser.add_argument("--bulk", type=int, default=30_000)
    parser.add_argument("--searches", type=int, default=3_000)
    parser.add_argument("--rate", type=float, default=50.0)
    options = parser.parse_args()
    source = open_log(options.data, "", [], None, options.bulk + options.searches)
    with TemporaryDirectory(prefix="meridian-bench-") as folder, running_region(Path(folder) / "region") as region:
        found = asyncio.run(measure(source, region, options))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
