"""What past drills say of the forecast: which failovers count, and which file controllers are given."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from region_sim.calibrate import calibrate, residuals_of, verdict_files
from region_sim.checkers.base import Failover
from region_sim.errors import BadDrill
from region_sim.verdict import VERDICT_FILE
from services.controller.calibration import CALIBRATION_FILE, load_calibration
from services.controller.forecast import RtoForecast

FORECAST = RtoForecast(
    seconds=2.3,
    detection_seconds=0.0,
    lease_seconds=2.05,
    replay_seconds=0.0,
    opening_seconds=0.0,
    lag_events=0,
    events_per_second=None,
    because="",
    correction_seconds=0.25,
)
KILLED = Failover(
    fault=1, cause="kill east", from_region="east", to_region="west", epoch=(0, 7), rto_seconds=2.6, within=True,
    forecast=FORECAST,
)  # fmt: skip


def drilled(directory: Path, *failovers: Failover, backend: str = "process") -> None:
    """A drill that ended with these."""
    directory.mkdir(parents=True)
    found = {"backend": backend, "failovers": [msgspec.to_builtins(each) for each in failovers]}
    (directory / VERDICT_FILE).write_bytes(msgspec.json.encode(found))


def test_what_is_left_is_the_formulas_own_error(tmp_path: Path) -> None:
    """The correction of that day is taken out; what was not judged, forecast or measured says nothing."""
    not_judged = msgspec.structs.replace(KILLED, within=None)
    unknown = msgspec.structs.replace(KILLED, forecast=None)
    slow = msgspec.structs.replace(KILLED, cause="wipe east", within=False, rto_seconds=9.05)
    drilled(tmp_path / "a", KILLED, not_judged, unknown)
    drilled(tmp_path / "b", slow)
    drilled(tmp_path / "virtual", KILLED, backend="memory")
    (tmp_path / "latest").symlink_to(tmp_path / "a")
    for name, damaged in (("c", b'{"backend": "\xff"}'), ("d", b"[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / VERDICT_FILE).write_bytes(damaged)
    found = residuals_of(verdict_files([tmp_path, tmp_path / "latest"]), "process")
    assert found.kinds == {"kill": [0.55], "wipe": [7.0]}
    assert (found.verdicts, found.left_out) == (2, 2)


def test_the_file_corrects_from_three_drills_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before, it says that it does not; controllers read what was written."""
    out = tmp_path / CALIBRATION_FILE
    for number in range(3):
        drilled(tmp_path / "drills" / str(number), KILLED)
        calibrate([tmp_path / "drills"], out, "process", json=False)
        said = capsys.readouterr().out
        assert ("are not corrected by fewer than 3 drills" in said) == (number < 2)
        assert load_calibration(out).correction().median_seconds == (0.55 if number == 2 else 0.0)


def test_virtual_time_writes_no_file(tmp_path: Path) -> None:
    """It can be looked at."""
    drilled(tmp_path / "virtual", KILLED, backend="memory")
    with pytest.raises(BadDrill, match="virtual time"):
        calibrate([tmp_path], tmp_path / CALIBRATION_FILE, "memory")
    calibrate([tmp_path], None, "memory")
    assert not (tmp_path / CALIBRATION_FILE).exists()
    with pytest.raises(BadDrill, match="no failover of a process drill"):
        calibrate([tmp_path], None, "process")
