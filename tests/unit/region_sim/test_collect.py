"""When all regions have folded all that their logs hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import pytest

from region_sim.asking import Asking
from region_sim.collect import Collector
from region_sim.evidence import StateSeen
from region_sim.history import HistoryWriter
from region_sim.reading import RawRecords
from services.common.deployment import Deployment, Site
from services.ledger.rawlog import RawRecord
from services.ledger.verdict import Claims
from tests.support.turned_clock import TurnedClock

LOG = "east-1.events"


@dataclass
class Disk:
    """One log, by how many records lie in its partition."""

    records: int

    def names(self) -> list[str]:
        """See RawRecords."""
        return [LOG, "east-1.rankings"]

    def ends(self) -> dict[int, int]:
        """See RawRecords."""
        return {0: self.records}

    def read(self, until: dict[int, int]) -> Iterator[RawRecord]:
        """See RawRecords."""
        return iter(())


class FromDisks(Collector):
    """East wrote 43 records; west has so many, the last of which is a copy of the 43rd."""

    west_records = 43

    def raw(self, site: Site, log: str) -> RawRecords:
        """See Collector."""
        return Disk(self.west_records if site.name == "west" else 43)

    def origin_ends(self, site: Site, log: str) -> dict[int, int]:
        """See Collector."""
        return {0: 43}


class Said(Asking):
    """What processors say."""

    folded = 43

    async def claims(self, site: Site) -> Claims | None:
        """See Asking."""
        return Claims(incarnation=f"{site.name}-1", frontier=((LOG, 0, self.folded),), events=1, digest="d")


@pytest.mark.parametrize(
    ("west_records", "folded", "problem"),
    [
        (43, 43, None),
        (46, 43, None),
        (43, 42, "east has folded 42 of 43 in east-1.events/0"),
        (46, 42, "east has folded 42 of 43 in east-1.events/0"),
    ],
)
async def test_a_copy_that_holds_records_twice_is_covered_by_what_it_is_a_copy_of(
    west_records: int, folded: int, problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a campaign, seed 7049: a copier that was stopped on the way had sent three records twice."""
    sites = [Site(name=name, kind="region", host="127.0.0.1", base_port=30_000) for name in ("east", "west")]
    deployment = Deployment(deployment_id="d", network="loopback", sites=sites, directory="/nonexistent")
    clock = TurnedClock()
    monkeypatch.setattr(Said, "folded", folded)
    monkeypatch.setattr(FromDisks, "west_records", west_records)
    with HistoryWriter(None, clock) as history:
        asking = Said(session=cast("object", None), deployment=deployment)  # type: ignore[arg-type]
        collector = FromDisks(asking, history, clock)
        assert await collector.settled_states(0.0) == problem
        assert sum(isinstance(entry.evidence, StateSeen) for entry in history.entries) == 2
