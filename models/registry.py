"""Versions of a model on disk: complete and unchanged, or refused by name.

A version is a folder `NAME/NUMBER/` in Triton's repository layout with the graph, a golden set (inputs with the
scores they must give), the figures it was shipped with, and a manifest with the sha256 of each of these. "It loads"
is no proof that it is the model that was trained; the sums and the golden set are. A version is written beside its
place and renamed into it, so that nobody ever sees half of one, and is never changed afterwards: the next one gets
the next number.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import GoldenMismatch, VersionDamaged

MODEL_FILE: Final = "model.onnx"
GOLDEN_FILE: Final = "golden.npz"
METRICS_FILE: Final = "metrics.json"
MANIFEST_FILE: Final = "manifest.json"
CONFIG_FILE: Final = "config.pbtxt"
VERSION_FILES: Final = (MODEL_FILE, GOLDEN_FILE, METRICS_FILE)
SCORE_TOLERANCE: Final = 1e-4
TOP: Final = 10
_TIE: Final = 1e-6
_INPUT: Final = "input."
_REMEDY: Final = "restore the folder from where it was built, or train it again: python -m models.train"

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs (n, ...) by name, the scores (n, K) they must give, and the places (n, <= 10) of the best ones."""

    inputs: Arrays
    scores: npt.NDArray[np.float32]
    top10: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version whose files are what its manifest says."""

    name: str
    version: int
    folder: Path
    sha256: str
    """Of the manifest: names the version beyond its number."""
    metrics: dict[str, Any]
    golden: Golden

    @property
    def label(self) -> str:
        """As answers carry it: `ranker/1`."""
        return f"{self.name}/{self.version}"

    @property
    def model_path(self) -> Path:
        """The ONNX graph."""
        return self.folder / MODEL_FILE


def top_places(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Places of the ten best scores of each row, best first; ties in order of place."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :TOP]


def verify_manifest(folder: Path) -> str:
    """The manifest's own sha256, when every file is there and unchanged. Raises VersionDamaged that names the file."""
    manifest = folder / MANIFEST_FILE
    try:
        raw = manifest.read_bytes()
        sums = msgspec.json.decode(raw, type=dict[str, str])
    except OSError as error:
        raise VersionDamaged(f"{manifest} cannot be read ({error.strerror}); {_REMEDY}") from error
    except msgspec.DecodeError as error:
        raise VersionDamaged(f"{manifest} is not a manifest ({error}); {_REMEDY}") from error
    missing = [name for name in VERSION_FILES if name not in sums]
    if missing:
        raise VersionDamaged(f"{manifest} does not list {', '.join(missing)}; {_REMEDY}")
    for name, expected in sorted(sums.items()):
        path = folder / name
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise VersionDamaged(f"{path} cannot be read ({error.strerror}); {_REMEDY}") from error
        if found != expected:
            raise VersionDamaged(f"{path} has sha256 {found[:12]}, its manifest says {expected[:12]}; {_REMEDY}")
    return hashlib.sha256(raw).hexdigest()


def load_version(folder: Path) -> ModelVersion:
    """Read a version after its sums were checked. Raises VersionDamaged."""
    sha256 = verify_manifest(folder)
    if not folder.name.isdigit():
        raise VersionDamaged(f"{folder} is not named by a version number; {_REMEDY}")
    metrics = msgspec.json.decode((folder / METRICS_FILE).read_bytes(), type=dict[str, Any])
    try:
        golden = _read_golden(folder / GOLDEN_FILE)
    except (KeyError, ValueError, OSError) as error:
        raise VersionDamaged(f"{folder / GOLDEN_FILE} is no golden set ({error}); {_REMEDY}") from error
    return ModelVersion(folder.parent.name, int(folder.name), folder, sha256, metrics, golden)


def _read_golden(path: Path) -> Golden:
    with np.load(path, allow_pickle=False) as arrays:
        inputs = {name.removeprefix(_INPUT): arrays[name] for name in arrays.files if name.startswith(_INPUT)}
        return Golden(inputs, arrays["scores"], arrays["top10"])


def compare_golden(golden: Golden, scores: npt.NDArray[np.float32]) -> None:
    """Check what a loaded model gives for the golden inputs.

    Every score within 1e-4, and the same ten best in the same order; only candidates whose expected scores are
    closer than float32's own noise may change places. Raises GoldenMismatch that names row, candidate and difference.
    """
    if scores.shape != golden.scores.shape:
        raise GoldenMismatch(f"scores have shape {scores.shape}, the golden set has {golden.scores.shape}; {_REMEDY}")
    distance = np.abs(scores.astype(np.float64) - golden.scores)
    wrong = np.argwhere(~(distance <= SCORE_TOLERANCE))
    if len(wrong):
        row, place = wrong[0].tolist()
        raise GoldenMismatch(
            f"golden row {row}, candidate {place}: score {scores[row, place]:.6f}, expected "
            f"{golden.scores[row, place]:.6f}; {_REMEDY}"
        )
    for row, (found, expected) in enumerate(zip(top_places(scores), golden.top10, strict=True)):
        for place, (mine, theirs) in enumerate(zip(found.tolist(), expected.tolist(), strict=True)):
            if mine != theirs and abs(golden.scores[row, mine] - golden.scores[row, theirs]) > _TIE:
                raise GoldenMismatch(
                    f"golden row {row}, place {place + 1}: candidate {mine} instead of {theirs}; {_REMEDY}"
                )


def versions(repository: Path, name: str) -> list[int]:
    """The version numbers of a model in a repository, ascending, whether they are sound or not."""
    try:
        entries = list((repository / name).iterdir())
    except OSError:
        return []
    return sorted(int(entry.name) for entry in entries if entry.is_dir() and entry.name.isdigit())


def golden_bytes(golden: Golden) -> bytes:
    """The file of a golden set; the same arrays give the same bytes."""
    sink = io.BytesIO()
    arrays = {f"{_INPUT}{name}": array for name, array in sorted(golden.inputs.items())}
    np.savez_compressed(sink, allow_pickle=False, scores=golden.scores, top10=golden.top10, **arrays)
    return sink.getvalue()


def write_version(repository: Path, name: str, version: int, files: Mapping[str, bytes], config: str) -> Path:
    """Put a version into its place, complete with its manifest, or not at all.

    Raises VersionDamaged when the version exists with other contents: a version is never changed.
    """
    missing = [wanted for wanted in VERSION_FILES if wanted not in files]
    if missing:
        raise VersionDamaged(f"version {version} of {name} would have no {', '.join(missing)}; write all of them")
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())}
    manifest = msgspec.json.format(msgspec.json.encode(sums), indent=1) + b"\n"
    folder = repository / name / str(version)
    if folder.exists():
        if (folder / MANIFEST_FILE).is_file() and (folder / MANIFEST_FILE).read_bytes() == manifest:
            verify_manifest(folder)
            return folder
        raise VersionDamaged(f"{folder} exists and is another version; take the next number or remove it first")
    (repository / name).mkdir(parents=True, exist_ok=True)
    half = repository / name / f".{version}.{os.getpid()}"
    half.mkdir()
    try:
        for file, content in {**files, MANIFEST_FILE: manifest}.items():
            _write_file(half / file, content)
        _write_file(half.parent / f".{CONFIG_FILE}.{os.getpid()}", config.encode())
        (half.parent / f".{CONFIG_FILE}.{os.getpid()}").replace(half.parent / CONFIG_FILE)
        half.rename(folder)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    return folder


def _write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
