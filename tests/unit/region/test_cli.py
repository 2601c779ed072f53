"""The command line: help, misspelt words, verbs that are loaded only when asked for, and how a region shows itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from services import cli
from services.region import status
from services.region.main import hints
from services.region.run_file import ProcessIdentity, ProcessRecord, RunRecord, write
from services.region.table import duration, render


def meridian(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    program = Path(sys.executable).with_name("meridian")
    return subprocess.run([program, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_help_lists_every_verb_without_loading_one(capsys: pytest.CaptureFixture[str]) -> None:
    """The list of verbs is a table; nothing heavy is imported for it."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in cli.VERBS)
    assert "--from-zero" in printed and "--verify" not in printed
    code = "import sys; from services import cli; cli.help_text(); print('typer' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    ("word", "said"), [("satus", "Did you mean `meridian status`?"), ("fly", "`meridian --help` lists them.")]
)
def test_a_misspelt_verb_gets_a_suggestion(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 64, and the nearest verb."""
    with pytest.raises(SystemExit) as ended:
        cli.main([word])
    assert ended.value.code == 64
    assert said in capsys.readouterr().err


def test_a_verb_whose_module_is_missing_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An installation without a part is no crash; an error inside a part is."""
    monkeypatch.setitem(cli.VERBS, "fly", cli.Verb("services.wings.cli:fly", "Fly"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["fly"])
    assert ended.value.code == 64
    assert "services.wings.cli is missing" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["up", "down", "status"])
def test_every_region_verb_explains_itself(name: str, tmp_path: Path) -> None:
    """`--help` of a verb ends with 0 and names the command as users type it."""
    result = meridian(name, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"Usage: meridian {name}" in result.stdout


def test_a_region_that_was_never_started(tmp_path: Path) -> None:
    """`status` ends with 3 and says what to do; `down` has nothing to do."""
    shown = meridian("status", cwd=tmp_path)
    assert shown.returncode == 3
    assert "not running: `meridian up` starts it" in shown.stdout
    assert meridian("down", cwd=tmp_path).returncode == 0


def test_a_wrong_setting_ends_with_64_before_anything_starts(tmp_path: Path) -> None:
    """The message names the variable; no file is left in the directory."""
    result = meridian("up", cwd=tmp_path, MERIDIAN_REGION_GATEWAY_PORT="many")
    assert result.returncode == 64
    assert "MERIDIAN_REGION_GATEWAY_PORT = 'many'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_would_refuse_its_settings_starts_nothing(tmp_path: Path) -> None:
    """An open door without a lock is found before Kafka is started."""
    result = meridian("up", "-d", cwd=tmp_path, MERIDIAN_GATEWAY_HOST="0.0.0.0")
    assert result.returncode == 64
    assert "no api_tokens are set" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_hints_name_this_region_and_no_other(tmp_path: Path) -> None:
    """What was given to `up` is given to the other verbs; Ctrl-C ends only what is in the foreground."""
    assert hints(tmp_path, {}, detached=False) == ["`meridian status` shows it, Ctrl-C or `meridian down` ends it."]
    given = {"MERIDIAN_REGION_DATA_DIR": "here", "MERIDIAN_REGION_KAFKA_PORT": "21003", "HOME": "/"}
    assert hints(tmp_path, given, detached=True) == [
        f"`meridian status --data-dir {tmp_path}` shows it, `meridian down --data-dir {tmp_path}` ends it.",
        "For the other commands:",
        f"  export MERIDIAN_REGION_DATA_DIR={tmp_path} MERIDIAN_REGION_KAFKA_PORT=21003",
    ]


def test_printed_settings_cover_every_process_and_start_nothing(tmp_path: Path) -> None:
    """`--print-config` shows one table a service, as the file would hold them."""
    (tmp_path / "own.toml").write_text('[region]\nname = "west"\n[kafka]\nbootstrap = "127.0.0.1:9"\n')
    result = meridian("up", "--print-config", "--config", "own.toml", "--base-port", "21000", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for table in ("region", "kafka", "inference", "processor", "gateway"):
        assert f"[{table}]" in result.stdout
    assert 'name = "west"' in result.stdout
    assert "gateway_port = 21000" in result.stdout
    assert 'bootstrap = "127.0.0.1:9"' in result.stdout
    assert not (tmp_path / "var").exists()


def test_a_region_whose_supervisor_was_killed_is_shown_as_it_is(tmp_path: Path) -> None:
    """Only what lives counts: a run file alone is not a running region."""
    gone = ProcessIdentity(2**22 - 1, 1, "another boot")
    process = ProcessRecord(
        name="kafka", phase="ready", is_step=False, identity=gone, started_at_ms=0, restarts=2, exit_code=None,
        reason="", port=None, ready_path=None, log="kafka.log",
    )  # fmt: skip
    record = RunRecord(region="east", supervisor=gone, started_at_ms=0, ready=True, addresses={}, processes=[process])
    write(tmp_path, record)
    seen = status.look("east", tmp_path, 1000)
    assert not seen.running
    assert "its supervisor was killed" in seen.summary


def test_the_table_names_state_and_reason(tmp_path: Path) -> None:
    """What is not ready stands in the first line with its reason."""
    process = status.ProcessStatus(
        name="inference", state="refused", reason="no version passes its golden set", pid=None, port=8082,
        up_seconds=None, restarts=0, memory_bytes=None, exit_code=68, log="inference.log",
    )  # fmt: skip
    seen = status.RegionStatus(
        region="east", running=True, ready=False, summary="inference is refused: no version passes its golden set",
        incarnation="east-1", supervisor_pid=1, memory_bytes=50 << 20, addresses={}, processes=[process],
    )  # fmt: skip
    console = Console(width=120, record=True, file=(tmp_path / "out").open("w"))
    console.print(render(seen))
    text = console.export_text()
    assert "east east-1 · inference is refused: no version passes its golden set" in text
    assert "50 MB in all" in text


def test_durations_have_two_units() -> None:
    """What an operator reads at a glance."""
    assert [duration(seconds) for seconds in (5, 65, 3700, 90_000)] == ["5s", "1m 5s", "1h 1m", "1d 1h"]
