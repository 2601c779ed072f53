"""Who may say that a model version is ours: an Ed25519 signature beside the manifest.

The sums in a manifest show that a version was not damaged; they do not show who made it, because whoever changes a file
can change its sum. `manifest.sig` does: it signs the manifest's bytes, which name every other file by its sha256. A
deployment has one signing key, made by `meridian up` and kept outside of its regions' data, and a list of public keys
that it trusts, one a line; a version that another deployment signed is taken after its key was added to that list.

The number of a version is not signed: it is given when the version is registered, and the registry binds the two.
`cryptography` is imported when a signature is made or checked, so that no other process carries it.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from models.errors import ModelError, VersionDamaged
from models.registry import MANIFEST_FILE, SIGNATURE_FILE

KEY_BYTES: Final = 32
"""Of a private key's seed, and of a public key."""
_ALGORITHM: Final = "ed25519"
_PURPOSE: Final = b"meridian model manifest 1\n"
"""Signed before the manifest's bytes, so that no signature that this key gives for anything else fits a model."""
_HEX_KEY: Final = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}")


class KeyUnreadable(ModelError):
    """A file of keys does not hold what it should. The message names the file and the next step."""


class Signature(msgspec.Struct, frozen=True):
    """The content of `manifest.sig`, as JSON."""

    algorithm: str
    key: str
    """The public key, 64 hex digits."""
    signature: str
    """128 hex digits."""


def public_key(key: bytes) -> bytes:
    """Return the public key (32 bytes) of a private key's seed (32 bytes)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()


def signature_of(manifest: bytes, key: bytes) -> bytes:
    """Return the content of `manifest.sig` for a manifest's bytes, signed with the private key's seed (32 bytes).

    The same manifest and key give the same bytes.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    signed = Ed25519PrivateKey.from_private_bytes(key).sign(_PURPOSE + manifest)
    return msgspec.json.encode(Signature(_ALGORITHM, public_key(key).hex(), signed.hex())) + b"\n"


def sign(folder: Path, key: bytes) -> None:
    """Write `manifest.sig` into a version's folder. Raises VersionDamaged when it has no manifest, OSError."""
    try:
        manifest = (folder / MANIFEST_FILE).read_bytes()
    except OSError as error:
        raise VersionDamaged(f"{folder / MANIFEST_FILE} cannot be read ({error.strerror}): nothing to sign") from error
    (folder / SIGNATURE_FILE).write_bytes(signature_of(manifest, key))


def verify(folder: Path, trusted: Sequence[bytes]) -> None:
    """Check that the manifest was signed by one of the trusted public keys (32 bytes each).

    Says nothing of the other files: `models.registry.verify_manifest` does. Raises VersionDamaged with the reason.
    """
    path = folder / SIGNATURE_FILE
    try:
        manifest, raw = (folder / MANIFEST_FILE).read_bytes(), path.read_bytes()
    except FileNotFoundError as error:
        raise VersionDamaged(
            f"{error.filename} is missing, so nobody says that {folder} is ours; `meridian models push FOLDER` proves "
            "a version and signs it"
        ) from None
    except OSError as error:
        raise VersionDamaged(f"{error.filename} cannot be read ({error.strerror})") from error
    verify_bytes(manifest, raw, trusted, str(path))


def verify_bytes(manifest: bytes, signature: bytes, trusted: Sequence[bytes], name: str) -> None:
    """As `verify`, for contents that are not in their folder yet; `name` is what the reason calls them."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        found = msgspec.json.decode(signature, type=Signature)
        key, signed = bytes.fromhex(found.key), bytes.fromhex(found.signature)
    except (msgspec.DecodeError, ValueError) as error:
        raise VersionDamaged(f"{name} is not a signature ({error}); ship the version again") from error
    if found.algorithm != _ALGORITHM:
        raise VersionDamaged(f"{name} is of kind {found.algorithm[:20]!r}, known is {_ALGORITHM}; ship it again")
    if key not in trusted:
        raise VersionDamaged(
            f"{name} was made with the key {found.key}, which is not among the {len(trusted)} that are trusted here; "
            "add it to the list of trusted keys if you know whose it is"
        )
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signed, _PURPOSE + manifest)
    except (InvalidSignature, ValueError) as error:
        raise VersionDamaged(
            f"{name} does not fit the manifest: one of them was changed; restore the folder from where it was built"
        ) from error


def read_key(path: Path) -> bytes:
    """Return the private key's seed (32 bytes) that stands in a file as hex. Raises KeyUnreadable."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnreadable(
            f"{path} cannot be read ({error}); `meridian up` makes the deployment's signing key"
        ) from None
    if not _HEX_KEY.fullmatch(text):
        raise KeyUnreadable(f"{path} is not {2 * KEY_BYTES} hex digits: put the right file back")
    return bytes.fromhex(text)


def read_trusted(path: Path) -> list[bytes]:
    """Return the public keys that are listed in a file, one a line as hex, `#` before remarks. Raises KeyUnreadable."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnreadable(f"{path} cannot be read ({error}); `meridian up` makes the list of trusted keys") from None
    keys: list[bytes] = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if text and not _HEX_KEY.fullmatch(text):
            raise KeyUnreadable(
                f"{path}, line {number}: {text[:20]!r} is not a public key of {2 * KEY_BYTES} hex digits"
            )
        if text:
            keys.append(bytes.fromhex(text))
    return keys
