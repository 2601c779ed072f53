"""From the words of a command line to sites: names, ports, hosts, and what is refused with the reason."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from models.signing import public_key, read_key, read_trusted
from services.common.deployment import PORT_OFFSETS, Deployment
from services.common.settings import SettingsError
from services.region import deploy
from services.region.deploy import Network, plan_deployment, refusal, region_settings
from tests.support.deployment import free_base_port


def planned(directory: Path, *regions: str, witness: str = "north", network: Network = "loopback") -> Deployment:
    """A deployment from port 21000 on."""
    return plan_deployment(regions, witness, base_port=21000, directory=directory, network=network, deployment_id="d1")


def test_no_two_listeners_of_a_deployment_share_an_address(tmp_path: Path) -> None:
    """Sites are twenty ports apart, and each has a directory of its own."""
    found = planned(tmp_path, "east", "west", "south")
    ports = [site.port(listener) for site in found.sites for listener in PORT_OFFSETS]
    assert len(set(ports)) == len(ports) == 4 * len(PORT_OFFSETS)
    assert [site.base_port for site in found.sites] == [21000, 21020, 21040, 21060]
    assert [site.kind for site in found.sites] == ["region", "region", "region", "witness"]
    assert {site.host for site in found.sites} == {"127.0.0.1"}


def test_namespaces_give_every_site_an_address_of_its_own(tmp_path: Path) -> None:
    """The address follows from the order of the sites, as the network's does."""
    found = planned(tmp_path, "east", "west", network="namespaces")
    assert [site.host for site in found.sites] == ["10.77.0.11", "10.77.0.12", "10.77.0.13"]
    assert [site.namespace for site in found.sites] == ["east", "west", "north"]


def test_a_region_gets_its_settings_from_its_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell still exports for another region does not leak in; what a deployment does not decide does."""
    monkeypatch.setenv("MERIDIAN_REGION_DATA_DIR", "/elsewhere")
    monkeypatch.setenv("MERIDIAN_REGION_BOOTSTRAP", "elsewhere:9092")
    monkeypatch.setenv("MERIDIAN_REGION_PARTITIONS", "3")
    found = planned(tmp_path, "east", "west")
    settings = region_settings(found, found.site("west"))
    assert settings.name == "west" and not settings.is_alone
    assert settings.data_dir == tmp_path / "west"
    assert settings.bootstrap == "127.0.0.1:21023"
    assert settings.gateway_url == "http://127.0.0.1:21020"
    assert settings.control_url == found.site("west").url("control")
    assert settings.replicator_url == found.site("west").url("replicator")
    assert settings.partitions == 3
    assert settings.pseudonym_key_file == tmp_path / "pseudonym.key", "outside of what a wipe of the region destroys"
    assert settings.signing_key_file == tmp_path / "model-signing.key"
    assert settings.trusted_keys_file == tmp_path / "trusted-model-keys"


@pytest.mark.parametrize(
    ("regions", "witness", "reason"),
    [
        (["east"], "north", "at least two regions"),
        (["east", "west"], "", "--witness north"),
        (["east", "east"], "north", "a name of its own"),
        (["east", "west"], "east", "a name of its own"),
        (["East", "west"], "north", "'East' is no name"),
        (["etcd-joined", "west"], "north", "'etcd-joined' is no name"),
    ],
)
def test_sites_that_make_no_deployment_are_refused(regions: list[str], witness: str, reason: str) -> None:
    """The message says what to write instead."""
    found = refusal(regions, witness)
    assert found is not None and reason in found


def test_three_regions_need_no_witness(tmp_path: Path) -> None:
    """Three votes are there already; a fourth is allowed."""
    assert refusal(["east", "west", "south"], "") is None
    assert len(planned(tmp_path, "east", "west", "south", witness="").sites) == 3


def test_ports_beyond_the_last_one_are_refused(tmp_path: Path) -> None:
    """A base port that leaves no room for the last site."""
    with pytest.raises(SettingsError, match="--base-port 65500"):
        plan_deployment(
            ["east", "west"], "north", base_port=65500, directory=tmp_path, network="loopback", deployment_id="d"
        )


def test_a_taken_port_is_named_with_its_purpose(tmp_path: Path) -> None:
    """Whoever listens there already is found before anything starts."""
    base = free_base_port(3)
    port = base + PORT_OFFSETS["kafka"]
    with socket.create_server(("127.0.0.1", port)):
        found = plan_deployment(
            ["east", "west"], "north", base_port=base, directory=tmp_path, network="loopback", deployment_id="d"
        )
        assert (deploy.taken_port(found) or "").startswith(f"port {port}, meant for kafka of east, is taken")


def test_a_deployment_is_told_apart_from_another_one(tmp_path: Path) -> None:
    """The same words mean the same deployment; other sites, ports or networks do not."""
    found = planned(tmp_path, "east", "west")
    assert deploy.differences(planned(tmp_path, "east", "west"), found) is None
    for other in (planned(tmp_path, "east", "south"), planned(tmp_path, "east", "west", network="namespaces")):
        assert "asked for" in (deploy.differences(other, found) or "")


def test_the_key_is_made_once(tmp_path: Path) -> None:
    """Readable for its owner only, and never made anew."""
    path = tmp_path / "pseudonym.key"
    deploy.make_key(path)
    key = path.read_text()
    deploy.make_key(path)
    assert path.read_text() == key
    assert path.stat().st_mode & 0o077 == 0


def test_commands_tell_a_deployment_from_a_region_that_is_alone(tmp_path: Path) -> None:
    """A deployment is found where it is by default, by --data-dir, and not where a region alone was named."""
    found = planned(tmp_path / "var" / "meridian", "east", "west")
    found.save()

    def said(*words: str, **environment: str) -> tuple[int, str]:
        program = Path(sys.executable).with_name("meridian")
        done = subprocess.run(
            [program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    assert said("down") == (0, "".join(f"{name:<10} is not running\n" for name in ("east", "west", "north")))
    assert said("down", "--site", "west", "--data-dir", found.directory) == (0, "west       is not running\n")
    assert said("down", MERIDIAN_REGION_DATA_DIR="elsewhere") == (0, "region east is not running\n")
    code, words = said("down", "--site", "south")
    assert code == 64 and "There are: east, west, north" in words
    code, words = said("up", "--site", "east", "--data-dir", str(tmp_path))
    assert code == 64 and "there is no deployment at" in words


def test_the_signing_key_is_made_once_and_trusted(tmp_path: Path) -> None:
    """A key that was taken off the list stays off; a lost one is replaced, and its public key stays."""
    key, trusted = tmp_path / "model-signing.key", tmp_path / "trusted-model-keys"
    deploy.make_signing_key(key, trusted)
    first = public_key(read_key(key))
    assert read_trusted(trusted) == [first]
    assert key.stat().st_mode & 0o077 == 0
    trusted.write_text("")
    deploy.make_signing_key(key, trusted)
    assert read_trusted(trusted) == []
    trusted.write_text(first.hex() + "\n")
    key.unlink()
    deploy.make_signing_key(key, trusted)
    assert read_trusted(trusted) == [first, public_key(read_key(key))]
