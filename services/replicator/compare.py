"""Comparing blocks between regions, all the time: each asks the others for what they completed since it last asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import aiohttp
import msgspec

from services.replicator.blocks import BlockSums, differences
from services.replicator.positions import Place

BLOCKS_MAX = 2000
"""Blocks in one answer."""


class BlockRow(msgspec.Struct, frozen=True, array_like=True):
    """One complete block."""

    log: str
    partition: int
    block: int
    checksum: str
    """16 hex digits."""


class ChecksumReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/checksums`."""

    region: str
    instance: str
    """Of the process: with another one, numbering began again."""
    next: int
    """What to ask for as `after` next time."""
    blocks: list[BlockRow]


@dataclass(slots=True)
class Ledger:
    """The blocks that were completed here, in the order in which that was noticed. Never shrinks: 1 in 1000 records."""

    rows: list[BlockRow] = field(default_factory=list)
    _counted: dict[Place, set[int]] = field(default_factory=dict)

    def collect(self, sums: Mapping[Place, BlockSums]) -> None:
        """Note what was completed since the last call."""
        for place, blocks in sums.items():
            counted = self._counted.setdefault(place, set())
            if len(counted) == len(blocks.done):
                continue
            for number in sorted(set(blocks.done) - counted):
                counted.add(number)
                self.rows.append(BlockRow(*place, number, f"{blocks.done[number]:016x}"))

    def after(self, start: int, logs: Iterable[str]) -> tuple[list[BlockRow], int]:
        """Rows from number `start` on (only of `logs`, when there are any), and the number to ask from next."""
        found = self.rows[start : start + BLOCKS_MAX]
        wanted = set(logs)
        return [row for row in found if not wanted or row.log in wanted], start + len(found)


@dataclass(slots=True)
class Comparison:
    """What one other region said, held against what is known here."""

    region: str
    instance: str = ""
    after: int = 0
    theirs: dict[Place, dict[int, int]] = field(default_factory=dict)
    """Blocks that are not known here yet."""
    compared: int = 0

    def take(self, report: ChecksumReport) -> None:
        """Note an answer."""
        if report.instance != self.instance:
            was_asked_from, self.instance, self.after = self.after, report.instance, 0
            self.theirs.clear()
            if was_asked_from:
                return  # The number was one of another process: everything is asked for again.
        self.after = report.next
        for row in report.blocks:
            self.theirs.setdefault((row.log, row.partition), {})[row.block] = int(row.checksum, 16)

    def judge(self, sums: Mapping[Place, BlockSums]) -> dict[str, str]:
        """Alarms by block, for what both know and differs; what was compared is forgotten."""
        alarms = {}
        for place, theirs in self.theirs.items():
            ours = sums[place].done if place in sums else {}
            common = {block: checksum for block, checksum in theirs.items() if block in ours}
            for found in differences(*place, ours, common):
                alarms[f"{self.region} {place[0]}/{place[1]} {found.block}"] = (
                    f"{found}; there: {self.region}. One of the two copies was damaged or cut: compare both with a "
                    "third region or the origin (docs/operating/stuck-replication.md)."
                )
            self.compared += len(common)
            for block in common:
                del theirs[block]
        return alarms


async def fetch(http: aiohttp.ClientSession, url: str, after: int, timeout_seconds: float = 2.0) -> ChecksumReport:
    """Ask a replicator. Raises aiohttp.ClientError, TimeoutError, msgspec.DecodeError."""
    async with (
        asyncio.timeout(timeout_seconds),
        http.get(f"{url}/v1/checksums", params={"after": str(after)}) as response,
    ):
        response.raise_for_status()
        return msgspec.json.decode(await response.read(), type=ChecksumReport)


async def compare_with(
    comparison: Comparison,
    url: str,
    http: aiohttp.ClientSession,
    sums: Callable[[], Mapping[Place, BlockSums]],
    alarms: dict[str, str],
) -> None:
    """One round with one other region: what differs is added to `alarms`. Its absence is no news."""
    try:
        report = await fetch(http, url, comparison.after)
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError, ValueError):
        return
    comparison.take(report)
    alarms.update(comparison.judge(sums()))
