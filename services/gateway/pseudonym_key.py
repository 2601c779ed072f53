"""The file that holds the pseudonym key: read, or made by whoever starts a new region first.

A key is made only while the region's record knows of none. A file that disappeared later is not replaced: a new key
would silently make every user a stranger.
"""

import os
from pathlib import Path

from services.common.clock import random_bytes
from services.common.settings import SettingsError
from services.coordination import KeyValueStore
from services.coordination.region_record import KeyMismatch, check_key_fingerprint, key_fingerprint
from streams.pseudonym import KEY_BYTES, Pseudonyms


async def open_pseudonyms(path: Path, store: KeyValueStore) -> Pseudonyms:
    """Read or make the key, and hold its fingerprint against the record. Raises KeyMismatch, SettingsError."""
    recorded = await key_fingerprint(store)
    if not path.exists():  # noqa: ASYNC240 - once, at the start
        if recorded is not None:
            raise KeyMismatch(
                f"{path} is gone, but this region has written logs under its key. Put the file back (from a backup or "
                "another region) and start again."
            )
        _make(path)
    pseudonyms = read_pseudonyms(path)
    await check_key_fingerprint(store, pseudonyms.fingerprint)
    return pseudonyms


def read_pseudonyms(path: Path) -> Pseudonyms:
    """Read a key that is there. Raises SettingsError."""
    return Pseudonyms(_read(path))


def _read(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read as a pseudonym key: {error}. Put the right file back.") from None
    if len(key) != KEY_BYTES:
        raise SettingsError(f"{path} holds {len(key)} bytes instead of {KEY_BYTES}. Put the right file back.")
    return key


def _make(path: Path) -> None:
    """Write a new key that appears under its name only when it is whole; whoever comes second keeps the first's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(random_bytes(KEY_BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(beside)
    except FileExistsError:
        pass
    finally:
        beside.unlink(missing_ok=True)
