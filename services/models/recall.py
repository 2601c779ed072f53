"""`record` and `replay`: what a region's worker answered to logged requests, and whether it still answers that.

A restore that checks files proves that files came back. This asks what apps ask: the same tensors, over the worker's
own protocol, before and after, and holds the answers to the rule of the golden set (`models.registry.compare_golden`):
each score within 1e-4, and the same ten best in the same order. The file is a golden set with the version beside it.
"""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import GoldenMismatch
from models.records import Source
from models.registry import Golden, compare_golden, golden_bytes, read_golden, top_places
from services.inference.client import InferenceClient, InferenceFailed
from services.inference.report import ServingVersion
from services.models.errors import BadRequest, NotDone, Unreachable, VersionRefused
from services.models.premises import Premises
from services.models.workers import champion_report

ROWS_AT_ONCE: Final = 8
ANSWER_SECONDS: Final = 30
_VERSION: Final = "version"
_CONTENT: Final = "sha256"

Say = Callable[[str], None]
Scores = npt.NDArray[np.float32]


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded, or compared and found the same."""

    model: str
    version: str
    sha256: str
    requests: int
    file: str


def log_of(data: str, data_dir: Path | None, region: str) -> Source:
    """The log to take requests from: what `data` names, or the region's own events.

    Raises ModelError, ReplayMisused, SettingsError, RegistryError.
    """
    from services.models.cutting import cut_region
    from services.replay.cli import open_log

    return open_log(data, "", [], None, None) if data else cut_region(data_dir, region, None)


async def record(premises: Premises, log: Source, count: int, file: Path, say: Say) -> Recalled:
    """Put the last `count` searches of a log to the region's worker, and keep their tensors with its answers.

    Raises BadRequest for a log without searches, Unreachable, VersionRefused when several versions answered, NotDone.
    """
    from models.cases import collect_cases

    await _serving(premises)
    say(f"walking {log.name}")
    cases = await asyncio.to_thread(collect_cases, log, first=max(0, len(log.searches) - count))
    if not len(cases):
        raise BadRequest(f"{log.name} holds no searches")
    inputs = cases.tensors()
    serving, scores = await _answers(premises, inputs, say)
    golden = Golden(inputs, scores, top_places(scores))
    try:
        _write(file, golden, serving)
    except OSError as error:
        raise NotDone(f"{file} cannot be written ({error.strerror}): nothing was recorded") from error
    return _recalled(premises, serving, len(scores), file)


async def replay(premises: Premises, file: Path, say: Say) -> Recalled:
    """Put recorded requests once more, and compare.

    Raises VersionRefused that names the first difference, BadRequest, Unreachable.
    """
    golden, version, sha256 = _read(file)
    serving, scores = await _answers(premises, golden.inputs, say)
    if (serving.version, serving.sha256) != (version, sha256):
        raise VersionRefused(
            f"{premises.model}/{serving.version} ({serving.sha256[:12]}) answers, and {premises.model}/{version} "
            f"({sha256[:12]}) was recorded. Restore it, or `meridian models promote {version}`."
        )
    try:
        compare_golden(golden, scores)
    except GoldenMismatch as mismatch:
        raise VersionRefused(f"it does not answer as it did: {mismatch}") from mismatch
    return _recalled(premises, serving, len(scores), file)


async def _answers(premises: Premises, inputs: dict[str, npt.NDArray[Any]], say: Say) -> tuple[ServingVersion, Scores]:
    """The version that answers, and its scores, float32 [n, K]. One version for all of them, or none."""
    before, count = await _serving(premises), len(next(iter(inputs.values())))
    parts: list[Scores] = []
    async with InferenceClient(premises.region.inference_url, model=premises.model, clock=premises.clock) as client:
        for first in range(0, count, ROWS_AT_ONCE):
            some = {name: np.ascontiguousarray(array[first : first + ROWS_AT_ONCE]) for name, array in inputs.items()}
            try:
                scored = await client.infer(some, premises.clock.unix_ms() + ANSWER_SECONDS * 1000)
            except InferenceFailed as failure:
                raise Unreachable(f"request {first + 1} of {count} was not answered: {failure}") from failure
            if scored.model_version != f"{premises.model}/{before.version}":
                raise VersionRefused(
                    f"request {first + 1} was answered by {scored.model_version}, which stands in for version "
                    f"{before.version}: do it again when the champion answers"
                )
            parts.append(scored.scores)
            if first % 200 == 0:
                say(f"{first + len(scored.scores)} of {count} requests")
    if await _serving(premises) != before:
        raise VersionRefused("another version began to serve meanwhile: do it again")
    return before, np.concatenate(parts)


async def _serving(premises: Premises) -> ServingVersion:
    report = await champion_report(premises.region, premises.model)
    if report is None or report.serving is None:
        raise Unreachable(f"no worker of {premises.region.name} serves {premises.model}: start the region first")
    return report.serving


def _recalled(premises: Premises, serving: ServingVersion, count: int, file: Path) -> Recalled:
    return Recalled(
        model=premises.model, version=serving.version, sha256=serving.sha256, requests=count, file=str(file)
    )


def _write(file: Path, golden: Golden, serving: ServingVersion) -> None:
    """Whole or not at all."""
    half = file.with_name(f".{file.name}.{os.getpid()}")
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = io.BytesIO(golden_bytes(golden))
    with zipfile.ZipFile(beside, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, said in ((_VERSION, serving.version), (_CONTENT, serving.sha256)):
            archive.writestr(name, said)
    try:
        half.write_bytes(beside.getvalue())
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)


def _read(file: Path) -> tuple[Golden, str, str]:
    try:
        with zipfile.ZipFile(file) as archive:
            version, sha256 = (archive.read(name).decode() for name in (_VERSION, _CONTENT))
        return read_golden(file), version, sha256
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadRequest(f"{file} is no record of answers ({error}). `meridian models record` makes one") from error
