"""Raw user identifiers never enter a log: what stands there is a keyed hash.

One key for all regions, kept outside their data, so that the same user is the same number everywhere and nobody who
holds a log can go back from the number to the user by trying identifiers. The key's fingerprint, which says nothing
about the key, is what regions compare: events hashed under two keys would be two different users for ever.
"""

import hashlib
from typing import Final

KEY_BYTES: Final = 32
SESSION_BLOCK_MS: Final = 30 * 60 * 1000
"""Without a session from the app, a user's events of one half hour (of their own time) are one session."""

_USER: Final = b"meridian.user"
_SESSION: Final = b"meridian.session"
_BLOCK: Final = b"meridian.block"
_FINGERPRINT: Final = b"meridian.key"


class Pseudonyms:
    """Turns users and sessions into uint64 numbers under one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a pseudonym key has {KEY_BYTES} bytes, this one has {len(key)}")
        self._user = hashlib.blake2b(digest_size=8, key=key, person=_USER)
        self._session = hashlib.blake2b(digest_size=8, key=key, person=_SESSION)
        self._block = hashlib.blake2b(digest_size=8, key=key, person=_BLOCK)
        self.fingerprint: Final = hashlib.blake2b(digest_size=8, key=key, person=_FINGERPRINT).hexdigest()
        """16 hex digits that identify the key without giving it away."""

    def user(self, raw: str) -> int:
        """The pseudonym of a user; never 0, which means that nobody is named."""
        return _number(self._user, raw.encode()) or 1

    def session(self, user: int, raw: str | None, time_ms: int) -> int:
        """The session number: of what the app calls it, or of the half hour that `time_ms` lies in."""
        owner = user.to_bytes(8, "little")
        if raw:
            return _number(self._session, owner + raw.encode())
        block = time_ms // SESSION_BLOCK_MS
        return _number(self._block, owner + block.to_bytes(8, "little", signed=True))


def _number(keyed: "hashlib.blake2b", message: bytes) -> int:
    digest = keyed.copy()
    digest.update(message)
    return int.from_bytes(digest.digest(), "little")
