"""The contract of the coordination store.

One idea carries it: every change raises a store-wide revision, every value knows the revision of its last change, and
a write names the revision it expects to replace. Whoever loses that comparison reads again and decides again; nobody
ever overwrites what it has not seen. The meaning of the revisions is etcd's, so that a driver for it is a translation.
"""

from dataclasses import dataclass
from typing import Final, Protocol

ABSENT: Final = 0
"""The expected revision of a key that must not exist yet."""


class CoordinationError(Exception):
    """Root of everything that the coordination store raises on purpose."""


class CasConflict(CoordinationError):
    """Somebody else changed the key first: read it again and decide again."""


class StoreUnavailable(CoordinationError):
    """The store did not answer, or it is unknown whether a write happened: read before writing again."""


class StoreDamaged(CoordinationError):
    """What the store holds cannot be read; an operator must mend it."""


@dataclass(frozen=True, slots=True)
class Versioned:
    """A value as it stood at one revision."""

    key: str
    value: bytes
    create_revision: int
    """Store-wide revision at which the key came to be; starts again when the key is deleted and made anew."""
    revision: int
    """Store-wide revision of the last change of this key."""


class KeyValueStore(Protocol):
    """Linearizable keys with compare-and-swap. All drivers pass `tests/contract/test_key_value_store.py`."""

    async def get(self, key: str) -> Versioned | None:
        """Return the key's value, or None when it does not exist. Raises StoreUnavailable, StoreDamaged."""

    async def list(self, prefix: str) -> list[Versioned]:
        """Return every key that starts with `prefix`, sorted by key. Raises StoreUnavailable, StoreDamaged."""

    async def compare_and_put(self, key: str, value: bytes, expected_revision: int) -> Versioned:
        """Write `value` if the key is still at `expected_revision` (ABSENT: does not exist), and return it as written.

        Raises CasConflict when it is not, StoreUnavailable when it is unknown whether the write happened.
        """

    async def compare_and_delete(self, key: str, expected_revision: int) -> None:
        """Delete the key if it is still at `expected_revision`. Raises CasConflict, StoreUnavailable."""
