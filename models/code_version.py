"""Which code made a model: the release, and the commit where the sources lie in a repository."""

import subprocess
from importlib.metadata import version
from pathlib import Path


def code_version() -> str:
    """Return `0.1.0+1a2b3c4d5e6f`, with `.changed` when tracked files differ; outside of git the release alone."""
    release = version("meridian")
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return release
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release}+{commit}" + (".changed" if changed else "")


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 - git, of this repository
    return done.stdout.strip()
