"""`region-sim` says what is wrong, and ends with a code that means something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from region_sim.cli import run_command
from region_sim.errors import BadDrill
from region_sim.history import Entry
from region_sim.run import RunOptions, attached, replay_command
from region_sim.spec import load_drill
from region_sim.verdict import HISTORY_FILE
from services.common.deployment import Deployment, Site
from tests.support.planted_history import Planted, history


def written(directory: Path, entries: list[Entry]) -> Path:
    """A directory with a history."""
    (directory / "history.jsonl").write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
    return directory


def test_list_shows_the_drills(capsys: pytest.CaptureFixture[str]) -> None:
    """For people, and as JSON."""
    assert run_command(["list"]) == 0
    assert "kill-active" in capsys.readouterr().out
    assert run_command(["list", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert [name for name in listed["kill-active"]["backends"] if name != "compose"] == ["process", "memory"]
    assert listed["clock-step"]["backends"] == ["memory"]
    assert "memory" in listed["clock-step"]["refused"]["process"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nope"], "there is no drill"),
        (["run", "kill-active", "--set", "load.user=3"], "unknown field"),
        (["run", "kill-active", "--backend", "moon"], "no backend 'moon'"),
        (["run", "kill-active", "--sett", "x=1"], "No such option"),
        (["run", "kill-active", "--repeat", "0"], "--repeat"),
        (["run", "kill-active", "--attach", "/nonexistent/meridian"], "there is no deployment"),
        (["run", "kill-active", "--backend", "memory", "--keep"], "are for real regions"),
        (["replay", "/nonexistent/run"], "Name the directory of a run"),
        (["walk"], "No such command"),
    ],
)
def test_what_cannot_be_run_is_254_with_the_reason(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Wrong drills, settings and options are the caller's to mend."""
    out = ["--out", str(tmp_path)] if arguments[0] == "run" else []
    assert run_command([*arguments, *out]) == 254
    assert words in capsys.readouterr().err


def test_judge_ends_with_the_verdicts_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 valid, 1 invalid, 2 unknown; a place without a whole history is wrong input, as it is for `replay`."""

    def lose(planted: Planted) -> None:
        planted.event(8.0, held="west")

    assert run_command(["judge", str(written(tmp_path, history()))]) == 0
    assert "every check holds" in capsys.readouterr().out
    assert run_command(["judge", str(written(tmp_path, history(before=lose))), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["lost_unlisted"] == 1
    unread = history(evidence=lambda found: found[:2])
    assert run_command(["judge", str(written(tmp_path, unread))]) == 2
    for place in ("nowhere", "damaged"):
        (tmp_path / "damaged").mkdir(exist_ok=True)
        (tmp_path / "damaged" / HISTORY_FILE).write_text("{\n")
        assert run_command(["judge", str(tmp_path / place)]) == 254
        assert "Name the directory of a run" in capsys.readouterr().err


def test_what_cannot_be_written_is_said_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason, and what to do; as JSON for whoever asked for that."""
    file = tmp_path / "file"
    file.touch()
    for command in (["run", "kill-active"], ["campaign", "--seeds", "1"]):
        assert run_command([*command, "--backend", "memory", "--out", str(file), "--json"]) == 254
        told = capsys.readouterr()
        assert "Name another place with --out" in told.err
        assert json.loads(told.out)["exit_code"] == 254
    assert run_command(["run", "kill-active", "--repeat", "0", "--json"]) == 254
    assert "error" in json.loads(capsys.readouterr().out)


def test_judging_again_keeps_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the verdict of before; without one, the recorded drill is what runs again."""
    place = written(tmp_path, history())
    assert run_command(["judge", str(place), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["replay"] == f"region-sim replay {place}"
    (place / "verdict.json").write_text('{"replay": "region-sim run kill-active --seed 7", "of": "another version"}')
    assert run_command(["judge", str(place)]) == 0
    assert json.loads((place / "verdict.json").read_text())["replay"] == "region-sim run kill-active --seed 7"


def test_a_drill_that_the_backend_refuses_is_unknown_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, with the reason, and nothing was started; the last line runs it again."""
    assert run_command(["run", "clock-step", "--out", str(tmp_path), "--seed", "5"]) == 2
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "clock-step: backend process, seed 5"
    assert any(line.startswith("  faults.0: kind=clock target=active") for line in said)
    assert any("refused: " in line for line in said)
    assert said[-1] == "region-sim run clock-step --backend process --seed 5"
    verdict = json.loads((tmp_path / "clock-step" / "latest" / "verdict.json").read_text())
    assert verdict["verdict"] == "unknown"
    assert "refused: " in verdict["sentence"]


def test_as_json_only_the_verdict_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of several runs: a list."""
    assert run_command(["run", "clock-step", "--out", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["verdict"] == "unknown"
    assert run_command(["run", "clock-step", "--out", str(tmp_path), "--json", "--repeat", "2"]) == 2
    assert [one["seed"] for one in json.loads(capsys.readouterr().out)] == [1, 2]


def test_a_recorded_drill_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its own seed and parameters, whatever the file says by now."""
    changes = ["--set", "faults.0.step_seconds=77", "--seed", "9"]
    run_command(["run", "clock-step", "--out", str(tmp_path), *changes])
    capsys.readouterr()
    assert run_command(["replay", str(tmp_path / "clock-step" / "latest"), "--out", str(tmp_path / "again")]) == 2
    said = capsys.readouterr().out
    assert "seed 9" in said
    assert "step_seconds=77" in said
    assert "the verdict is the same: unknown" in said


def deployment(network: Literal["loopback", "namespaces"], *regions: str) -> Deployment:
    """One that runs, somewhere."""
    sites = [Site(name=name, kind="region", host="127.0.0.1", base_port=30_000) for name in regions]
    return Deployment(deployment_id="d", network=network, sites=sites, directory="/nonexistent")


def test_a_drill_takes_the_sites_of_the_deployment_that_it_is_attached_to() -> None:
    """Whatever its file says of sites; what cannot be done there is refused."""
    drill = attached(load_drill("kill-active"), deployment("loopback", "a", "b", "c"))
    assert (drill.topology.regions, drill.topology.witness) == (["a", "b", "c"], "")
    with pytest.raises(BadDrill, match="needs topology"):
        attached(load_drill("partition-active"), deployment("loopback", "a", "b", "c"))
    with pytest.raises(BadDrill, match="'north' is none of"):
        attached(load_drill("etcd-quorum-lost"), deployment("loopback", "a", "b", "c"))


def test_the_replay_command_runs_the_same_again() -> None:
    """Quoted, with every change."""
    options = RunOptions(
        name="kill-active",
        changes=["load.users=5", "faults.0.processes=['kafka']"],
        seed=1,
        repeat=3,
        out=Path("drills"),
        attach=None,
        keep=False,
        quiet=False,
    )
    said = replay_command(options, 2)
    assert said.startswith("region-sim run kill-active --backend process --seed 2 --set load.users=5")
    assert "'faults.0.processes=['\"'\"'kafka'\"'\"']'" in said
