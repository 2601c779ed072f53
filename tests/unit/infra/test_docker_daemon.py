"""What is said when containers cannot be had: a cause, and the next command."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from infra.docker import compose, daemon, images


def _docker(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a docker on the PATH that does this."""
    program = directory / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'permission denied' >&2; exit 1", ["permission denied", "group docker", "systemctl start docker"]),
        ("[ $1 = version ] && echo 20.10", ["Compose 2", "make compose-plugin"]),
    ],
)
def test_a_docker_that_cannot_be_used_is_explained(
    script: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that does not answer, and a docker without Compose 2."""
    _docker(tmp_path, script, monkeypatch)
    with pytest.raises(daemon.ContainersUnavailable) as refused:
        daemon.check_daemon()
    assert all(words in str(refused.value) for words in said), refused.value


def test_no_docker_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with 1 and a sentence, and names what needs no containers."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compose.main(["up"]) == 1
    assert "Docker is not installed" in (said := capsys.readouterr().err)
    assert "make demo" in said


def test_a_full_disk_is_found_before_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And afterwards, when the build itself says so."""
    _docker(tmp_path, f"echo {tmp_path}", monkeypatch)
    with pytest.raises(daemon.ContainersUnavailable, match="docker builder prune"):
        daemon.check_room(1 << 60)
    daemon.check_room(1)
    with pytest.raises(daemon.ContainersUnavailable, match="the disk is full"):
        daemon.run(["sh", "-c", "echo write: no space left on device; exit 1"], "building")


def test_a_taken_port_is_named() -> None:
    """The one that is taken, not the others."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
        other.close()
        port = taken.getsockname()[1]
        assert daemon.taken_ports([free, port]) == [port]


def test_certificates_and_pips_settings_reach_the_build_as_secrets(tmp_path: Path) -> None:
    """Only our own image is shown them; only their owner can read them; where they came from stands nowhere."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("certificates")
    stage = tmp_path / "stage"
    stage.mkdir()
    secrets = images.write_secrets(
        stage, {"SSL_CERT_FILE": str(bundle), "PIP_INDEX_URL": "https://pypi.example/simple"}
    )
    assert secrets["ca"].read_text() == "certificates"
    assert "index-url = https://pypi.example/simple" in secrets["pip"].read_text()
    assert {path.stat().st_mode & 0o777 for path in secrets.values()} == {0o600}
    services = json.loads(images.build_file(images.plan(stage), secrets))["services"]
    assert services["meridian"]["build"]["secrets"] == ["ca", "pip"]
    assert [name for name, service in services.items() if "secrets" in service["build"]] == ["meridian"]


def test_every_image_that_is_built_here_is_selected_by_the_compose_file() -> None:
    """A variable that compose does not know would select nothing."""
    text = compose.FILE.read_text()
    chosen = [image.variable for image in images.plan(Path()) if image.variable]
    assert len(chosen) == 5
    assert all(f"${{{variable}:-" in text for variable in chosen)


def test_what_is_sent_to_a_build_is_what_the_image_is_made_of(tmp_path: Path) -> None:
    """.dockerignore begins with everything: no environment, run or secret of this directory gets into an image."""
    lines = (images.ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        word.rstrip("/")
        for line in (images.HERE / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert {name for name in copied if not name.startswith("requirements/")} <= allowed
    shell = subprocess.run(["bash", "-n", images.HERE / "kafka" / "start.sh"], check=False, cwd=tmp_path)
    assert shell.returncode == 0


def test_an_image_that_cannot_be_pulled_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And how to have it without a registry, instead of sending somebody to logs of containers that never were."""
    script = """
case "$*" in
*--services*) echo east-kafka ;;
*--images*) echo apache/kafka:4.3.1 ;;
*inspect*) exit 1 ;;
*"up --wait"*) echo 'manifest unknown' >&2; exit 18 ;;
esac"""
    _docker(tmp_path, script, monkeypatch)
    monkeypatch.setattr(compose, "taken_ports", lambda _: [])
    assert compose.main(["up"]) == 1
    said = capsys.readouterr().err
    assert "apache/kafka:4.3.1: neither here nor to be pulled" in said and "make images" in said
