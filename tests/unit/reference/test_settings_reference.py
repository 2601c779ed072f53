"""The settings page: made from the sources, whole, and with a meaning for each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from services.cli import main
from services.reference.settings import CLASSES, all_tables, as_markdown

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "reference" / "settings.md"


def test_the_page_is_what_the_sources_say() -> None:
    """`meridian settings --markdown > docs/reference/settings.md` writes it again."""
    assert PAGE.read_text() == as_markdown(all_tables())


def test_no_class_of_settings_is_missing() -> None:
    """A process whose settings nobody lists could only be set by who reads its source."""
    found = {
        f"{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}:{name}"
        for path in (ROOT / "services").rglob("*.py")
        for name in re.findall(r"^class (\w+)\(ServiceSettings", path.read_text(), re.MULTILINE)
    }
    assert found == set(CLASSES)


def test_every_setting_has_a_meaning() -> None:
    """A name alone tells nobody what happens when the value changes."""
    assert [f"{one.table}.{one.name}" for table in all_tables() for one in table.settings if not one.meaning] == []


def test_bounds_and_defaults_stand_beside_the_meaning() -> None:
    """Of a bounded integer, a choice and a secret."""
    gateway = {one.name: one for table in all_tables() if table.name == "gateway" for one in table.settings}
    assert gateway["ack_timeout_ms"].kind == "integer ≥ 1"
    assert gateway["ack_timeout_ms"].default == "5000"
    assert gateway["ack_timeout_ms"].variable == "MERIDIAN_GATEWAY_ACK_TIMEOUT_MS"
    assert gateway["ack"].kind == "`bounded` or `local` or `remote`"
    assert gateway["api_tokens"].kind == "secret"


def test_bounds_do_not_depend_on_who_was_imported_first() -> None:
    """`Meta(ge=0)` and `Meta(ge=0.0)` are one to typing: the page would change with the order of imports."""
    kinds = {one.kind for table in all_tables() for one in table.settings}
    assert {"number ≥ 0", "number ≥ 0, ≤ 1"} <= kinds
    assert [kind for kind in kinds if re.search(r"\.0\b", kind)] == []


def test_the_verb_prints_one_table_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs."""
    with pytest.raises(SystemExit) as ended:
        main(["settings", "replicator", "--json"])
    assert ended.value.code == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert table["name"] == "replicator"


def test_an_unknown_table_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name."""
    with pytest.raises(SystemExit) as ended:
        main(["settings", "gatway"])
    assert ended.value.code == 64
    assert "Did you mean gateway?" in capsys.readouterr().err
