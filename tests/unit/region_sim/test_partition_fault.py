"""Which packets a partition loses, for each shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.runtime.network import Drop
from region_sim.faults.partition import drops_of
from region_sim.spec import Partition
from tests.unit.region_sim.test_faults import deployment

OUT = {("east", "west"), ("east", "north")}
IN = {("west", "east"), ("north", "east")}
ETCD = {20_007, 20_008, 20_027, 20_028, 20_047, 20_048}
"""Client and peer ports of the three sites."""


def pairs(drops: tuple[Drop, ...]) -> set[tuple[str, str]]:
    """Sender and receiver of each."""
    return {(drop.sender, drop.receiver) for drop in drops}


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ("full", OUT | IN),
        ("outgoing", OUT),
        ("incoming", IN),
        ("peer", {("east", "west"), ("west", "east")}),
        ("etcd", OUT | IN),
        ("data", OUT | IN),
    ],
)
def test_a_shape_says_who_is_not_heard_by_whom(tmp_path: Path, shape: str, wanted: set[tuple[str, str]]) -> None:
    """Never a pair twice, and the witness only where it is meant."""
    drops = drops_of(Partition(shape=shape), deployment(tmp_path).sites, "east")  # type: ignore[arg-type]
    assert pairs(drops) == wanted
    assert len(drops) == len(wanted)


def test_etcd_and_data_divide_the_ports_of_all_sites(tmp_path: Path) -> None:
    """What one loses the other lets through."""
    sites = deployment(tmp_path).sites
    for drop in drops_of(Partition(shape="etcd"), sites, "west"):
        assert (set(drop.only_ports), drop.but_ports) == (ETCD, ())
    for drop in drops_of(Partition(shape="data"), sites, "west"):
        assert (drop.only_ports, set(drop.but_ports)) == ((), ETCD)
    assert all(drop.only_ports == drop.but_ports == () for drop in drops_of(Partition(), sites, "west"))
