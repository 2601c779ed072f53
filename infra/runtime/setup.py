"""Makes the project's environment, `.venv`, on a machine that has only Python, git and make.

Runs under the system's Python before anything is installed, so it uses the standard library alone. Each step is
skipped when its inputs have not changed: the stamp in `.venv/.ready` is a hash of everything that decides the result,
and a second run takes about a tenth of a second. Packages are installed from hashed requirement files, by uv with the
index that pip is set up for, or by pip itself where uv cannot reach one. An environment that was once made for
training stays one: `.venv/.requirements` says which file it holds, and a run that names none keeps to it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
READY = VENV / ".ready"
CHOSEN = VENV / ".requirements"
GIGABYTES = {"dev": 1.5, "runtime": 1.5, "gpu": 1.5, "train": 7}
"""Requirement files there are, and what an environment with them takes on disk."""
PYTHON_MINIMUM = (3, 11)
INPUTS = (
    "pyproject.toml",
    "requirements/bootstrap.txt",
    "infra/runtime/kafka-artifacts.txt",
    "infra/runtime/kafka_install.py",
    "infra/runtime/setup.py",
)


class SetupError(Exception):
    """A step failed; the message says why and what to do next."""


def main() -> int:
    """Run every step that is due; 0 when the environment is complete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requirements", default="", choices=("", *GIGABYTES), help="as before, at first dev")
    parser.add_argument("--force", action="store_true", help="run every step even if nothing changed")
    arguments = parser.parse_args()
    started = time.monotonic()
    requirements = arguments.requirements or chosen_before()
    try:
        stamp = stamp_of(requirements)
        if not arguments.force and READY.exists() and READY.read_text() == stamp and kafka_is_there():
            install_etcd()
            return 0
        READY.unlink(missing_ok=True)
        make_venv()
        install_uv()
        install_packages(requirements)
        install_project()
        install_kafka()
        CHOSEN.write_text(requirements)
        READY.write_text(stamp)
        install_etcd()
    except SetupError as error:
        print(f"\nsetup: {error}", file=sys.stderr)
        return 1
    say(f"ready in {time.monotonic() - started:.0f} s. Commands are in .venv/bin; `make` lists what to do next.")
    return 0


def stamp_of(requirements: str) -> str:
    """Return a hash of all that decides what the environment holds."""
    facts = (requirements, sys.version, str(ROOT), os.environ.get("MERIDIAN_KAFKA_HOME", ""))
    digest = hashlib.sha256("\0".join(facts).encode())
    for name in (*INPUTS, f"requirements/{requirements}.txt"):
        digest.update(hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()


def chosen_before() -> str:
    """Return the requirement file that the environment was made from; `dev` for a new one."""
    name = CHOSEN.read_text().strip() if CHOSEN.exists() else ""
    return name if name in GIGABYTES else "dev"


def kafka_is_there() -> bool:
    """Say whether as many jars are there as are listed; their sums are checked when they are fetched."""
    if os.environ.get("MERIDIAN_KAFKA_HOME"):
        return True
    listed = (ROOT / "infra" / "runtime" / "kafka-artifacts.txt").read_text().splitlines()
    wanted = sum(bool(line.partition("#")[0].strip()) for line in listed)
    return len(list((VENV / "share" / "kafka" / "libs").glob("*.jar"))) == wanted


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"setup: {text}", flush=True)


def make_venv() -> None:
    """Create `.venv` unless a working one of this Python is there."""
    if sys.version_info < PYTHON_MINIMUM:
        wanted = ".".join(map(str, PYTHON_MINIMUM))
        raise SetupError(
            f"Python {sys.version.split()[0]} is too old, {wanted} or newer is needed.\n"
            f"  Next: install it, then `make setup PYTHON=python{wanted}`."
        )
    if works(VENV / "bin" / "python"):
        return
    say(f"making .venv with Python {sys.version.split()[0]}")
    if VENV.exists():
        shutil.rmtree(VENV)
    result = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(
            f"`{sys.executable} -m venv` failed:\n{tail(result.stdout + result.stderr)}\n"
            "  Next: on Debian and Ubuntu, `apt-get install python3-venv`; then `make setup`."
        )


