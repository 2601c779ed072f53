"""The key file: made once, private, checked against the record, never silently replaced."""

import stat
from pathlib import Path

import pytest

from services.common.settings import SettingsError
from services.coordination import MemoryStore
from services.coordination.region_record import KeyMismatch
from services.gateway.pseudonym_key import open_pseudonyms


async def test_the_first_start_makes_a_private_key_and_later_ones_use_it(tmp_path: Path) -> None:
    """Mode 0600, same pseudonyms after a restart, nothing left beside it."""
    store, path = MemoryStore(), tmp_path / "region" / "pseudonym.key"
    first = await open_pseudonyms(path, store)
    again = await open_pseudonyms(path, store)
    assert first.user("u") == again.user("u")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["pseudonym.key"]


async def test_a_key_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    """The logs were written under it: an operator must put it back."""
    store, path = MemoryStore(), tmp_path / "pseudonym.key"
    await open_pseudonyms(path, store)
    path.unlink()
    with pytest.raises(KeyMismatch, match="Put the file back"):
        await open_pseudonyms(path, store)
    assert not path.exists()


async def test_another_key_is_refused(tmp_path: Path) -> None:
    """Its fingerprint is not the recorded one."""
    store = MemoryStore()
    await open_pseudonyms(tmp_path / "one", store)
    (tmp_path / "two").write_text("11" * 32)
    with pytest.raises(KeyMismatch, match="fingerprint"):
        await open_pseudonyms(tmp_path / "two", store)


@pytest.mark.parametrize("content", ["", "11", "no hex at all", "11" * 33])
async def test_a_damaged_key_file_is_named(tmp_path: Path, content: str) -> None:
    """Not a crash, and not another key."""
    path = tmp_path / "pseudonym.key"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"pseudonym\.key"):
        await open_pseudonyms(path, MemoryStore())
