"""What recording every request costs: two regions side by side, one with its rings of spans, one without any.

    python -m bench.tracing [--searches 4000] [--block 200] [--concurrency 4]

Both regions run on this machine at the same time and are asked in turns, a block each, so that whatever else the
machine does falls on both alike. Compared are the CPU time of gateway, processor and inference worker for each search
(as the kernel counts it) and the latency that the caller sees; each as the median over blocks of the ratio between a
block with tracing and the mean of its two neighbours without. A search that is refused, because the machine is busy
with other things, is asked again and counted. Prints one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter

import aiohttp

from services.client import Item, MeridianClient
from services.demo.region import DemoRegion, running_region

SERVICES = ("gateway", "processor", "inference")
WITHOUT = {"MERIDIAN_TRACING_RING_REQUESTS": "0"}
WARM_BLOCKS = 2


class Side:
    """One of the two regions, and what its blocks cost."""

    def __init__(self, region: DemoRegion) -> None:
        self.region = region
        self.cpu_us: dict[str, list[float]] = {service: [] for service in SERVICES}
        self.latency_ms: list[float] = []
        self.refused = 0

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of each process so far."""
        return {service: _cpu_seconds(self.region, service) for service in SERVICES}

    async def block(self, session: aiohttp.ClientSession, searches: int, concurrency: int) -> None:
        """Ask, and note what it cost."""
        before, took = self.cpu_seconds(), []
        left = iter(range(searches))

        async def ask() -> None:
            for number in left:
                body = {"user": f"user-{number % 50}", "query": "oak", "deadline_ms": 5_000}
                began = perf_counter()
                while not await self._answered(session, body):
                    self.refused += 1
                    await asyncio.sleep(0.1)
                    began = perf_counter()
                took.append(perf_counter() - began)

        await asyncio.gather(*(ask() for _ in range(concurrency)))
        after = self.cpu_seconds()
        for service in SERVICES:
            self.cpu_us[service].append((after[service] - before[service]) / searches * 1e6)
        self.latency_ms.append(median(took) * 1000)

    async def _answered(self, session: aiohttp.ClientSession, body: dict[str, object]) -> bool:
        async with session.post(self.region.addresses["gateway"] + "/v1/search", json=body) as response:
            await response.read()
            if response.status not in (200, 429, 503):
                raise SystemExit(f"a search was answered {response.status}")
            return response.status == 200

    def whole_us(self) -> list[float]:
        """CPU time of all three processes for one search, by block."""
        return [sum(each) for each in zip(*self.cpu_us.values(), strict=True)]


def _cpu_seconds(region: DemoRegion, service: str) -> float:
    identity = region.process(service).identity
    assert identity is not None
    total_ns = 0
    for task in Path(f"/proc/{identity.pid}/task").iterdir():
        total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def ratio(with_tracing: list[float], without: list[float]) -> float:
    """Median over blocks; `without` has one block more, so that each has a neighbour on both sides."""
    pairs = [
        mine / ((before + after) / 2) for mine, before, after in zip(with_tracing, without, without[1:], strict=False)
    ]
    return round(median(pairs), 4)


async def measure(traced: Side, plain: Side, options: argparse.Namespace) -> dict[str, object]:
    """Ask both in turns."""
    for side in (traced, plain):
        async with MeridianClient(side.region.addresses["gateway"], source="/bench") as client:
            await client.publish([Item(item=f"oak-{n}", title=f"oak lamp {n}", price=1.0) for n in range(200)])
    async with aiohttp.ClientSession() as session:
        for _ in range(WARM_BLOCKS):
            for side in (traced, plain):
                await side.block(session, options.block, options.concurrency)
        for side in (traced, plain):
            side.cpu_us, side.latency_ms = {service: [] for service in SERVICES}, []
        for _ in range(options.searches // options.block):
            await plain.block(session, options.block, options.concurrency)
            await traced.block(session, options.block, options.concurrency)
        await plain.block(session, options.block, options.concurrency)
    return {
        "cpu_ratio": ratio(traced.whole_us(), plain.whole_us()),
        "cpu_ratio_by_process": {each: ratio(traced.cpu_us[each], plain.cpu_us[each]) for each in SERVICES},
        "cpu_us_per_search": {
            "with": round(median(traced.whole_us())),
            "without": round(median(plain.whole_us())),
        },
        "latency_ratio": ratio(traced.latency_ms, plain.latency_ms),
        "latency_p50_ms": {
            "with": round(median(traced.latency_ms), 2),
            "without": round(median(plain.latency_ms), 2),
        },
        "refused": traced.refused + plain.refused,
        "blocks": len(traced.latency_ms),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=4_000)
    parser.add_argument("--block", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=4)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the regions are taken down in that case too
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        traced = Side(stack.enter_context(running_region(Path(directory) / "with")))
        plain = Side(stack.enter_context(running_region(Path(directory) / "without", WITHOUT)))
        print(json.dumps(asyncio.run(measure(traced, plain, options))))


if __name__ == "__main__":
    main()
