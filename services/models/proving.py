"""Judging a version in this process exactly as a worker does before it serves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from services.inference.errors import ModelRefused
from services.models.errors import VersionRefused
from services.models.premises import Premises

if TYPE_CHECKING:
    from services.inference.loading import ProvenVersion


def prove(premises: Premises, folder: Path, sha256: str = "") -> ProvenVersion:
    """Sums, signature, opening, golden set, every batch shape. Blocks. Raises VersionRefused.

    `sha256`: the content that must lie there; empty: whatever does.
    """
    from services.inference.loading import load
    from services.inference.signature import Buckets

    settings = premises.inference
    buckets = Buckets(settings.batch_buckets, settings.candidate_buckets)
    try:
        return load(
            folder,
            settings.engine_options,
            buckets,
            premises.clock.monotonic,
            sha256=sha256,
            check_signature=premises.repository.check_signature,
        )
    except ModelRefused as refused:
        raise VersionRefused(str(refused)) from refused
