"""What a poison fault writes is no frame, and never one of a version that a reader has to stop at."""

from __future__ import annotations

from pathlib import Path

import pytest

from region_sim.errors import DrillBroken
from region_sim.faults.plays import play_of
from region_sim.faults.poison import garbage
from region_sim.spec import Poison
from streams.errors import FrameCorrupt
from streams.frame import decode_frame
from tests.unit.region_sim.test_faults import scene


def test_all_of_it_is_refused_as_corrupt_for_several_reasons() -> None:
    """`UnknownFrameVersion` would be another error: that one stops a reader for ever, and rightly."""
    reasons = set()
    for number in range(40):
        record = garbage(number)
        with pytest.raises(FrameCorrupt) as refused:
            decode_frame(record.value, list(record.headers))
        reasons.add(str(refused.value)[:30])
    assert len(reasons) >= 3


def test_a_log_without_a_name_is_not_poisoned(tmp_path: Path) -> None:
    """Nobody says which life the region is in."""
    with pytest.raises(DrillBroken, match="its log has no name"):
        play_of(scene(tmp_path), Poison(), "", "")
