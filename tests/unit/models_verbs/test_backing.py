"""Backups: what comes back is what was there, checked as if a stranger had brought it, and over nothing."""

from pathlib import Path

import msgspec
import pytest

from models import backup
from models.backup import Archive, BackupUnusable
from services.coordination import FileStore
from services.coordination.model_records import CHAMPION, alias
from services.models import backing
from services.models.backing import Outcome, back_up, restore
from services.models.errors import VersionRefused
from services.models.pointing import promote, rollback
from services.models.premises import Premises
from tests.support.model_premises import built, champion, numbers, on_disk, premises_in, pushed, registered


async def kept(premises: Premises, url: object) -> Outcome:
    """Back up without saying anything."""
    return await back_up(premises, str(url), lambda _: None)


async def brought_back(premises: Premises, url: object) -> Outcome:
    """Restore without saying anything."""
    return await restore(premises, str(url), lambda _: None)


async def a_region(directory: Path) -> Premises:
    """Two versions, the second one champion, and a past of the alias."""
    premises = premises_in(directory / "east")
    for number in range(2):
        await pushed(premises, built(directory, float(number)))
    await promote(premises, "2", CHAMPION, expected="", wait_seconds=0, say=lambda _: None)
    return premises


def another(directory: Path, *, trusting: Premises | None) -> Premises:
    """A region that lost everything; it trusts the keys of the one before, or not."""
    premises = premises_in(directory / "anew")
    premises.make_keys()
    if trusting is not None:
        with premises.region.trusted_keys_file.open("a") as file:
            file.write(trusting.region.trusted_keys_file.read_text())
    return premises


@pytest.mark.parametrize("target", ["folder", "memory"])
async def test_what_comes_back_is_what_was_there(tmp_path: Path, target: str) -> None:
    """Versions, numbers, aliases with their histories: at any target of fsspec, and once more changes nothing."""
    url = tmp_path / "backups" if target == "folder" else f"memory://{tmp_path.name}"
    before = await a_region(tmp_path)
    assert (await kept(before, url)).refused == 0
    assert set((await kept(before, url)).versions.values()) == {"was there"}
    after = another(tmp_path, trusting=before)
    assert (await brought_back(after, url)).refused == 0
    assert numbers(after) == [1, 2]
    assert await registered(after) == await registered(before)
    stores = [FileStore(premises.region.coordination_file) for premises in (before, after)]
    assert await alias(stores[1], "tiny", CHAMPION) == await alias(stores[0], "tiny", CHAMPION)
    again = await brought_back(after, url)
    assert (again.versions, again.refused) == ({"1": "was there", "2": "was there"}, 0)
    await rollback(after, CHAMPION, expected="2", wait_seconds=0, say=lambda _: None)
    assert await champion(after) == "1", "its history came back too"


async def test_a_signature_that_is_not_trusted_here_is_refused(tmp_path: Path) -> None:
    """Nothing was changed; with the key in the list the same command restores."""
    before = await a_region(tmp_path)
    await kept(before, tmp_path / "backups")
    after = another(tmp_path, trusting=None)
    refused = await brought_back(after, tmp_path / "backups")
    assert refused.refused == 3
    assert "not among the 1 that are trusted" in refused.versions["1"]
    assert (on_disk(after), await registered(after), await champion(after)) == ([], {}, "")
    with after.region.trusted_keys_file.open("a") as file:
        file.write(before.region.trusted_keys_file.read_text())
    assert (await brought_back(after, tmp_path / "backups")).refused == 0


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest"])
async def test_a_damaged_object_is_refused_and_the_rest_restored(tmp_path: Path, damage: str) -> None:
    """The version that needs it does not come, nor an alias that names it; a whole backup mends that."""
    before = await a_region(tmp_path)
    await kept(before, tmp_path / "backups")
    index = Archive(str(tmp_path / "backups")).read_index(backing.BackupIndex)
    assert index is not None
    files = index.models["tiny"].versions["2"].files
    damaged = tmp_path / "backups" / backup.OBJECTS / files["manifest.json" if damage == "manifest" else "model.onnx"]
    whole = damaged.read_bytes()
    if damage == "missing":
        damaged.unlink()
    else:
        damaged.write_bytes(whole[:-1] + b"x")
    after = another(tmp_path, trusting=before)
    found = await brought_back(after, tmp_path / "backups")
    assert (found.versions["1"], found.refused) == ("restored", 2)
    assert ("missing" if damage == "missing" else "damaged") in found.versions["2"]
    assert (numbers(after), await champion(after)) == ([1], "")
    damaged.write_bytes(whole)
    assert (await brought_back(after, tmp_path / "backups")).refused == 0
    assert (numbers(after), await champion(after)) == ([1, 2], "2")


