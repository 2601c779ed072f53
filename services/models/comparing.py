"""Two versions beside each other: figures, sizes, what they were made from, and how alike they rank.

How alike they rank is measured on the golden inputs of the second one, which both are run on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models import registry
from models.agreement import RankAgreement, rank_agreement
from models.errors import ModelError
from services.inference.errors import BadTensor, ModelRefused, ModelRunFailed
from services.models.errors import VersionRefused
from services.models.premises import Premises

_ITEMS: Final = "candidate_items"
_SCORES: Final = "scores"
_ROWS_AT_ONCE: Final = 32
Float = npt.NDArray[np.float32]


class Figure(msgspec.Struct, frozen=True):
    """One figure of both versions; None where one of them does not have it."""

    name: str
    one: float | None
    other: float | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What `meridian models diff` shows."""

    model: str
    versions: tuple[str, str]
    sha256: tuple[str, str]
    size_bytes: tuple[dict[str, int], dict[str, int]]
    made_from: tuple[registry.Manifest, registry.Manifest]
    figures: list[Figure]
    agreement: RankAgreement | None
    not_compared: str
    """Why the rankings could not be compared; empty when they were."""


def difference(premises: Premises, one: str, other: str) -> Difference:
    """Compare two versions that lie here. Blocks. Raises VersionRefused."""
    folders = premises.folder(one), premises.folder(other)
    first, second = (_loaded(folder) for folder in folders)
    agreement, reason = _agreement(premises, first, second)
    return Difference(
        model=premises.model,
        versions=(one, other),
        sha256=(first.sha256, second.sha256),
        size_bytes=(_sizes(folders[0]), _sizes(folders[1])),
        made_from=(first.manifest, second.manifest),
        figures=figures_of(first.metrics, second.metrics),
        agreement=agreement,
        not_compared=reason,
    )


def figures_of(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Figure]:
    """Every number in either report, by its path (`unseen_shop.model.mrr_at_5`), in the order of the names."""
    ours, theirs = dict(_numbers(one)), dict(_numbers(other))
    return [Figure(name, ours.get(name), theirs.get(name)) for name in sorted({*ours, *theirs})]


def _agreement(
    premises: Premises, first: registry.ModelVersion, second: registry.ModelVersion
) -> tuple[RankAgreement | None, str]:
    inputs = second.golden.inputs
    rows, places = second.golden.scores.shape
    real = inputs[_ITEMS] != 0 if _ITEMS in inputs else np.ones((rows, places), bool)
    try:
        scores = [_scores(premises, version, inputs) for version in (first, second)]
        return rank_agreement(scores[0], scores[1], real), ""
    except (BadTensor, ModelRunFailed, ModelRefused, KeyError, ValueError) as error:
        return None, f"the golden inputs of version {second.version} cannot be run on both: {error}"


def _scores(premises: Premises, version: registry.ModelVersion, inputs: registry.Arrays) -> Float:
    from services.inference.engine import BatchItem, Session

    session = Session(version.model_path, premises.inference.engine_options)
    parts: list[Float] = []
    rows = len(next(iter(inputs.values())))
    for first in range(0, rows, _ROWS_AT_ONCE):
        some = {name: np.ascontiguousarray(array[first : first + _ROWS_AT_ONCE]) for name, array in inputs.items()}
        item = BatchItem(some, session.signature.check(some))
        stacked = session.stack_padded([item], item.shape.rows, item.shape.candidates)
        answer = session.split(session.run(stacked), [item])[0]
        if isinstance(answer, ModelRunFailed):
            raise answer
        parts.append(answer[_SCORES])
    return np.concatenate(parts)


def _loaded(folder: Path) -> registry.ModelVersion:
    try:
        return registry.load_version(folder)
    except ModelError as error:
        raise VersionRefused(str(error)) from error


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def _numbers(report: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in report.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{prefix}{name}", float(value)))
    return found
