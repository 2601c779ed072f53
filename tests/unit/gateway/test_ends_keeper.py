"""Nobody is told before the disk knows: in groups, also when it fails, also at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.common.own_ends import OwnEnds, read_own_ends
from services.gateway.acked_ends import AckedEnds
from services.gateway.ends_keeper import EndsKeeper

LOG = "east-1.events"


class SlowDisk:
    """Writes when it is let, or fails; notes what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may = threading.Semaphore(0)
        self.written: list[dict[int, int]] = []
        self.error: OSError | None = None
        write = OwnEnds.write

        def slow(file: OwnEnds, ends: Mapping[int, int]) -> None:
            self.written.append(dict(ends))
            assert self.may.acquire(timeout=10)
            if self.error is not None:
                raise self.error
            write(file, ends)

        monkeypatch.setattr(OwnEnds, "write", slow)


async def test_those_who_come_while_the_disk_is_busy_wait_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four are acknowledged, the disk writes twice, and each is told when what it was told is there."""
    disk, ends, told = SlowDisk(monkeypatch), AckedEnds(LOG, {}), asyncio.Queue[tuple[int, str | None]]()
    failures: list[str] = []
    keeper = EndsKeeper(tmp_path, LOG, 1, ends, failures.append)
    for offset in range(4):
        ends.acknowledge(0, offset)
        keeper.keep(lambda problem, offset=offset: told.put_nowait((offset, problem)))  # type: ignore[misc]
    await asyncio.sleep(0)
    assert told.empty()
    disk.may.release()
    assert await told.get() == (0, None)
    assert told.empty()
    assert read_own_ends(tmp_path, LOG) == {0: 1}
    disk.may.release()
    assert [await told.get() for _ in range(3)] == [(1, None), (2, None), (3, None)]
    assert disk.written == [{0: 1}, {0: 4}]
    assert read_own_ends(tmp_path, LOG) == {0: 4}
    await keeper.close()
    assert failures == []


async def test_closing_waits_for_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for those who are still to be written."""
    disk, ends, told = SlowDisk(monkeypatch), AckedEnds(LOG, {}), list[str | None]()
    keeper = EndsKeeper(tmp_path, LOG, 1, ends, told.append)
    for offset in range(2):
        ends.acknowledge(0, offset)
        keeper.keep(told.append)
    disk.may.release(2)
    await keeper.close()
    assert told == [None, None]


async def test_a_disk_that_fails_is_told_once_and_nobody_is_promised_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds then is not known; a later writing that seems to work makes no promise good."""
    disk, ends, told, failures = SlowDisk(monkeypatch), AckedEnds(LOG, {}), asyncio.Queue[str | None](), list[str]()
    disk.error = OSError("input/output error")
    keeper = EndsKeeper(tmp_path, LOG, 1, ends, failures.append)
    ends.acknowledge(0, 0)
    keeper.keep(told.put_nowait)
    keeper.keep(told.put_nowait)
    disk.may.release()
    first = await told.get()
    assert first == "the acknowledged ends cannot be kept: input/output error"
    disk.error = None
    disk.may.release()
    await keeper.close()
    assert await told.get() == first
    assert failures == [first]