@pytest.mark.parametrize("written", ["3", "../7", "1_0"])
async def test_an_index_that_was_changed_binds_no_other_number(tmp_path: Path, written: str) -> None:
    """The files are signed, the index is not: under a wrong key it would spoil the registry for every verb."""
    before = await a_region(tmp_path)
    await kept(before, tmp_path / "backups")
    index = tmp_path / "backups" / backup.INDEX
    index.write_text(index.read_text().replace('"version": "1"', f'"version": "{written}"'))
    after = another(tmp_path, trusting=before)
    with pytest.raises(BackupUnusable, match="its index was changed"):
        await brought_back(after, tmp_path / "backups")
    assert (on_disk(after), await registered(after), await champion(after)) == ([], {}, "")


async def test_an_alias_of_a_changed_index_names_no_content_that_nobody_has(tmp_path: Path) -> None:
    """A champion that no worker can ever serve would keep every region from leading."""
    before = await a_region(tmp_path)
    await kept(before, tmp_path / "backups")
    archive = Archive(str(tmp_path / "backups"))
    index = archive.read_index(backing.BackupIndex)
    assert index is not None
    aliases = index.models["tiny"].aliases
    aliases[CHAMPION] = msgspec.structs.replace(aliases[CHAMPION], sha256="0" * 64)
    aliases["somebody"] = aliases[CHAMPION]
    archive.write_index(index)
    after = another(tmp_path, trusting=before)
    found = await brought_back(after, tmp_path / "backups")
    assert (found.refused, numbers(after), await champion(after)) == (2, [1, 2], "")


async def test_nothing_that_is_here_is_overwritten(tmp_path: Path) -> None:
    """Another content under the number, and an alias that names something else, stay."""
    before = await a_region(tmp_path)
    await kept(before, tmp_path / "backups")
    after = another(tmp_path, trusting=before)
    await pushed(after, built(tmp_path, 9.0))
    await pushed(after, built(tmp_path, 8.0))  # pins the champion
    mine = await registered(after)
    found = await brought_back(after, tmp_path / "backups")
    assert found.refused == 2
    assert "nothing is overwritten" in found.versions["1"]
    assert "it stays" in found.aliases[CHAMPION]
    assert (await registered(after), await champion(after)) == (mine, "1")
    with pytest.raises(VersionRefused, match="backup of another deployment"):
        await kept(after, tmp_path / "backups")


async def test_a_backup_only_adds(tmp_path: Path) -> None:
    """A region that lost a version, or all of them, takes nothing out of the backup."""
    before = await a_region(tmp_path)
    await kept(before, tmp_path / "backups")
    (before.repository.path / "tiny" / "2").rename(tmp_path / "lost")
    found = await kept(before, tmp_path / "backups")
    assert (found.refused, "has no version '2'" in found.versions["2"]) == (1, True)
    empty = premises_in(tmp_path / "empty")
    await kept(empty, tmp_path / "backups")
    assert (await brought_back(before, tmp_path / "backups")).versions == {"1": "was there", "2": "restored"}


async def test_what_is_no_backup_is_said(tmp_path: Path) -> None:
    """An unknown address, an empty folder, another model, a newer format, something else in its place."""
    premises = premises_in(tmp_path / "east")
    for url, reason in (("nosuch://x", "nosuch"), (tmp_path / "nothing", "holds no backup")):
        with pytest.raises((BackupUnusable, VersionRefused), match=reason):
            await brought_back(premises, url)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / backup.INDEX).write_bytes(b"[]")
    with pytest.raises(BackupUnusable, match="not the index of a backup"):
        await brought_back(premises, tmp_path / "full")
    newer = backing.BackupIndex(format=2, at_ms=0, models={})
    (tmp_path / "full" / backup.INDEX).write_bytes(msgspec.json.encode(newer))
    with pytest.raises(BackupUnusable, match="format 2"):
        await brought_back(premises, tmp_path / "full")
    (tmp_path / "file").write_text("")
    with pytest.raises(BackupUnusable, match="cannot be"):
        await kept(premises, tmp_path / "file")
