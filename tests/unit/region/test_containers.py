"""A region whose Kafka, etcd and inference worker are containers of their own, and what runs before its supervisor."""

from __future__ import annotations

import json
import socket
import stat
import struct
import threading
from pathlib import Path

import pytest

from services.common.deployment import Deployment, load_deployment
from services.common.exit_codes import ExitCode
from services.common.region_settings import RegionSettings
from services.gateway.surroundings import Surroundings
from services.region import broker_watch, containers, deployment_cli, probe
from services.region.deploy import region_settings
from services.region.errors import StartLater
from services.region.plan import KafkaSettings, etcd_member, joined_file, plan_region
from services.region.renewal import Renewal, ask_for_renewal, begin_anew

ADVERTISED = {"east": "http://shop.example:80", "west": "http://127.0.0.1:8100"}


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """As the containers settle it."""
    return containers.settle(tmp_path, ADVERTISED)


@pytest.fixture
def region(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> RegionSettings:
    """The region east in its container."""
    monkeypatch.setenv("MERIDIAN_REGION_ELSEWHERE", "kafka,etcd,inference")
    found = region_settings(deployment, deployment.site("east"))
    found.log_dir.mkdir(parents=True)
    return found


def test_settling_twice_changes_addresses_and_nothing_else(deployment: Deployment, tmp_path: Path) -> None:
    """Keys and the id are made once; they lie where no wipe comes, and only their owner reads them."""
    keys = tmp_path / "keys"
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    again = containers.settle(tmp_path, {"east": "http://10.0.0.7:8080"})
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before
    assert set(before) == {"pseudonym.key", "model-signing.key", "trusted-model-keys"}
    assert stat.S_IMODE((keys / "pseudonym.key").stat().st_mode) == 0o600
    assert again.deployment_id == deployment.deployment_id == load_deployment(tmp_path).deployment_id
    assert again.site("east").gateway_for_apps == "http://10.0.0.7:8080"
    assert again.site("west").gateway_for_apps == "http://west:8100", "its address among the sites, for want of another"


def test_a_wrong_address_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A typing error in MERIDIAN_EAST_URL would send apps nowhere."""
    code = containers.main(["settle", "--directory", str(tmp_path), "--advertise", "east=shop.example"])
    assert code == ExitCode.BAD_SETTINGS
    assert "MERIDIAN_EAST_URL" in capsys.readouterr().err


def test_what_runs_elsewhere_is_not_started_but_waited_for(region: RegionSettings) -> None:
    """The step before the logs' users still runs after each start of the broker: a watch stands in for it."""
    plan = {process.name: process for process in plan_region(region, KafkaSettings()).processes}
    assert list(plan) == ["kafka", "prepare", "processor", "gateway", "replicator", "controller"]
    assert plan["kafka"].is_watch
    assert plan["kafka"].launch().command[-2:] == ["east", "8083"]
    assert plan["prepare"].needs == ("kafka",)


def test_everything_listens_on_all_addresses_and_is_reached_by_the_sites_name(region: RegionSettings) -> None:
    """Inside of the container both are the same host; apps are told the published address."""
    environment = {p.name: p for p in plan_region(region, KafkaSettings()).processes}["gateway"].launch().environment
    assert environment["MERIDIAN_GATEWAY_HOST"] == environment["MERIDIAN_CONTROLLER_HOST"] == "0.0.0.0"
    assert environment["MERIDIAN_GATEWAY_TRUST_NETWORK"] == "true"
    assert environment["MERIDIAN_REGION_HOST"] == "east"
    assert environment["MERIDIAN_REGION_ADVERTISED_URL"] == ADVERTISED["east"]
    assert region.gateway_url == "http://east:8080"
    assert region.bootstrap == "east:8083"
    assert region.gateway_for_apps == ADVERTISED["east"]


async def test_apps_are_told_the_published_address_of_every_region(
    region: RegionSettings, deployment: Deployment
) -> None:
    """Also of a region whose gateway is not registered."""
    found = Surroundings.among(region, deployment, object(), object(), object())  # type: ignore[arg-type]
    assert dict(found.addresses) == ADVERTISED


def test_a_broker_that_has_to_begin_anew_is_not_used_before_it_has(region: RegionSettings) -> None:
    """The wish stands until whoever runs the broker has put the old log aside."""
    watch = next(p for p in plan_region(region, KafkaSettings()).processes if p.name == "kafka")
    ask_for_renewal(region, Renewal("east-1", "it was cut"))
    with pytest.raises(StartLater):
        watch.launch()
    begin_anew(region)
    assert watch.launch()


def test_etcd_is_told_in_a_file_how_to_start(deployment: Deployment) -> None:
    """The image of etcd has no shell: everything that is decided here stands in the file."""
    said = json.loads(containers.prepare_etcd(deployment, "east").read_text())
    assert said["listen-client-urls"] == "http://0.0.0.0:8087"
    assert said["advertise-client-urls"] == "http://east:8087"
    assert said["initial-cluster"] == "east=http://east:8088,west=http://west:8108,north=http://north:8128"
    assert said["initial-cluster-state"] == "new"
    assert joined_file(deployment, "east").exists(), "marked before its first start: a wipe may come before its second"


def test_a_member_that_never_started_is_not_taken_for_a_wiped_one(deployment: Deployment) -> None:
    """The mark is there, its data is not yet: what was decided stands, as long as no wipe took the decision."""
    containers.prepare_etcd(deployment, "east")
    again = json.loads(containers.prepare_etcd(deployment, "east").read_text())
    assert again["initial-cluster-state"] == "new"


def test_a_wiped_member_waits_for_the_survivors(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It starts once they have taken it in; until then it says why it does not, once."""
    monkeypatch.setattr(containers, "RETRY_SECONDS", 0.0)
    member = etcd_member(deployment, deployment.site("east"))
    containers.prepare_etcd(deployment, "east")
    for path in member.directory.iterdir():
        path.unlink()
    tries = iter([None, None, {"east": member.peer_url, "west": "http://west:8108"}])

    def join(*_: object) -> dict[str, str]:
        from infra.runtime.etcd_members import JoinRefused

        cluster = next(tries)
        if cluster is None:
            raise JoinRefused("west does not answer")
        return cluster

    monkeypatch.setattr("infra.runtime.etcd_members.join_as_learner", join)
    said = json.loads(containers.prepare_etcd(deployment, "east").read_text())
    assert said["initial-cluster-state"] == "existing"
    assert capsys.readouterr().err.count("west does not answer") == 1


def test_the_images_machine_code_is_put_where_it_can_grow(tmp_path: Path) -> None:
    """And is not put there again over what was added."""
    built, cache = tmp_path / "built", tmp_path / "cache"
    (built / "meridian").mkdir(parents=True)
    (built / "meridian" / "fold.nbc").write_text("old")
    containers.seed_kernels(built, cache)
    (cache / "meridian" / "fold.nbc").write_text("new")
    containers.seed_kernels(built, cache)
    assert (cache / "meridian" / "fold.nbc").read_text() == "new"


class Broker:
    """Answers one request of a broker, and hangs up when told to."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.asked = threading.Event()
        self.leave = threading.Event()
        self.request = b""
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            self.request = connection.recv(100)
            connection.sendall(struct.pack(">ii", 4, 1))
            self.asked.set()
            self.leave.wait(10)


def test_the_watch_lives_as_long_as_the_broker() -> None:
    """It asks what every broker answers, and ends when the connection does."""
    broker = Broker()
    host, port = broker.listener.getsockname()
    ended: list[str] = []
    watch = threading.Thread(target=lambda: ended.append(broker_watch.watch(broker_watch.connect(host, port))))
    watch.start()
    assert broker.asked.wait(10)
    assert struct.unpack(">ihhih", broker.request) == (10, 18, 0, 1, -1), "ApiVersions, version 0, no client's name"
    assert not ended
    broker.leave.set()
    watch.join(10)
    broker.listener.close()
    assert ended == ["the broker closed its connection"]


def _answering(body: str) -> tuple[socket.socket, int]:
    """A listener that gives this body to everybody."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                connection.sendall(f"HTTP/1.1 200 OK\r\n\r\n{body}".encode())

    threading.Thread(target=serve, daemon=True).start()
    return listener, listener.getsockname()[1]


@pytest.mark.parametrize(("body", "code"), [('{"active": "east"}', 0), ('{"active": null}', 1), ("nonsense", 1)])
def test_a_region_is_healthy_when_some_region_is_active(
    body: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """`up --wait` returns on this."""
    listener, port = _answering(body)
    with listener:
        assert probe.main([f"{port}/readyz", str(port), "--active", f"{port}/v1/regions"]) == code
    assert ("ready" in capsys.readouterr().out) == (code == 0)


def test_a_container_whose_process_does_not_listen_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    """And the check says which."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert probe.main([f"{port}/readyz"]) == 1
    assert capsys.readouterr().out == f"{port}: does not listen yet\n"


@pytest.mark.parametrize("json_wanted", [True, False])
def test_nobody_who_answers_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, json_wanted: bool
) -> None:
    """From the machine that runs the containers, where no process is seen: what controllers say is all there is."""
    monkeypatch.setattr("services.region.deployment_cli._control_status", lambda *_, **__: 1)
    assert deployment_cli.status(containers.for_this_machine(tmp_path), json=json_wanted, watch=False) == 1
    said = capsys.readouterr().out
    assert json_wanted or "docker compose -f docker-compose.multiregion.yml exec SITE" in said
