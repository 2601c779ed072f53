"""What a scrape of `/metrics` costs: each process of a running region, after some traffic, and an empty registry.

    python -m bench.metrics [--scrapes 50]

Starts a region of its own, publishes and searches a little, and reads each page so many times in a row. The ratio is to
a page with the facts of a process and nothing else, served by the same kind of server in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from services.common.http import serving
from services.common.metrics import add_metrics_route, new_registry
from services.demo.region import running_region

LIMIT_MS = 50.0
SEARCHES = 40
PROCESSES = ("gateway", "processor", "inference")


def scrape(url: str) -> bytes:
    """One page."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310 - an address of our own
        found: bytes = answer.read()
    return found


def timed(read: Callable[[], bytes], times: int) -> dict[str, float]:
    """Milliseconds of reading a page so many times, and what is in it."""
    taken = []
    page = b""
    for _ in range(times):
        began = time.perf_counter()
        page = read()
        taken.append((time.perf_counter() - began) * 1000)
    taken.sort()
    lines = [line for line in page.splitlines() if line and not line.startswith(b"#")]
    return {
        "series": len(lines),
        "p50_ms": round(taken[len(taken) // 2], 2),
        "p99_ms": round(taken[min(len(taken) - 1, int(0.99 * len(taken)))], 2),
        "worst_ms": round(taken[-1], 2),
    }


async def empty(times: int) -> dict[str, float]:
    """A page with the facts of this process alone."""
    app = web.Application()
    add_metrics_route(app, new_registry())
    async with serving(app, "127.0.0.1", 0) as port:
        return await asyncio.to_thread(timed, lambda: scrape(f"http://127.0.0.1:{port}"), times)


def search(gateway: str, number: int) -> None:
    """Leave what a search leaves in counters, answered or refused."""
    body = json.dumps({"query": f"shoes {number}", "user": f"user-{number}", "session": f"s-{number}"}).encode()
    request = urllib.request.Request(  # noqa: S310 - an address of our own
        f"{gateway}/v1/search", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same
            answer.read()
    except urllib.error.HTTPError as refused:
        refused.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scrapes", type=int, default=50, help="pages to read of each process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_region(Path(directory) / "region") as region:
        for number in range(SEARCHES):
            search(region.addresses["gateway"], number)
        found = {
            name: timed(lambda url=region.addresses[name]: scrape(url), options.scrapes)  # type: ignore[misc]
            for name in PROCESSES
        }
    nothing = asyncio.run(empty(options.scrapes))
    for name, one in found.items():
        one["ratio_to_empty"] = round(one["p50_ms"] / nothing["p50_ms"], 2)
        print(name, one)
    within = all(one["p50_ms"] <= LIMIT_MS for one in found.values())
    series = sum(int(one["series"]) for one in found.values())
    print(json.dumps({"empty": nothing, **found, "series": series, "within_50_ms": within}))


if __name__ == "__main__":
    main()
