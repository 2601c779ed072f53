"""Promotions and rollbacks: to what passes every check, from where the operator saw the alias, and never to nowhere."""

from pathlib import Path
from typing import Any

import pytest

from services.coordination import FileStore, StoreUnavailable
from services.models import pointing
from services.models.errors import BadRequest, NotDone, Unreachable, VersionRefused
from services.models.pointing import Moved, promote, rollback
from services.models.premises import Premises
from tests.support.model_premises import built, champion, premises_in, pushed, registered


async def promoted(premises: Premises, version: str, name: str = "champion", expected: str = "") -> Moved:
    """Promote without waiting for anybody."""
    return await promote(premises, version, name, expected=expected, wait_seconds=0, say=lambda _: None)


async def rolled_back(premises: Premises, expected: str = "") -> Moved:
    """Roll the champion back without waiting for anybody."""
    return await rollback(premises, "champion", expected=expected, wait_seconds=0, say=lambda _: None)


async def with_versions(directory: Path, count: int = 2) -> Premises:
    """A region with sound versions 1 to `count`; 1 is champion."""
    premises = premises_in(directory / "east")
    for number in range(count):
        await pushed(premises, built(directory, float(number)))
    return premises


async def test_a_promotion_can_be_repeated_and_rolled_back(tmp_path: Path) -> None:
    """The champion, then what was before; a rollback of the first is refused and changes nothing."""
    premises = await with_versions(tmp_path)
    moved = await promoted(premises, "2")
    assert (moved.version, moved.before) == ("2", "1")
    assert (await promoted(premises, "2")).before == "", "nothing moved"
    assert (await rolled_back(premises)).version == "1"
    assert await champion(premises) == "1"
    with pytest.raises(BadRequest, match="nothing to go back to"):
        await rolled_back(premises)
    assert await champion(premises) == "1"


async def test_an_alias_moves_only_if_it_is_where_it_is_said_to_be(tmp_path: Path) -> None:
    """`--expect` makes a command safe to repeat when it is not known whether it happened."""
    premises = await with_versions(tmp_path)
    with pytest.raises(NotDone, match="champion is 1, not 2"):
        await promoted(premises, "2", expected="2")
    with pytest.raises(NotDone, match="shadow is none, not 1"):
        await promoted(premises, "2", "shadow", expected="1")
    await promoted(premises, "2", "shadow", expected="none")
    assert (await promoted(premises, "2", expected="1")).version == "2"
    with pytest.raises(NotDone, match="champion is 2, not 1"):
        await rolled_back(premises, expected="1")
    assert await champion(premises) == "2"


@pytest.mark.parametrize("damage", ["unknown", "graph", "signature", "golden", "no signature", "other content"])
async def test_what_would_not_serve_is_not_promoted(tmp_path: Path, damage: str) -> None:
    """The champion stays, and the reason says what is wrong."""
    premises = await with_versions(tmp_path)
    folder = premises.repository.folder(premises.model, "2")
    if damage == "graph":
        (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-100])
    elif damage == "signature":
        signature = (folder / "manifest.sig").read_text()
        (folder / "manifest.sig").write_text(signature.replace('"signature":"', '"signature":"0')[:-4] + '"}\n')
    elif damage == "no signature":
        (folder / "manifest.sig").unlink()
    elif damage == "golden":
        (folder / "golden.npz").unlink()
    elif damage == "other content":
        folder.rename(tmp_path / "former")
        folder.with_name("1").rename(folder)
    reasons = {
        "unknown": "has no version '7'",
        "graph": "model.onnx",
        "golden": "golden.npz",
        "other content": "registered",
    }
    with pytest.raises(VersionRefused, match=reasons.get(damage, "manifest.sig")):
        await promoted(premises, "7" if damage == "unknown" else "2")
    assert await champion(premises) == "1"


async def test_a_version_that_lies_here_unregistered_is_registered_first(tmp_path: Path) -> None:
    """Shipped ones are: their number is bound to their content before an alias can name it."""
    premises = await with_versions(tmp_path, 1)
    premises.region.coordination_file.unlink()
    assert await registered(premises) == {}
    await promoted(premises, "1")
    assert list(await registered(premises)) == ["1"]


async def test_there_are_three_aliases(tmp_path: Path) -> None:
    """Another name is refused before anything is looked at."""
    with pytest.raises(BadRequest, match="champion, challenger, shadow"):
        await promoted(premises_in(tmp_path), "1", "favourite")


class Losing(FileStore):
    """A store whose answer to the writing of an alias gets lost; then it is away for some reads."""

    def __init__(self, path: Path, *, happens: bool, away_reads: int) -> None:
        super().__init__(path)
        self.happens, self.away_reads = happens, 0
        self._then_away = away_reads

    async def compare_and_put(self, key: str, value: bytes, expected_revision: int) -> Any:
        if "/aliases/" not in key:
            return await super().compare_and_put(key, value, expected_revision)
        if self.happens:
            await super().compare_and_put(key, value, expected_revision)
        self.away_reads = self._then_away
        raise StoreUnavailable("the answer was lost")

    async def get(self, key: str) -> Any:
        if self.away_reads:
            self.away_reads -= 1
            raise StoreUnavailable("no member answers")
        return await super().get(key)


@pytest.mark.parametrize("happens", [True, False])
async def test_a_lost_answer_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, happens: bool) -> None:
    """Moved or not moved, and the command says which; when the store stays away it says that it does not know."""
    premises = await with_versions(tmp_path)
    monkeypatch.setattr(pointing, "_UNKNOWN_POLL_SECONDS", 0.0)
    store = Losing(premises.region.coordination_file, happens=happens, away_reads=2)
    async with premises.store() as real:
        record = await pointing.version_record(real, premises.model, "2")
        before = await pointing.alias(real, premises.model, "champion")
    assert record is not None
    moving = pointing._move(store, premises, "champion", record, before, rollback=False)
    if happens:
        assert (await moving).version == "2"
    else:
        with pytest.raises(NotDone, match="champion was not moved"):
            await moving
    shadow = Losing(premises.region.coordination_file, happens=happens, away_reads=1 << 30)
    monkeypatch.setattr(pointing, "_UNKNOWN_SECONDS", 0.01)
    with pytest.raises(Unreachable, match="not known whether shadow was moved"):
        await pointing._move(shadow, premises, "shadow", record, None, rollback=False)
