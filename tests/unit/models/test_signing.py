"""Signatures of model versions: by a trusted key, over exactly this manifest, or refused with the reason."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from models.errors import VersionDamaged
from models.registry import MANIFEST_FILE, SIGNATURE_FILE
from models.signing import (
    KeyUnreadable,
    Signature,
    public_key,
    read_key,
    read_trusted,
    sign,
    signature_of,
    verify,
)

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
TRUSTED = [public_key(OTHER), public_key(KEY)]


def signed(folder: Path, key: bytes = KEY) -> Path:
    """A folder with a manifest and its signature."""
    (folder / MANIFEST_FILE).write_bytes(b'{"files": {}}\n')
    sign(folder, key)
    return folder


def test_a_signature_of_a_trusted_key_is_taken(tmp_path: Path) -> None:
    """Whichever of the listed keys made it; the same input gives the same bytes."""
    verify(signed(tmp_path), TRUSTED)
    assert (tmp_path / SIGNATURE_FILE).read_bytes() == signature_of(b'{"files": {}}\n', KEY)


def test_a_key_that_is_not_listed_is_named(tmp_path: Path) -> None:
    """In full, so that an operator who knows it can add it."""
    with pytest.raises(VersionDamaged, match=public_key(OTHER).hex()):
        verify(signed(tmp_path, OTHER), [public_key(KEY)])


def test_another_manifest_is_not_what_was_signed(tmp_path: Path) -> None:
    """One byte more is another manifest."""
    with (signed(tmp_path) / MANIFEST_FILE).open("ab") as file:
        file.write(b" ")
    with pytest.raises(VersionDamaged, match="does not fit the manifest"):
        verify(tmp_path, TRUSTED)


def test_a_signature_for_something_else_is_no_signature_of_a_model(tmp_path: Path) -> None:
    """The key may sign other things some day: their bytes do not fit a manifest."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    manifest = (signed(tmp_path) / MANIFEST_FILE).read_bytes()
    bare = Ed25519PrivateKey.from_private_bytes(KEY).sign(manifest)
    borrowed = Signature("ed25519", public_key(KEY).hex(), bare.hex())
    (tmp_path / SIGNATURE_FILE).write_bytes(msgspec.json.encode(borrowed))
    with pytest.raises(VersionDamaged, match="does not fit"):
        verify(tmp_path, TRUSTED)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a signature"),
        (b"{}", "not a signature"),
        (b'{"algorithm": "ed25519", "key": "zz", "signature": ""}', "not a signature"),
        (b'{"algorithm": "rsa", "key": "", "signature": ""}', "of kind 'rsa'"),
        (b'{"algorithm": "ed25519", "key": "' + public_key(KEY).hex().encode() + b'", "signature": "00"}', "not fit"),
    ],
)
def test_what_is_no_signature_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    """Never an error that nobody foresaw."""
    (signed(tmp_path) / SIGNATURE_FILE).write_bytes(content)
    with pytest.raises(VersionDamaged, match=reason):
        verify(tmp_path, TRUSTED)


def test_a_missing_signature_names_the_way_to_one(tmp_path: Path) -> None:
    """The next step is a push."""
    (signed(tmp_path) / SIGNATURE_FILE).unlink()
    with pytest.raises(VersionDamaged, match=r"manifest\.sig is missing.*meridian models push"):
        verify(tmp_path, TRUSTED)


def test_files_of_keys_are_read_or_refused(tmp_path: Path) -> None:
    """Remarks and empty lines are nothing; a line that is no key is named by its number."""
    keys, listed = tmp_path / "key", tmp_path / "trusted"
    keys.write_text(KEY.hex() + "\n")
    listed.write_text(f"# ours\n\n{public_key(KEY).hex()}  # made today\n")
    assert read_key(keys) == KEY
    assert read_trusted(listed) == [public_key(KEY)]
    listed.write_text(f"{public_key(KEY).hex()}\nnot a key\n")
    with pytest.raises(KeyUnreadable, match="line 2"):
        read_trusted(listed)
    keys.write_text("00")
    with pytest.raises(KeyUnreadable, match="64 hex digits"):
        read_key(keys)
    for read in (read_key, read_trusted):
        with pytest.raises(KeyUnreadable, match="meridian up"):
            read(tmp_path / "nowhere")


def test_nothing_loads_the_library_before_it_is_needed() -> None:
    """A process that verifies no signature does not carry it."""
    code = "import sys, models.signing, services.inference.server; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
