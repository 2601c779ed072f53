"""A region's own versions: filled, never replaced, and signed unless they were shipped."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.placing import placing
from models.registry import verify_manifest
from models.signing import sign
from services.inference.errors import ModelRefused
from services.inference.repository import Named, Repository, is_name, is_number
from tests.support.inference_parts import KEY, MODEL, OTHER_KEY, add_version, own_repository
from tests.support.tiny_model import write_manifest, write_version


def test_it_is_filled_from_what_is_shipped_and_again_after_an_operator_removed_something(tmp_path: Path) -> None:
    """Each number that is free; what is half copied is no version."""
    repository = own_repository(tmp_path, "east", shipped=("1", "2"))
    assert repository.versions(MODEL) == ["2", "1"]
    assert (repository.path / MODEL / "config.pbtxt").is_file()
    shutil.rmtree(repository.folder(MODEL, "2"))
    (repository.path / MODEL / ".placing" / "2").mkdir(parents=True)
    assert repository.versions(MODEL) == ["1"]
    repository.fill()
    assert repository.versions(MODEL) == ["2", "1"]
    assert [entry.name for entry in (repository.path / MODEL).glob(".*")] == [".placing.lock"]


def test_what_is_filled_is_on_the_disk_before_it_has_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing replaces it later: a power loss must not leave a number with empty files, and no region serving."""
    synced: list[str] = []
    monkeypatch.setattr("models.placing._sync", lambda path: synced.append(path.name))
    repository = own_repository(tmp_path, "east")
    assert {entry.name for entry in repository.folder(MODEL, "1").iterdir()} | {"1", MODEL} == set(synced)


def test_a_filling_worker_and_a_push_do_not_spoil_each_others_copies(tmp_path: Path) -> None:
    """A push fills and places, too, while the worker may be starting."""
    source = own_repository(tmp_path, "east").shipped
    repository = Repository(tmp_path / "west", source)
    with ThreadPoolExecutor(1) as threads:
        with placing(repository.path, MODEL, "1") as half:
            filling = threads.submit(repository.fill)
            with pytest.raises(TimeoutError):
                filling.result(0.2)
            shutil.copytree(source / MODEL / "1", half, dirs_exist_ok=True)
        filling.result()
    verify_manifest(repository.folder(MODEL, "1"))


def test_what_lies_under_a_number_is_never_replaced(tmp_path: Path) -> None:
    """A damaged version stays for whoever wants to know why it was refused."""
    repository = own_repository(tmp_path, "east")
    damaged = repository.folder(MODEL, "1") / "model.onnx"
    damaged.write_bytes(b"damaged")
    repository.fill()
    assert damaged.read_bytes() == b"damaged"


def test_a_folder_that_the_settings_name_is_not_filled(tmp_path: Path) -> None:
    """It is used as it is, and nothing is written to it."""
    write_version(tmp_path, "1")
    repository = Repository(tmp_path, tmp_path)
    repository.fill()
    repository.remember(MODEL, Named("1"))
    assert sorted(entry.name for entry in (tmp_path / MODEL).iterdir()) == ["1", "config.pbtxt"]


def test_shipped_versions_need_no_signature_and_all_others_do(tmp_path: Path) -> None:
    """A changed copy of a shipped version is not shipped any more."""
    repository = own_repository(tmp_path, "east")
    repository.check_signature(repository.folder(MODEL, "1"))
    add_version(repository, "2")
    repository.check_signature(repository.folder(MODEL, "2"))
    add_version(repository, "3", key=None)
    with pytest.raises(ModelRefused, match=r"manifest.sig is missing"):
        repository.check_signature(repository.folder(MODEL, "3"))
    add_version(repository, "4", key=OTHER_KEY)
    with pytest.raises(ModelRefused, match="not among the 1 that are trusted"):
        repository.check_signature(repository.folder(MODEL, "4"))
    (repository.folder(MODEL, "1") / "metrics.json").write_text('{"mrr_at_5": 0.99}')
    write_manifest(repository.folder(MODEL, "1"))
    with pytest.raises(ModelRefused, match=r"manifest.sig is missing"):
        repository.check_signature(repository.folder(MODEL, "1"))


def test_a_deployment_without_its_list_of_keys_trusts_nobody(tmp_path: Path) -> None:
    """A lost list is no reason to take everything; a region that never had one asks for nothing."""
    repository = own_repository(tmp_path, "east")
    add_version(repository, "2")
    repository.trusted_keys_file.unlink()
    with pytest.raises(ModelRefused, match="trusted-model-keys cannot be read"):
        repository.check_signature(repository.folder(MODEL, "2"))
    alone = Repository(repository.path, repository.shipped, repository.trusted_keys_file)
    add_version(alone, "3", key=None)
    alone.check_signature(alone.folder(MODEL, "3"))


def test_what_the_settings_name_is_vouched_for_but_not_what_arrives(tmp_path: Path) -> None:
    """Whoever set the folder knows what lies there; nobody knows what a peer sends."""
    folder = write_version(tmp_path / "given", "1")
    trusted = tmp_path / "trusted"
    trusted.write_text("")
    given = Repository(tmp_path / "given", tmp_path / "given", trusted, asks_for_signatures=True)
    given.check_signature(folder)
    half = shutil.copytree(folder, folder.parent / ".fetch-2-0123")
    (half / "metrics.json").write_text("{} ")
    write_manifest(half)
    sign(half, KEY)
    with pytest.raises(ModelRefused, match="not among the 0"):
        given.check_signature(half, arriving=True)


def test_the_champion_is_remembered_over_a_restart(tmp_path: Path) -> None:
    """So that a start while the store is away serves no version that was only pushed."""
    repository = own_repository(tmp_path, "east")
    assert repository.remembered(MODEL) is None
    repository.remember(MODEL, Named("2", "ab", ("1",)))
    assert repository.remembered(MODEL) == Named("2", "ab", ("1",))
    (repository.path / MODEL / "champion.json").write_text("[")
    assert repository.remembered(MODEL) is None
    assert repository.versions(MODEL) == ["1"]


def test_a_touched_folder_has_another_fingerprint(tmp_path: Path) -> None:
    """So an operator who mends a version need not tell the worker."""
    repository = own_repository(tmp_path, "east")
    before = repository.fingerprint(MODEL, "1")
    assert before == repository.fingerprint(MODEL, "1")
    (repository.folder(MODEL, "1") / "metrics.json").write_text("{}  \n")
    assert repository.fingerprint(MODEL, "1") != before
    assert repository.fingerprint(MODEL, "9") == ()


@pytest.mark.parametrize("text", ["", ".", "..", ".hidden", "a/b", "a\0b"])
def test_a_name_is_one_visible_part_of_a_path(text: str) -> None:
    """Nothing from a request leads out of the repository."""
    assert not is_name(text)
    assert is_name("ranker")


@pytest.mark.parametrize("text", ["", "01", "-1", "1.0", "\u0661", "9" * 19, "../1"])
def test_a_number_is_as_folders_are_named(text: str) -> None:
    """`01` and `1` would be two names of one version."""
    assert not is_number(text)
    assert is_number("0") and is_number("12")
