"""A push: all of a version, signed and under a number of its own, or nothing."""

import errno
from pathlib import Path
from typing import Any

import pytest

from models import registry, signing
from services.models import pushing
from services.models.errors import NotDone, VersionRefused
from services.models.proving import prove
from tests.support.model_premises import built, champion, numbers, on_disk, premises_in, pushed, registered


async def test_a_pushed_version_is_whole_signed_and_registered(tmp_path: Path) -> None:
    """Under the next number; it does not serve by being there: what served is champion first."""
    premises = premises_in(tmp_path / "east")
    first = await pushed(premises, built(tmp_path))
    second = await pushed(premises, built(tmp_path, 1.0))
    assert (first.version, second.version) == ("1", "2")
    assert numbers(premises) == [1, 2]
    assert await registered(premises) == {"1": first.sha256, "2": second.sha256}
    assert await champion(premises) == "1"
    folder = premises.repository.folder(premises.model, "2")
    signing.verify(folder, signing.read_trusted(premises.region.trusted_keys_file))
    assert registry.unlisted_files(folder) == []
    assert (folder.parent / registry.CONFIG_FILE).is_file()


async def test_the_same_content_again_is_the_same_version(tmp_path: Path) -> None:
    """A push can be repeated; the second says that it was there."""
    premises = premises_in(tmp_path / "east")
    source = built(tmp_path)
    first = await pushed(premises, source)
    again = await pushed(premises, source)
    assert (first.was_there, again.was_there) == (False, True)
    assert (again.version, again.sha256) == (first.version, first.sha256)
    assert numbers(premises) == [1]


async def test_the_same_content_is_signed_anew_when_its_key_is_trusted_no_more(tmp_path: Path) -> None:
    """After a key leaked: the push that vouches for it again is what makes it good again."""
    premises = premises_in(tmp_path / "east")
    source = built(tmp_path)
    await pushed(premises, source)
    folder = premises.repository.folder(premises.model, "1")
    premises.region.signing_key_file.unlink()
    premises.region.trusted_keys_file.write_text("")
    with pytest.raises(VersionRefused, match="not among the 0"):
        prove(premises, folder)
    assert (await pushed(premises, source)).version == "1"
    prove(premises, folder)
    assert numbers(premises) == [1]


async def test_a_number_never_changes_its_content(tmp_path: Path) -> None:
    """Neither where it lies nor where it is only registered: here after a wipe of the region's models."""
    premises = premises_in(tmp_path / "east")
    first = await pushed(premises, built(tmp_path))
    with pytest.raises(VersionRefused, match="take the next"):
        await pushed(premises, built(tmp_path, 1.0), "1")
    (premises.repository.path / premises.model).rename(tmp_path / "wiped")
    with pytest.raises(VersionRefused, match="stands for the content"):
        await pushed(premises, built(tmp_path, 1.0), "1")
    assert numbers(premises) == []
    assert await registered(premises) == {"1": first.sha256}
    assert (await pushed(premises, built(tmp_path, 1.0))).version == "2"
    assert (await pushed(premises, built(tmp_path))).version == "1", "the content that has the number gets it back"


@pytest.mark.parametrize("damage", ["golden", "truncated", "no golden", "manifest", "unlisted", "no graph"])
async def test_what_fails_a_check_leaves_nothing(tmp_path: Path, damage: str) -> None:
    """No folder, no number, and the reason names the file or the golden row."""
    premises = premises_in(tmp_path / "east")
    source = built(tmp_path, golden_shift=0.01 if damage == "golden" else 0.0)
    if damage == "truncated":
        graph = (source / "model.onnx").read_bytes()
        (source / "model.onnx").write_bytes(graph[: len(graph) // 2])
    elif damage == "no golden":
        (source / "golden.npz").unlink()
    elif damage == "manifest":
        (source / "manifest.json").write_text("{}")
    elif damage == "unlisted":
        (source / "weights.data").write_bytes(b"")
    elif damage == "no graph":
        (source / "model.onnx").unlink()
    named = {
        "golden": "golden row 5",
        "truncated": "model.onnx",
        "no graph": "model.onnx",
        "no golden": "golden.npz",
        "unlisted": "weights.data",
    }
    with pytest.raises(VersionRefused, match=named.get(damage, "manifest.json")):
        await pushed(premises, source)
    assert on_disk(premises) == []
    assert await registered(premises) == {}
    assert await champion(premises) == ""


async def test_a_disk_without_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any number of files; the same push succeeds when there is room."""
    premises = premises_in(tmp_path / "east")
    source = built(tmp_path)
    real, copied = pushing.shutil.copyfile, []

    def copy(one: Path, other: Path, **options: Any) -> Any:
        if source not in Path(one).parents:  # what is shipped is filled in before
            return real(one, other, **options)
        copied.append(one)
        if len(copied) == 3:
            other.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(one, other)

    monkeypatch.setattr(pushing.shutil, "copyfile", copy)
    with pytest.raises(NotDone, match=r"No space left on device.*Make room"):
        await pushed(premises, source)
    assert on_disk(premises) == []
    assert await registered(premises) == {}
    assert (await pushed(premises, source)).version == "1"


async def test_two_pushes_at_once_get_two_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hears that its number was taken meanwhile takes the next one."""
    premises = premises_in(tmp_path / "east")
    await pushed(premises, built(tmp_path))
    real, asked = pushing._next_number, []

    async def next_number(store: Any, where: Any, sha256: str) -> str:
        found = await real(store, where, sha256)
        asked.append(found)
        if len(asked) == 1:  # another operator is quicker, and has gone through all of it
            await pushed(premises, built(tmp_path, 2.0))
        return found

    monkeypatch.setattr(pushing, "_next_number", next_number)
    assert (await pushed(premises, built(tmp_path, 3.0))).version == "3"
    assert asked == ["2", "2", "3"]
    assert list(await registered(premises)) == ["1", "2", "3"]
