"""Settings: where they come from, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import pytest

from services.common.region_settings import RegionSettings
from services.common.settings import Secret, ServiceSettings, SettingsError, as_toml, environment_of, load


class ShopSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of each kind."""

    TABLE: ClassVar[str] = "shop"

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 80
    ratio: float = 0.5
    enabled: bool = True
    hosts: list[str] = []  # noqa: RUF012 - msgspec copies it
    limits: tuple[int, ...] = (1, 2)
    token: Secret = Secret("")
    folder: Path | None = None

    def check(self) -> str | None:
        """A rule over two fields."""
        return "port 81 needs enabled = true" if self.port == 81 and not self.enabled else None


def config(tmp_path: Path, text: str) -> dict[str, str]:
    """An environment that names a file with `text`."""
    path = tmp_path / "shop.toml"
    path.write_text(text)
    return {"MERIDIAN_CONFIG": str(path)}


def test_variables_win_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    """Defaults, file, environment, command line: each wins over the one before."""
    environment = config(tmp_path, "[shop]\nport = 1\nratio = 0.1\nenabled = false\n")
    environment |= {"MERIDIAN_SHOP_PORT": "2", "MERIDIAN_SHOP_RATIO": "0.2"}
    found = load(ShopSettings, environment, port=3, enabled=None)
    assert (found.port, found.ratio, found.enabled, found.limits) == (3, 0.2, False, (1, 2))


def test_every_type_comes_out_of_a_variable() -> None:
    """Text becomes numbers, flags, lists, paths and secrets."""
    environment = {
        "MERIDIAN_SHOP_ENABLED": "false",
        "MERIDIAN_SHOP_HOSTS": "a, b,",
        "MERIDIAN_SHOP_LIMITS": "3,4",
        "MERIDIAN_SHOP_FOLDER": "/srv",
        "MERIDIAN_SHOP_TOKEN": "t0k3n",
    }
    found = load(ShopSettings, environment)
    assert found.hosts == ["a", "b"]
    assert found.limits == (3, 4)
    assert found.folder == Path("/srv")
    assert found.token.reveal() == "t0k3n"
    assert not found.enabled


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    """`..._FILE` names a file that holds the value; its closing newline is not part of it."""
    (tmp_path / "token").write_text("t0k3n\n")
    assert load(ShopSettings, {"MERIDIAN_SHOP_TOKEN_FILE": str(tmp_path / "token")}).token == Secret("t0k3n")
    with pytest.raises(SettingsError, match=r"MERIDIAN_SHOP_TOKEN_FILE=.*cannot be read"):
        load(ShopSettings, {"MERIDIAN_SHOP_TOKEN_FILE": str(tmp_path / "absent")})


def test_secrets_show_nowhere() -> None:
    """Neither the printed configuration, nor repr, nor a child's environment, nor an error shows a secret."""
    found = load(ShopSettings, {"MERIDIAN_SHOP_TOKEN": "t0k3n"})
    assert "t0k3n" not in as_toml(found) + repr(found) + str(environment_of(found))
    assert 'token = "********"' in as_toml(found)
    with pytest.raises(SettingsError) as refused:
        load(ShopSettings, {}, token=1234567)
    assert "1234567" not in str(refused.value)


def test_the_printed_configuration_is_a_configuration(tmp_path: Path) -> None:
    """What `--print-config` prints can be used as the file."""
    found = load(ShopSettings, {"MERIDIAN_SHOP_HOSTS": 'a,b "c"', "MERIDIAN_SHOP_FOLDER": "/x y"})
    assert load(ShopSettings, config(tmp_path, as_toml(found))) == found


def test_a_child_process_loads_the_same_settings() -> None:
    """What the supervisor hands down is what it has."""
    found = load(RegionSettings, {"MERIDIAN_REGION_NAME": "west", "MERIDIAN_REGION_KAFKA_PORT": "29092"})
    assert load(RegionSettings, environment_of(found)) == found
    assert found.bootstrap == "127.0.0.1:29092"
    assert found.snapshot_dir == Path("var/west/snapshots")


@pytest.mark.parametrize(
    ("environment", "text", "said"),
    [
        ({"MERIDIAN_SHOP_PORT": "many"}, "", r"MERIDIAN_SHOP_PORT = 'many': Expected `int`"),
        ({"MERIDIAN_SHOP_PORT": "0"}, "", r"MERIDIAN_SHOP_PORT = '0': Expected `int` >= 1"),
        ({"MERIDIAN_SHOP_PROT": "1"}, "", r"MERIDIAN_SHOP_PROT: no such setting\. Did you mean MERIDIAN_SHOP_PORT\?"),
        ({}, "[shop]\nport = 'x'", r"\[shop\] port = 'x': Expected `int`"),
        ({}, "[shop]\nprot = 1", r"\[shop\] prot: no such setting\. Did you mean port\?"),
        ({}, "[shop]\nlimits = [1, 'x']", r"\[shop\] limits = "),
        ({}, "[shop]\nport = 81\nenabled = false", r"\[shop\] port 81 needs enabled = true"),
        ({}, "shop = 1", r"Write `\[shop\]` on a line of its own"),
        ({}, "[shop", r"cannot be read as TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(
    tmp_path: Path, environment: dict[str, str], text: str, said: str
) -> None:
    """Every refusal names the variable or the line, the cause and the next step."""
    with pytest.raises(SettingsError, match=said):
        load(ShopSettings, config(tmp_path, text) | environment)


def test_a_named_file_must_exist_and_the_usual_one_need_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`meridian.toml` is optional; a file that was asked for is not."""
    monkeypatch.chdir(tmp_path)
    assert load(ShopSettings, {}).port == 80
    with pytest.raises(SettingsError, match="there is no such file"):
        load(ShopSettings, {"MERIDIAN_CONFIG": "absent.toml"})
    (tmp_path / "meridian.toml").write_text("[shop]\nport = 8\n")
    assert load(ShopSettings, {}).port == 8


def test_processes_of_a_region_cannot_share_a_port() -> None:
    """Ports that collide are refused before anything starts."""
    with pytest.raises(SettingsError, match="cannot share a port"):
        load(RegionSettings, {"MERIDIAN_REGION_GATEWAY_PORT": "8081"})
