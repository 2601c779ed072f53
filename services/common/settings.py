"""One frozen settings object a service, from defaults, a TOML file and the environment, in that order.

A service derives from `ServiceSettings` and names its table; every field then has a place in the file (`[table]`) and a
variable (`MERIDIAN_TABLE_FIELD`, or `MERIDIAN_TABLE_FIELD_FILE` to read the value from a file, as secrets should be).
A name that fits nothing is refused, because a misspelt setting that silently keeps its default is found much later.

msgspec converts and validates. pydantic-settings did the same at 20 MB and 0.35 s more in each process of a region.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

import msgspec

CONFIG_VARIABLE = "MERIDIAN_CONFIG"
CONFIG_FILE_DEFAULT = "meridian.toml"
MASK = "********"


class SettingsError(Exception):
    """A setting cannot be used; the message names it, says why, and what to do. Exit with `BAD_SETTINGS`."""


class Secret:
    """A string that does not show itself; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the string itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Secret({MASK if self._value else ''!r})"


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings. Constraints are `Annotated[int, msgspec.Meta(ge=1)]`; further ones go into `check()`."""

    TABLE: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Refuse what the types cannot; msgspec turns the ValueError into its own error."""
        if (reason := self.check()) is not None:
            raise ValueError(reason)

    def check(self) -> str | None:
        """Return why these settings contradict each other, or None. May `force_setattr` derived defaults."""
        return None


S = TypeVar("S", bound=ServiceSettings)


def load(cls: type[S], environment: Mapping[str, str] | None = None, **overrides: object) -> S:
    """Return the settings of one service; `overrides` (from a command line) win over variables, those over the file.

    Raises SettingsError. A relative path is taken from the working directory. An override of None counts as not given.
    """
    variables = os.environ if environment is None else environment
    values: dict[str, object] = dict(from_file(cls.TABLE, variables))
    values.update(from_environment(cls, variables))
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        return msgspec.convert(values, cls, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(cls, str(error), values, variables)) from None


def from_file(table: str, variables: Mapping[str, str]) -> dict[str, object]:
    """Return one table of the configuration file; without MERIDIAN_CONFIG the file may be missing."""
    named = variables.get(CONFIG_VARIABLE)
    path = Path(named or CONFIG_FILE_DEFAULT)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingsError(f"{CONFIG_VARIABLE}={named}: there is no such file. Correct or unset it.") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"{path} cannot be read as TOML: {error}. Mend it, or name another by {CONFIG_VARIABLE}."
        ) from None
    found = content.get(table, {})
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: `{table}` must be a table. Write `[{table}]` on a line of its own.")
    return found


def from_environment(cls: type[ServiceSettings], variables: Mapping[str, str]) -> dict[str, object]:
    """Return the fields that variables set; raises SettingsError for a variable of this table that fits no field."""
    hints = get_type_hints(cls)
    prefix = f"MERIDIAN_{cls.TABLE.upper()}_"
    fields = {f"{prefix}{name.upper()}": name for name in cls.__struct_fields__}
    values: dict[str, object] = {}
    for variable, text in variables.items():
        if not variable.startswith(prefix):
            continue
        if variable in fields:
            values[fields[variable]] = _split(hints[fields[variable]], text)
        elif variable.removesuffix("_FILE") in fields:
            values.setdefault(fields[variable.removesuffix("_FILE")], _read(variable, text))
        else:
            raise SettingsError(f"{variable}: no such setting.{_suggest(variable, list(fields))}")
    return values


def environment_of(settings: ServiceSettings) -> dict[str, str]:
    """Return the variables under which a child process loads these same settings (secrets are left out)."""
    variables = {}
    for name, value in msgspec.structs.asdict(settings).items():
        if value is None or isinstance(value, Secret):
            continue
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        variables[f"MERIDIAN_{settings.TABLE.upper()}_{name.upper()}"] = text
    return variables


def as_toml(settings: ServiceSettings) -> str:
    """Return the settings as one TOML table, secrets masked: what `--print-config` prints."""
    lines = [f"[{settings.TABLE}]"]
    for name, value in msgspec.structs.asdict(settings).items():
        if value is None:
            lines.append(f"# {name} is not set")
        else:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, Secret):
        return f'"{MASK}"' if value else '""'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return msgspec.json.encode(str(value)).decode()


def _split(hint: Any, text: str) -> object:
    origin = get_origin(hint) or hint
    if origin in (list, tuple, frozenset):
        return [part.strip() for part in text.split(",") if part.strip()]
    if not text and type(None) in get_args(hint):
        return None
    return text


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{variable}={path} cannot be read: {error}. Correct the path or the file's mode."
        ) from None


def _decode(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    raise ValueError(f"expected {kind.__name__.lower()}, found {type(value).__name__}")


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]}?" if close else f" There are: {', '.join(sorted(known))}."


def _explain(cls: type[ServiceSettings], cause: str, values: Mapping[str, object], variables: Mapping[str, str]) -> str:
    """Say which setting is wrong, under the name by which it was given."""
    message, _, path = cause.partition(" - at `$")
    if "unknown field" in message:
        name = message.split("`")[1]
        return f"[{cls.TABLE}] {name}: no such setting.{_suggest(name, list(cls.__struct_fields__))}"
    field = path.strip("`").removeprefix(".").partition("[")[0]
    if not field:
        return f"[{cls.TABLE}] {message}"
    variable = f"MERIDIAN_{cls.TABLE.upper()}_{field.upper()}"
    where = variable if variable in variables else f"[{cls.TABLE}] {field}"
    shown = "" if "Secret" in str(get_type_hints(cls).get(field)) else f" = {values.get(field)!r}"
    return f"{where}{shown}: {message}. Correct it in {CONFIG_FILE_DEFAULT} or by {variable}."
