"""The demonstration in small: it proves what it says, and takes its regions down also when it is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.region import run_file
from tests.support.poll import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]

SITES = ("east", "west", "north")
COMMAND = [
    sys.executable, "-m", "region_sim", "run", "wipe-active", "--set", "load.source=replay",
    "--set", "load.bulk_searches=400", "--set", "load.searches_per_second=25",
]  # fmt: skip


def test_a_small_demonstration_keeps_its_promises(tmp_path: Path) -> None:
    """Nothing lost, nothing counted twice, equal digests, and the active region was lost on the way.

    Whether the rankings beat the baselines is not asked of so few searches.
    """
    home = tmp_path / "demo"
    ended = subprocess.run(
        [*COMMAND, "--out", str(home), "--set", "load.ranked_searches=300"],
        check=False,
        capture_output=True,
        text=True,
    )
    summary = json.loads((home / "summary.json").read_text())
    assert summary["ledger_verdict"] == "valid", ended.stderr
    assert (summary["events_lost"], summary["events_counted_twice"]) == (0, 0)
    assert summary["digest_live"] == summary["digest_reference"]
    assert summary["digests_equal"]
    assert summary["processor_killed"]
    assert summary["region_took_over"] not in ("", summary["region_lost"])
    assert summary["receipt"]["state"] == "confirmed_lost"
    assert summary["receipt"]["incarnation"] == f"{summary['region_lost']}-1"
    lives = {proof["incarnation"] for proof in summary["regions"]}
    assert f"{summary['region_lost']}-2" in lives
    assert summary["rankings_served"] + summary["rankings_failed"] == summary["rankings_asked"] >= 300
    assert summary["searches_judged"] == summary["rankings_served"]
    directory = home / "wipe-active" / "latest"
    assert json.loads((directory / "verdict.json").read_text())["verdict"] == "valid", ended.stdout
    report, replay = ended.stdout.splitlines()[-2:]
    assert Path(report).resolve() == (directory / "report.html").resolve()
    assert replay.startswith("region-sim run wipe-active --backend process --seed 1 --set load.source=replay")
    assert not any((directory / "sites" / site).exists() for site in SITES)


def test_an_interrupted_demonstration_leaves_no_process(tmp_path: Path) -> None:
    """A SIGTERM in the middle of the ranked part ends the command and all sites."""
    home = tmp_path / "demo"
    with subprocess.Popen(
        [*COMMAND, "--out", str(home), "--set", "load.ranked_searches=2000"], stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "rank, then publish clicks" in line:
                break
        (run,) = [path for path in (home / "wipe-active").iterdir() if path.is_dir()]
        records = [run_file.read(run / "sites" / site) for site in SITES]
        members = [
            identity
            for record in records
            if record is not None
            for identity in (record.supervisor, *(process.identity for process in record.processes))
        ]
        assert len(members) > len(SITES)
        demo.send_signal(signal.SIGTERM)
        demo.stdout.read()
    assert demo.returncode != 0
    wait_until(lambda: not any(map(run_file.is_alive, members)), 10, "the regions' processes to end")
