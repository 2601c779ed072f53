"""What the processes of all regions must agree on: a small versioned key-value store behind one contract.

The contract is etcd's in miniature (revisions, compare-and-swap), because etcd serves it as soon as there is more than
one region. A single region keeps the same keys in a local file.
"""

from services.coordination.base import (
    CasConflict,
    CoordinationError,
    KeyValueStore,
    StoreDamaged,
    StoreUnavailable,
    Versioned,
)
from services.coordination.file import FileStore
from services.coordination.memory import MemoryStore

__all__ = [
    "CasConflict",
    "CoordinationError",
    "FileStore",
    "KeyValueStore",
    "MemoryStore",
    "StoreDamaged",
    "StoreUnavailable",
    "Versioned",
]
