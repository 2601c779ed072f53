"""Making the environment: what decides whether it is done again, and what a failure says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infra.runtime import setup

install_etcd = setup.install_etcd


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of input files only, with an environment that is complete."""
    for name in (*setup.INPUTS, "requirements/dev.txt", "requirements/gpu.txt", "requirements/train.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    (tmp_path / "infra/runtime/kafka-artifacts.txt").write_text("# one\na:b:1 00\n")
    libs = tmp_path / ".venv/share/kafka/libs"
    libs.mkdir(parents=True)
    (libs / "b-1.jar").touch()
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(setup, "READY", tmp_path / ".venv/.ready")
    monkeypatch.setattr(setup, "CHOSEN", tmp_path / ".venv/.requirements")
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    monkeypatch.setattr(setup, "install_etcd", lambda: None)
    monkeypatch.delenv("MERIDIAN_KAFKA_HOME", raising=False)
    (tmp_path / ".venv/.ready").write_text(setup.stamp_of("dev"))
    return tmp_path


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were run, instead of running them."""
    ran: list[str] = []
    for name in ("make_venv", "install_uv", "install_packages", "install_project", "install_kafka"):
        monkeypatch.setattr(setup, name, lambda *_, name=name: ran.append(name))
    return ran


def test_a_complete_environment_is_left_alone(tree: Path, steps: list[str]) -> None:
    """The second `make setup` does nothing."""
    assert setup.main() == 0
    assert steps == []


@pytest.mark.parametrize("changed", ["requirements/dev.txt", "pyproject.toml", "infra/runtime/kafka-artifacts.txt"])
def test_a_changed_input_makes_it_due(tree: Path, steps: list[str], changed: str) -> None:
    """Whatever decides what is installed is in the stamp; afterwards it is complete again."""
    path = tree / changed
    path.write_text(path.read_text() + "# changed\n")
    assert setup.main() == 0
    assert len(steps) == 5
    assert setup.main() == 0
    assert len(steps) == 5


def test_an_environment_for_training_stays_one(tree: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`make setup` after `make train-env` does nothing, and brings the same file up to date when it changed."""
    installed: list[str] = []
    monkeypatch.setattr(setup, "install_packages", installed.append)
    monkeypatch.setattr(sys, "argv", ["setup.py", "--requirements", "train"])
    assert setup.main() == 0
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    assert setup.main() == 0
    assert installed == ["train"]
    (tree / "requirements/train.txt").write_text("changed")
    assert setup.main() == 0
    assert installed == ["train", "train"]
    monkeypatch.setattr(sys, "argv", ["setup.py", "--requirements", "dev"])
    assert setup.main() == 0
    assert installed == ["train", "train", "dev"]


def test_a_missing_jar_makes_it_due(tree: Path, steps: list[str]) -> None:
    """Somebody removed a jar; the stamp alone would not tell."""
    (tree / ".venv/share/kafka/libs/b-1.jar").unlink()
    assert setup.main() == 0
    assert steps


def test_a_failed_step_ends_with_cause_and_next_step(
    tree: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the program's own words, what is likely, what is next; and it is not taken for complete."""
    (tree / "pyproject.toml").write_text("changed")
    failing = [sys.executable, "-c", "print('no route to the index'); raise SystemExit(3)"]
    monkeypatch.setattr(setup, "install_packages", lambda _: setup.run("the packages", failing))
    assert setup.main() == 1
    said = capsys.readouterr().err
    assert "installing the packages failed" in said
    assert "| no route to the index" in said
    assert "Next: mend that, then `make setup` again" in said
    assert not (tree / ".venv/.ready").exists()


def test_an_old_python_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that is needed and how to name another interpreter."""
    monkeypatch.setattr(setup, "PYTHON_MINIMUM", (99, 0))
    with pytest.raises(setup.SetupError, match=r"(?s)is too old, 99.0 or newer.*make setup PYTHON=python99.0"):
        setup.make_venv()


def test_uv_is_told_what_pip_is_set_up_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Index, links and certificate as pip has them (environment over files); one's own settings for uv win."""
    listing = (
        ":env:.find-links='/wheels'\nglobal.index-url='https://file.example/simple'\n"
        "global.cert='/ca.pem'\n:env:.index-url='https://env.example/simple'\nlist.format='columns'\n"
    )
    program = tmp_path / "pip"
    program.write_text(f"#!{sys.executable}\nprint({listing!r}, end='')\n")
    program.chmod(0o755)
    monkeypatch.setattr(setup, "pip", lambda: str(program))
    for name in ("UV_DEFAULT_INDEX", "UV_FIND_LINKS", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    found = setup.uv_environment()
    assert found["UV_DEFAULT_INDEX"] == "https://env.example/simple"
    assert found["UV_FIND_LINKS"] == "/wheels"
    assert found["SSL_CERT_FILE"] == "/ca.pem"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example/simple")
    assert setup.uv_environment()["UV_DEFAULT_INDEX"] == "https://own.example/simple"


def test_a_build_of_etcd_that_fails_is_said_and_not_fatal(
    tree: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A region that is alone needs none."""
    monkeypatch.setattr(setup, "install_etcd", install_etcd)
    python = tree / ".venv/bin/python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$*" >> {tree}/calls; exit 1\n')
    python.chmod(0o755)
    setup.install_etcd()
    assert (tree / "calls").read_text() == "-m infra.runtime.etcd_install\n"
    assert "only a region that is alone runs" in capsys.readouterr().out


def test_etcd_is_looked_for_even_when_all_else_is_ready(
    tree: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies outside the environment, and may have been removed or never built."""
    monkeypatch.setattr(setup, "install_etcd", lambda: steps.append("install_etcd"))
    assert setup.main() == 0
    assert steps == ["install_etcd"]
