"""`meridian console`: what cannot be started ends in a sentence that says what to do."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import typer

from services.common.exit_codes import ExitCode
from services.console.cli import ConsoleUp
from services.console.cli import console as verb
from tests.support.small_region import deployment_of


@dataclass(frozen=True)
class Done:
    """How the command ended."""

    returncode: int
    stderr: str


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Done]:
    """The command, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Done:
        app = typer.Typer()
        app.command()(verb)
        with pytest.raises(SystemExit) as ended:
            app(list(words))
        return Done(int(ended.value.code or 0), capsys.readouterr().err)

    return run


def test_no_deployment(console: Callable[..., Done], tmp_path: Path) -> None:
    """The next step is a command."""
    done = console("--data-dir", "nothing")
    assert done.returncode == ExitCode.BAD_SETTINGS
    assert "`meridian up --regions east,west --witness north` makes one" in done.stderr
    assert "--data-dir" in done.stderr


def test_a_region_that_is_alone(console: Callable[..., Done], tmp_path: Path) -> None:
    """It has nothing that a console shows, and the sentence says what shows it."""
    alone = tmp_path / "var" / "east"
    alone.mkdir(parents=True)
    (alone / "run.json").write_text("{}")
    done = console()
    assert done.returncode == ExitCode.BAD_SETTINGS
    assert "is a region that is alone" in done.stderr
    assert "`meridian status --data-dir var/east`" in done.stderr


def test_a_port_that_is_taken(console: Callable[..., Done], tmp_path: Path) -> None:
    """The other process can be found, or another port chosen, with this command's own option."""
    deployment_of(tmp_path, "east", "west")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = console("--data-dir", str(tmp_path), "--port", str(port))
    assert done.returncode == ExitCode.BAD_SETTINGS
    assert f"port {port} on 127.0.0.1 is taken" in done.stderr
    assert "choose another one with --port" in done.stderr


def test_it_says_where_it_is_and_ends_when_told(tmp_path: Path) -> None:
    """One JSON object for programs; a page that is open keeps it no longer than a second."""
    deployment_of(tmp_path, "east", "west")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["console", "--data-dir", str(tmp_path), "--port", str(port), "--json", "--read-only"]
    with subprocess.Popen([sys.executable, "-m", "services.cli", *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = msgspec.json.decode(process.stdout.readline(), type=ConsoleUp)
        assert said == ConsoleUp(url=f"http://127.0.0.1:{port}/", read_only="this console was started read-only")
        with socket.create_connection(("127.0.0.1", port)) as page:
            page.sendall(b"GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert page.recv(15) == b"HTTP/1.1 200 OK"
            process.terminate()
            assert process.wait(10) == 0
