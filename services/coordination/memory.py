"""The coordination store in memory: for tests and for the simulator. The file driver keeps this same table on disk."""

from services.coordination.base import ABSENT, CasConflict, Versioned


class Table:
    """The keys and their revisions, without any I/O: what both local drivers agree on."""

    def __init__(self, revision: int = 0, entries: dict[str, Versioned] | None = None) -> None:
        self.revision = revision
        self.entries = dict(entries or {})

    def put(self, key: str, value: bytes, expected_revision: int) -> Versioned:
        """Write under compare-and-swap; raises CasConflict and changes nothing when the comparison fails."""
        before = self._expect(key, expected_revision)
        self.revision += 1
        created = before.create_revision if before else self.revision
        written = Versioned(key, value, created, self.revision)
        self.entries[key] = written
        return written

    def delete(self, key: str, expected_revision: int) -> None:
        """Delete under compare-and-swap; raises CasConflict and changes nothing when the comparison fails."""
        if self._expect(key, expected_revision) is not None:
            self.revision += 1
            del self.entries[key]

    def list(self, prefix: str) -> list[Versioned]:
        """Every entry under the prefix, sorted by key."""
        return [entry for key, entry in sorted(self.entries.items()) if key.startswith(prefix)]

    def _expect(self, key: str, expected_revision: int) -> Versioned | None:
        before = self.entries.get(key)
        found = before.revision if before else ABSENT
        if found != expected_revision:
            raise CasConflict(f"{key} is at revision {found}, not {expected_revision}: read it again")
        return before


class MemoryStore:
    """A coordination store that ends with its process."""

    def __init__(self) -> None:
        self._table = Table()

    async def get(self, key: str) -> Versioned | None:
        """See KeyValueStore."""
        return self._table.entries.get(key)

    async def list(self, prefix: str) -> list[Versioned]:
        """See KeyValueStore."""
        return self._table.list(prefix)

    async def compare_and_put(self, key: str, value: bytes, expected_revision: int) -> Versioned:
        """See KeyValueStore."""
        return self._table.put(key, value, expected_revision)

    async def compare_and_delete(self, key: str, expected_revision: int) -> None:
        """See KeyValueStore."""
        self._table.delete(key, expected_revision)
