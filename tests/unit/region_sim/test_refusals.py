"""What real processes on this machine cannot do is refused before anything starts, with a reason and with who can."""

from __future__ import annotations

from pathlib import Path

import pytest

from region_sim.errors import DrillBroken
from region_sim.faults.plays import play_of
from region_sim.faults.refusals import on_processes as refusal
from region_sim.spec import ClockFault, DiskFull, Kill, Link, Partition, Poison, StoreFault
from tests.unit.region_sim.test_faults import scene


@pytest.mark.parametrize("fault", [ClockFault(step_seconds=5.0), StoreFault(how="compaction")])
def test_clocks_and_a_store_that_misbehaves_are_for_memory(fault: ClockFault | StoreFault, tmp_path: Path) -> None:
    """Who asks for the play all the same is told the same."""
    why = refusal(fault)
    assert why is not None
    assert "use --backend memory" in why
    with pytest.raises(DrillBroken, match=r"^refused: "):
        play_of(scene(tmp_path), fault, "")


def test_what_needs_a_network_of_its_own_is_refused_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the program that is missing."""
    monkeypatch.setattr("infra.runtime.network.PROGRAMS", ("no-such-program",))
    for fault in (Partition(), Link(delay_ms=5.0)):
        assert "no-such-program not found" in (refusal(fault) or "")
    assert refusal(Kill()) is None
    assert refusal(Poison()) is None


def test_only_cuts_of_some_ports_need_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the others are made by neighbour entries."""
    monkeypatch.setattr("infra.runtime.network.unavailable", lambda: None)
    monkeypatch.setattr("infra.runtime.network.has_nft", lambda: False)
    assert "needs nft" in (refusal(Partition(shape="etcd")) or "")
    assert "needs nft" in (refusal(Partition(shape="data")) or "")
    assert refusal(Partition(shape="full")) is None
    assert refusal(Partition(shape="incoming")) is None


def test_a_disk_of_its_own_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else may mount one."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "needs root" in (refusal(DiskFull()) or "")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert refusal(DiskFull()) is None
