"""Fetching jars: only what is listed, only with the pinned sum, and a failure that says what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from infra.runtime import kafka_install
from infra.runtime.kafka import KafkaBroker, KafkaHome, KafkaRuntimeError, find_home, server_properties
from infra.runtime.kafka_install import Artifact, fetch_all, read_artifacts

CONTENT = b"a jar"
GOOD = Artifact("org.example", "broker", "1.0", hashlib.sha256(CONTENT).hexdigest())


class FakeMaven:
    """Stands for jgo's context: every artifact is a file with the given content, or an error."""

    def __init__(self, content: bytes | Exception) -> None:
        self.content = content
        self.fetched: list[str] = []

    def __call__(self, repo_cache: Path, timeout: int) -> FakeMaven:
        self.cache = repo_cache
        return self

    def project(self, group: str, name: str) -> FakeMaven:
        self.name = name
        return self

    def at_version(self, version: str) -> FakeMaven:
        return self

    def artifact(self) -> FakeMaven:
        return self

    def resolve(self) -> Path:
        self.fetched.append(self.name)
        if isinstance(self.content, Exception):
            raise self.content
        path = self.cache / f"{self.name}.jar"
        path.write_bytes(self.content)
        return path


@pytest.fixture
def maven(monkeypatch: pytest.MonkeyPatch) -> FakeMaven:
    """A repository that serves the right content."""
    fake = FakeMaven(CONTENT)
    monkeypatch.setattr("jgo.maven.MavenContext", fake)
    return fake


def test_what_is_missing_is_fetched_and_what_is_whole_is_kept(maven: FakeMaven, tmp_path: Path) -> None:
    """The second time asks for nothing; a damaged jar is fetched again; a stray one goes."""
    libs = tmp_path / "libs"
    fetch_all([GOOD], libs)
    fetch_all([GOOD], libs)
    assert maven.fetched == ["broker"]
    (libs / "broker-1.0.jar").write_bytes(b"damaged")
    (libs / "broker-0.9.jar").write_bytes(b"of an older release")
    fetch_all([GOOD], libs)
    assert maven.fetched == ["broker", "broker"]
    assert [path.name for path in libs.iterdir()] == ["broker-1.0.jar"]
    assert (libs / "broker-1.0.jar").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["libs"], "nothing of the download is left"


def test_another_content_than_the_pinned_one_is_never_installed(maven: FakeMaven, tmp_path: Path) -> None:
    """A wrong sum is tried again, then refused, and nothing lies in `libs`."""
    maven.content = b"something else"
    with pytest.raises(
        KafkaRuntimeError, match=r"(?s)org.example:broker:1.0.*sha256 differs.*Next: `make setup` again"
    ):
        fetch_all([GOOD], tmp_path / "libs")
    assert maven.fetched == ["broker"] * kafka_install.TRIES
    assert list((tmp_path / "libs").iterdir()) == []


def test_an_unreachable_repository_is_named_with_the_next_step(maven: FakeMaven, tmp_path: Path) -> None:
    """The cause of the library's error is kept."""
    maven.content = ConnectionError("no route")
    with pytest.raises(KafkaRuntimeError, match=r"(?s)ConnectionError: no route.*MERIDIAN_KAFKA_HOME"):
        fetch_all([GOOD], tmp_path / "libs")


def test_a_line_that_is_no_coordinate_is_named() -> None:
    """The listing's line number is in the message."""
    assert list(read_artifacts(["# comment", "", "a:b:1 00 # why"])) == [Artifact("a", "b", "1", "00")]
    with pytest.raises(KafkaRuntimeError, match=":2: expected"):
        list(read_artifacts(["a:b:1 00", "a:b 00"]))


def test_a_named_kafka_is_used_and_must_be_one(tmp_path: Path) -> None:
    """A directory without libs/, or without a broker in it, is refused with what to do."""
    with pytest.raises(KafkaRuntimeError, match="has no libs/ directory"):
        find_home(str(tmp_path))
    (tmp_path / "libs").mkdir()
    home = find_home(str(tmp_path))
    with pytest.raises(KafkaRuntimeError, match="no Kafka under"):
        _ = home.class_path
    for name in ("z.jar", "kafka_2.13-4.3.1.jar", "a.jar"):
        (tmp_path / "libs" / name).touch()
    assert [Path(part).name for part in home.class_path.split(":")] == ["a.jar", "kafka_2.13-4.3.1.jar", "z.jar"]
    assert isinstance(home, KafkaHome)


def test_the_broker_listens_on_loopback_and_deletes_nothing_by_itself(tmp_path: Path) -> None:
    """The properties that the promise stands on."""
    lines = server_properties(tmp_path, 19092, 19093).splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert found["listeners"] == "PLAINTEXT://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093"
    assert found["auto.create.topics.enable"] == found["unclean.leader.election.enable"] == "false"
    assert found["log.retention.ms"] == found["log.retention.bytes"] == "-1"
    assert found["log.message.timestamp.type"] == "LogAppendTime"


def test_a_log_that_lost_its_name_is_never_formatted_over(tmp_path: Path) -> None:
    """Formatting would make strangers of its records; what a killed format left is no log."""
    (tmp_path / "libs").mkdir()
    broker = KafkaBroker(tmp_path / "kafka", 1, 2, home=find_home(str(tmp_path)))
    (tmp_path / "kafka" / "logs" / "east-1.events-0").mkdir(parents=True)
    with pytest.raises(KafkaRuntimeError, match=r"no meta\.properties.*put it back"):
        broker.prepare()