def works(python: Path) -> bool:
    """Say whether `python` is a usable interpreter of the version that runs this script."""
    if not python.exists():
        return False
    probe = subprocess.run(
        [str(python), "-c", "import pip, sys; print(sys.version)"], capture_output=True, text=True, check=False
    )
    return probe.returncode == 0 and probe.stdout.strip() == sys.version


def install_uv() -> None:
    """Install uv, pinned and hashed, by the pip that came with the environment."""
    wanted = ROOT / "requirements" / "bootstrap.txt"
    run("uv", [pip(), "install", "--quiet", "--require-hashes", "-r", str(wanted)])


def install_packages(requirements: str) -> None:
    """Make the environment hold exactly the pinned packages."""
    wanted = str(ROOT / "requirements" / f"{requirements}.txt")
    say(f"installing the packages of requirements/{requirements}.txt (about {GIGABYTES[requirements]} GB on disk)")
    uv = VENV / "bin" / "uv"
    bootstrap = str(ROOT / "requirements" / "bootstrap.txt")
    try:
        run(
            "the packages",
            [str(uv), "pip", "sync", "--require-hashes", wanted, bootstrap],
            environment=uv_environment(),
        )
    except SetupError as error:
        say(f"uv could not do it, pip tries next. uv said:\n{error}")
        run("the packages", [pip(), "install", "--require-hashes", "-r", wanted])


def install_project() -> None:
    """Install this tree in place, without an isolated build."""
    run(
        "this project",
        [pip(), "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT)],
    )


def install_kafka() -> None:
    """Fetch Kafka's jars and make its class cache, under the environment's Python."""
    command = [str(VENV / "bin" / "python"), "-m", "infra.runtime.kafka_install"]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise SetupError("Kafka is not complete (the cause is above); everything else is. `make setup` resumes here.")


def install_etcd() -> None:
    """Find etcd or build it; without one there is no second region, but everything else works."""
    command = [str(VENV / "bin" / "python"), "-m", "infra.runtime.etcd_install"]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        say("without etcd only a region that is alone runs (the cause is above); the next `make setup` tries again.")


def pip() -> str:
    """Return the path of the environment's pip."""
    return str(VENV / "bin" / "pip")


def uv_environment() -> dict[str, str]:
    """Return an environment in which uv uses the index, certificates and patience that pip is set up with."""
    environment = dict(os.environ, VIRTUAL_ENV=str(VENV), UV_LINK_MODE=os.environ.get("UV_LINK_MODE", "copy"))
    environment.setdefault("UV_SYSTEM_CERTS", "true")
    configured = pip_configuration()
    for option, variable in (
        ("index-url", "UV_DEFAULT_INDEX"),
        ("extra-index-url", "UV_INDEX"),
        ("find-links", "UV_FIND_LINKS"),
        ("cert", "SSL_CERT_FILE"),
        ("default-timeout", "UV_HTTP_TIMEOUT"),
        ("timeout", "UV_HTTP_TIMEOUT"),
    ):
        if option in configured:
            environment.setdefault(variable, configured[option])
    return environment


def pip_configuration() -> dict[str, str]:
    """Return pip's settings by option name; later sources (environment over files) win."""
    listed = subprocess.run([pip(), "config", "list"], capture_output=True, text=True, check=False).stdout
    options: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, option = name.partition(".")
        if section in ("global", "install", ":env:"):
            options[option] = value.strip("'\"").replace("\\n", " ")
    return options


def run(what: str, command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run one step; its output is shown as it comes, and repeated in short when it fails."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if line.startswith(("Resolved", "Prepared", "Downloading", "Downloaded", "Installed", "Uninstalled")):
            say(line.rstrip())
    if process.wait() != 0:
        raise SetupError(
            f"installing {what} failed:\n{tail(''.join(lines))}\n"
            "  Likely: no network, or an index or certificate that this machine needs is not set for pip "
            "(`pip config list` shows what is).\n  Next: mend that, then `make setup` again; it resumes."
        )


def tail(text: str, lines: int = 12) -> str:
    """Return the last lines of `text`, indented."""
    return "\n".join(f"  | {line}" for line in text.strip().splitlines()[-lines:])


if __name__ == "__main__":
    sys.exit(main())
