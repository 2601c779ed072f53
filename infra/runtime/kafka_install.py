"""Fetches the jars of Kafka, checks their sums, and makes the class cache that halves a broker's start.

Kafka's own download is a tarball with everything in it; a broker needs 46 jars of it. They come from the configured
Maven repository by exact coordinates with a sha256 each (`kafka-artifacts.txt`): a transitive resolver picks other
versions. `MERIDIAN_KAFKA_HOME` names a Kafka that is already there; nothing is fetched then.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from infra.runtime.kafka import KafkaHome, KafkaRuntimeError, archive_path, find_home, make_archive

ARTIFACTS = Path(__file__).with_name("kafka-artifacts.txt")
DOWNLOADS_AT_ONCE = 8
DOWNLOAD_TIMEOUT_SECONDS = 60
TRIES = 3


@dataclass(frozen=True, slots=True)
class Artifact:
    """One jar: where it is in a Maven repository, and the sum it must have."""

    group: str
    name: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Return the jar's name in `libs/`."""
        return f"{self.name}-{self.version}.jar"


def read_artifacts(lines: Iterable[str]) -> Iterator[Artifact]:
    """Yield the artifacts of a `group:name:version sha256` listing; `#` starts a comment."""
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            coordinates, sha256 = text.split()
            group, name, version = coordinates.split(":")
        except ValueError:
            raise KafkaRuntimeError(
                f"{ARTIFACTS.name}:{number}: expected `group:name:version sha256`, found {text!r}"
            ) from None
        yield Artifact(group, name, version, sha256)


def fetch_all(artifacts: list[Artifact], libs: Path) -> None:
    """Bring `libs` to hold exactly `artifacts`, each with its pinned sum."""
    libs.mkdir(parents=True, exist_ok=True)
    wanted = {artifact.file_name for artifact in artifacts}
    for found in libs.iterdir():
        if found.name not in wanted:
            found.unlink()
    missing = [artifact for artifact in artifacts if not is_whole(artifact, libs / artifact.file_name)]
    if not missing:
        return
    with (
        tempfile.TemporaryDirectory(prefix=".maven-", dir=libs.parent) as cache,
        ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool,
    ):
        jobs = {pool.submit(fetch, artifact, Path(cache), libs): artifact for artifact in missing}
        for count, job in enumerate(as_completed(jobs), start=1):
            try:
                job.result()
            except KafkaRuntimeError:
                pool.shutdown(cancel_futures=True)
                raise
            show(f"Kafka {count}/{len(missing)}: {jobs[job].file_name}", last=count == len(missing))


def is_whole(artifact: Artifact, path: Path) -> bool:
    """Say whether `path` is there and has the pinned sum."""
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == artifact.sha256


def fetch(artifact: Artifact, cache: Path, libs: Path) -> None:
    """Download one jar, check it, and put it into `libs` in one step."""
    from jgo.maven import MavenContext

    cause = ""
    for _ in range(TRIES):
        try:
            context = MavenContext(repo_cache=cache, timeout=DOWNLOAD_TIMEOUT_SECONDS)
            component = context.project(artifact.group, artifact.name).at_version(artifact.version)
            found = Path(component.artifact().resolve())
        except Exception as error:  # noqa: BLE001 - jgo raises what its HTTP library raises; all end alike here
            cause = f"{type(error).__name__}: {error}"
            continue
        if is_whole(artifact, found):
            shutil.move(found, libs / artifact.file_name)
            return
        cause = "its sha256 differs from the pinned one"
        found.unlink()
    raise KafkaRuntimeError(
        f"{artifact.group}:{artifact.name}:{artifact.version} could not be had after {TRIES} tries: {cause}\n"
        "  Likely: no network, or a proxy or certificate of this machine that Python's requests library is not told "
        "of.\n  Next: `make setup` again fetches only what is missing; or set MERIDIAN_KAFKA_HOME to the directory "
        "of a Kafka 4.3 that is already here."
    )


def show(text: str, *, last: bool) -> None:
    """Print progress: one line rewritten on a terminal, only the last one elsewhere."""
    if sys.stdout.isatty():
        print(f"\rsetup: {text:<78}", end="\n" if last else "", flush=True)
    elif last:
        print(f"setup: {text}", flush=True)


def main() -> int:
    """Fetch what is missing and make the archive; 0 when a broker can start."""
    try:
        home = find_home()
        if not os.environ.get("MERIDIAN_KAFKA_HOME"):
            fetch_all(list(read_artifacts(ARTIFACTS.read_text().splitlines())), home.libs)
        prepare_archive(home)
    except KafkaRuntimeError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def prepare_archive(home: KafkaHome) -> None:
    """Make the class cache unless it fits; a broker also starts without one, only slower."""
    if archive_path(home).exists():
        return
    show("making Kafka's class cache (once)", last=True)
    try:
        make_archive(home)
    except (KafkaRuntimeError, subprocess.SubprocessError) as error:
        print(f"setup: no class cache, brokers will start more slowly: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
