"""How a member starts: as one of a new cluster, from its data, or in place of what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from infra.runtime.etcd import EtcdMember, EtcdRuntimeError
from infra.runtime.etcd_members import JoinRefused, join_as_learner

PEERS = {"east": "http://127.0.0.1:1", "west": "http://127.0.0.1:3", "north": "http://127.0.0.1:5"}


class Survivor:
    """A member that answers about membership, and remembers what it was told to do."""

    def __init__(self) -> None:
        self.members: list[dict[str, Any]] = [
            {"ID": str(number), "name": name, "peerURLs": [url]} for number, (name, url) in enumerate(PEERS.items(), 1)
        ]
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.refuses = ""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        step = path.rpartition("/")[2]
        if step != "list":
            self.told.append((step, body))
        if self.refuses == step:
            return 503, {"code": 14, "message": "etcdserver: unhealthy cluster"}
        if step == "remove":
            self.members = [member for member in self.members if member["ID"] != body["ID"]]
        if step == "add":
            self.members.append({"ID": "9", "peerURLs": body["peerURLs"], "isLearner": body["isLearner"]})
        return 200, {"members": self.members}


@pytest.fixture
def survivor() -> Iterator[tuple[Survivor, str]]:
    """One survivor and its address."""
    state = Survivor()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, found = state.answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            raw = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def member_in(directory: Path, client_urls: list[str]) -> EtcdMember:
    """The member of east."""
    return EtcdMember("east", directory, "127.0.0.1", 2, 1, PEERS, client_urls)


@pytest.fixture
def etcd_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that says that it is etcd."""
    path = tmp_path / "etcd-program"
    path.write_text("#!/bin/sh\necho etcd Version: 3.6.16\n")
    path.chmod(0o755)
    monkeypatch.setenv("MERIDIAN_ETCD", str(path))


@pytest.mark.usefixtures("etcd_program")
def test_a_deployment_that_never_ran_starts_a_new_cluster(tmp_path: Path) -> None:
    """All members are named, and nobody is asked."""
    member = member_in(tmp_path / "east", [])
    with pytest.raises(EtcdRuntimeError, match="was not prepared"):
        member.command()
    member.prepare(bootstrapped=False)
    command = member.command()
    assert "--initial-cluster-state=new" in command
    assert "--initial-cluster=" + ",".join(f"{name}={url}" for name, url in PEERS.items()) in command
    assert "--watch-progress-notify-interval=200ms" in command


@pytest.mark.usefixtures("etcd_program")
def test_a_member_with_data_goes_on_as_it_was(tmp_path: Path) -> None:
    """Nobody is asked, even if the deployment ran before; the note of the first start may be lost."""
    member = member_in(tmp_path / "east", ["http://127.0.0.1:9"])
    (member.data_dir / "member" / "wal").mkdir(parents=True)
    (member.data_dir / "member" / "wal" / "0.wal").touch()
    member.prepare(bootstrapped=True)
    assert "--initial-cluster-state=existing" in member.command()


@pytest.mark.usefixtures("etcd_program")
def test_a_wiped_member_joins_as_a_learner(tmp_path: Path, survivor: tuple[Survivor, str]) -> None:
    """The survivor forgets the old member and takes the new one; dead survivors are passed over."""
    state, url = survivor
    member = member_in(tmp_path / "east", ["http://127.0.0.1:2", "http://127.0.0.1:9", url])
    member.prepare(bootstrapped=True)
    assert [step for step, _ in state.told] == ["remove", "add"]
    assert state.told[0][1] == {"ID": "1"}
    assert state.told[1][1] == {"peerURLs": [PEERS["east"]], "isLearner": True}
    command = member.command()
    assert "--initial-cluster-state=existing" in command
    assert f"--initial-cluster=west={PEERS['west']},north={PEERS['north']},east={PEERS['east']}" in command


def test_a_second_try_finds_the_learner_of_the_first(survivor: tuple[Survivor, str]) -> None:
    """A try that was cut short is gone on with, not repeated."""
    state, url = survivor
    first = join_as_learner("east", PEERS["east"], PEERS, [url])
    assert join_as_learner("east", PEERS["east"], PEERS, [url]) == first
    assert [step for step, _ in state.told] == ["remove", "add"]


def test_a_learner_that_started_and_was_wiped_is_replaced_too(survivor: tuple[Survivor, str]) -> None:
    """Having started once, it has a name, and knows what the new one does not."""
    state, url = survivor
    state.members[0] |= {"isLearner": True}
    join_as_learner("east", PEERS["east"], PEERS, [url])
    assert [step for step, _ in state.told] == ["remove", "add"]


def test_a_refusal_says_who_said_what(tmp_path: Path, survivor: tuple[Survivor, str]) -> None:
    """Nothing is started, and the operator reads that it is tried again."""
    state, url = survivor
    state.refuses = "add"
    with pytest.raises(JoinRefused, match="unhealthy cluster"):
        join_as_learner("east", PEERS["east"], PEERS, [url])
    member = member_in(tmp_path / "east", [url])
    with pytest.raises(EtcdRuntimeError, match=r"(?s)unhealthy cluster.*tried again"):
        member.prepare(bootstrapped=True)
    with pytest.raises(JoinRefused, match="no other members"):
        join_as_learner("east", PEERS["east"], PEERS, [])
