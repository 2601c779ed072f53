"""Every key of the coordination store, in one place."""

from typing import Final

LEADER: Final = "/meridian/leader"
"""Leased by the active region's controller; its create revision is the epoch's second part."""
TERMS: Final = "/meridian/terms/"
"""A copy of the leader key's value for each claim that won it, without a lease; created at the same revision."""
GENERATION: Final = "/meridian/generation"
"""The epoch's first part; raised by compare-and-swap when the store was restored or rebuilt."""
PAUSE: Final = "/meridian/pause"
OPERATION_OPEN: Final = "/meridian/operation"
"""The one operation of an operator that is under way."""
OPERATIONS: Final = "/meridian/operations/"
HISTORY: Final = "/meridian/history/"
RECEIPTS: Final = "/meridian/receipts/"
LIVES: Final = "/meridian/lives/"
REGISTRY: Final = "/meridian/registry/"


def term_key(instance: str, lease_id: int) -> str:
    """Where it stays known that a process won the leader key with a lease; with one lease it is won once at most."""
    return f"{TERMS}{instance}-{lease_id:x}"


def registry_key(region: str, kind: str, instance: str) -> str:
    """Where one process of a region says, under a lease, where it is: kind is `gateway`, `inference`, ..."""
    return f"{REGISTRY}{region}/{kind}/{instance}"
