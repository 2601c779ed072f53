"""Every setting of every process with its default, bounds and meaning, read from the classes that load them.

The meaning is the sentence that stands under a field in the source: a table kept beside the code would be a second
truth. `docs/reference/settings.md` is this table, and a test holds it to the sources.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final

import msgspec

from services.common.settings import MASK, Secret, ServiceSettings

CLASSES: Final = (
    "services.common.region_settings:RegionSettings",
    "services.region.plan:KafkaSettings",
    "services.coordination.settings:CoordinationSettings",
    "services.gateway.settings:GatewaySettings",
    "services.processor.settings:ProcessorSettings",
    "services.inference.settings:InferenceSettings",
    "services.replicator.settings:ReplicatorSettings",
    "services.controller.settings:ControllerSettings",
    "services.common.tracing_settings:TracingSettings",
    "services.console.settings:ConsoleSettings",
)
"""By name: a process's settings are not imported before somebody asks for them."""

BOUNDS: Final = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("pattern", "matches"))


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting."""

    table: str
    name: str
    variable: str
    """Of the environment; with `_FILE` behind it, the value is read from the file that it names."""
    kind: str
    """Type and bounds, in words."""
    default: str
    meaning: str
    """Empty where the name says it all."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one table of the configuration file."""

    name: str
    summary: str
    settings: list[Setting]


def all_tables() -> list[Table]:
    """Return every table, in the order in which a region is put together."""
    return [table_of(_class_at(place)) for place in CLASSES]


def table_of(cls: type[ServiceSettings]) -> Table:
    """Return one class's settings, in the order of its fields."""
    meanings = dict(_meanings(cls))
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType), "settings are structs"
    settings = [
        Setting(
            table=cls.TABLE,
            name=field.name,
            variable=f"MERIDIAN_{cls.TABLE}_{field.name}".upper(),
            kind=_kind(field.type),
            default=_shown(field.default),
            meaning=meanings.get(field.name, ""),
        )
        for field in info.fields
    ]
    return Table(name=cls.TABLE, summary=_first_line(cls.__doc__), settings=settings)


def as_markdown(tables: list[Table]) -> str:
    """Return the page of the reference."""
    lines = [HEAD.rstrip()]
    for table in tables:
        lines += [
            "",
            f"## `[{table.name}]`",
            "",
            table.summary,
            "",
            "| setting | value | default | meaning |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| `{s.name}` | {_cell(s.kind)} | {f'`{s.default}`' if s.default else ''} | {_cell(s.meaning)} |"
            for s in table.settings
        ]
    return "\n".join(lines) + "\n"


HEAD: Final = """\
# Settings

Written by `meridian settings --markdown` from the sources, and held to them by a test.

A setting is taken from `meridian.toml` (`[table]`, or the file that `MERIDIAN_CONFIG` names), then from the variable
`MERIDIAN_<TABLE>_<SETTING>`, which wins; `MERIDIAN_<TABLE>_<SETTING>_FILE` names a file that holds it (for secrets).
Lists are separated by commas. A name that fits nothing is refused, with the nearest one that exists.
`python -m services.<process> --print-config` prints what a process would run with, secrets masked.
"""


def _class_at(place: str) -> type[ServiceSettings]:
    module, _, name = place.partition(":")
    found = getattr(import_module(module), name)
    assert isinstance(found, type)
    assert issubclass(found, ServiceSettings)
    return found


def _meanings(cls: type[ServiceSettings]) -> Iterator[tuple[str, str]]:
    """Pairs of a field and the text under it. Several fields above one text share it."""
    body = ast.parse(inspect.getsource(cls).strip()).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, after in zip(body.body, [*body.body[1:], None], strict=True):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            yield field.target.id, " ".join(after.value.value.split())


def _kind(found: msgspec.inspect.Type) -> str:  # noqa: PLR0911 - one line a type
    if isinstance(found, msgspec.inspect.Metadata):
        return _kind(found.type)
    if isinstance(found, msgspec.inspect.LiteralType):
        return " or ".join(f"`{value}`" for value in found.values)
    if isinstance(found, msgspec.inspect.EnumType):
        return " or ".join(f"`{member.value}`" for member in found.cls)
    if isinstance(found, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        return f"list of {_kind(found.item_type)}"
    if isinstance(found, msgspec.inspect.UnionType):
        return " or ".join(_kind(one) for one in found.types)
    if isinstance(found, msgspec.inspect.CustomType):
        return {Path: "path", Secret: "secret"}.get(found.cls, found.cls.__name__.lower())
    word = {
        "IntType": "integer",
        "FloatType": "number",
        "StrType": "text",
        "BoolType": "true or false",
        "NoneType": "unset",
    }
    bounds = [f"{sign} {_bound(value)}" for name, sign in BOUNDS if (value := getattr(found, name, None)) is not None]
    return " ".join([word.get(type(found).__name__, type(found).__name__), ", ".join(bounds)]).strip()


def _bound(value: object) -> str:
    # typing has one `Annotated[float, ...]` for bounds 0 and 0.0, that of whichever module was imported first.
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(value: object) -> str:
    if isinstance(value, Secret):
        return MASK if value else ""
    if isinstance(value, Path):
        text = "" if value == Path() else str(value)
        return text.removeprefix(f"{ROOT}/")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(getattr(value, "value", value))


ROOT: Final = Path(__file__).resolve().parents[2]


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
