"""No file that training writes holds the name of a user or a session: caches, checkpoints, versions."""

from __future__ import annotations

import zipfile
from pathlib import Path

import msgspec
import pytest

from models.cases import collect_cases
from models.records import Source
from models.shop import ShopSettings, generate
from models.walk import number_of

pytest.importorskip("torch", reason="training needs torch: make train-env")

from models.qhrank.command import TrainingRun, train
from models.qhrank.network import Sizes
from models.qhrank.training import TrainingSettings

SETTINGS = TrainingSettings(
    sizes=Sizes(dim=8, layers=1, heads=1, inner=8, item_buckets=101, hidden=8),
    text_epochs=1,
    head_epochs=1,
    batch=64,
    list_length=12,
    threads=1,
)


def named(source: Source) -> Source:
    """The source with users and sessions that nobody could overlook."""
    searches = [
        msgspec.structs.replace(search, user=f"mallory-{search.user}", session=f"visit-of-mallory-{search.session}")
        for search in source.searches
    ]
    return msgspec.structs.replace(source, searches=searches)


def contents(path: Path) -> bytes:
    """The bytes of a file; of an archive, those of its members."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def naming(folder: Path, text: str) -> list[str]:
    """Files that hold a text, as bytes or as NumPy keeps strings."""
    spellings = [text.encode(), text.encode("utf-16-le"), text.encode("utf-32-le")]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files, "nothing was written"
    return [path.name for path in files if any(spelling in contents(path) for spelling in spellings)]


def test_no_name_is_in_any_file_that_training_writes(tmp_path: Path) -> None:
    """A query is found where it is meant to be, so a name would be; numbers that stand for users are nowhere either."""
    source = named(generate(ShopSettings(seed=11, items=25, searches=330, users=60, days=5)))
    train(source, TrainingRun(repository=tmp_path / "repository", version=1, resume=tmp_path / "checkpoint"), SETTINGS)
    collect_cases(source, end=60, candidates=12).save(tmp_path / "cases.npz")
    assert naming(tmp_path, "mallory") == []
    assert naming(tmp_path, source.searches[0].query) == ["cases.npz"]
    number = number_of(source.searches[0].user).to_bytes(8, "little")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and number in contents(path)]
