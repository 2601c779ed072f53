"""Versions of a model on disk: complete and unchanged, or refused by name.

A version is a folder `NAME/NUMBER/` in Triton's repository layout with the graph, a golden set (inputs with the
scores they must give), the figures it was shipped with, and a manifest: the sha256 of each of these, and what the model
was made from (training frontier, seed, code). "It loads" is no proof that it is the model that was trained; the sums
and the golden set are. A version is written beside its place and renamed into it, so that nobody ever sees half of one,
and is never changed afterwards: the next one gets the next number.
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
SIGNATURE_FILE: Final = "manifest.sig"
"""Signs the manifest (`models.signing`); the one file that it does not name."""
CONFIG_FILE: Final = "config.pbtxt"
VERSION_FILES: Final = (MODEL_FILE, GOLDEN_FILE, METRICS_FILE)
SCORE_TOLERANCE: Final = 1e-4
TOP: Final = 10
_NOT_LISTED: Final = frozenset({MANIFEST_FILE, SIGNATURE_FILE})
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


class About(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a version was made from: enough to make it again, and to say which events it can have learned from."""

    trained_on: str = ""
    """The data in words: `generated shops`, `bestbuy`, `the events logs of east and west`."""
    frontier: dict[str, Any] = {}
    """Where the training data ended: by log the next offset of each partition, else what the source counts by."""
    seed: int | None = None
    code_version: str = ""
    metrics: dict[str, float] = {}
    """The headline figures; `metrics.json` has all of them."""


class Manifest(About, frozen=True, kw_only=True, omit_defaults=True):
    """The content of `manifest.json`. Versions of early releases hold `files` alone, as the whole object."""

    files: dict[str, str]
    """The sha256 of each other file of the version, by name, but for the signature's."""


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
    manifest: Manifest

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
    return _verified(folder)[1]


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest and its sha256, without looking at the files that it names. Raises VersionDamaged."""
    path = folder / MANIFEST_FILE
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise VersionDamaged(f"{path} cannot be read ({error.strerror}); {_REMEDY}") from error
    return manifest_from(raw, str(path)), hashlib.sha256(raw).hexdigest()


def manifest_from(raw: bytes, name: str) -> Manifest:
    """The manifest in these bytes, which `name` calls in the reason. Raises VersionDamaged."""
    try:
        found = msgspec.json.decode(raw, type=dict[str, Any])
        manifest = msgspec.convert(found if "files" in found else {"files": found}, Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VersionDamaged(f"{name} is not a manifest ({error}); {_REMEDY}") from error
    missing = [wanted for wanted in VERSION_FILES if wanted not in manifest.files]
    if missing:
        raise VersionDamaged(f"{name} does not list {', '.join(missing)}; {_REMEDY}")
    strange = [file for file in manifest.files if "/" in file or file.startswith(".") or file in _NOT_LISTED]
    if strange:
        raise VersionDamaged(f"{name} lists {strange[0][:80]!r}, which is no file of a version; {_REMEDY}")
    return manifest


def unlisted_files(folder: Path) -> list[str]:
    """What lies in a version's folder and is not named in its manifest, sorted. Raises VersionDamaged, OSError."""
    return sorted({found.name for found in folder.iterdir()} - read_manifest(folder)[0].files.keys() - _NOT_LISTED)


def _verified(folder: Path) -> tuple[Manifest, str]:
    manifest, sha256 = read_manifest(folder)
    for name, expected in sorted(manifest.files.items()):
        path = folder / name
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise VersionDamaged(f"{path} cannot be read ({error.strerror}); {_REMEDY}") from error
        if found != expected:
            raise VersionDamaged(f"{path} has sha256 {found[:12]}, its manifest says {expected[:12]}; {_REMEDY}")
    return manifest, sha256


def load_version(folder: Path) -> ModelVersion:
    """Read a version after its sums were checked. Raises VersionDamaged."""
    manifest, sha256 = _verified(folder)
    if not (folder.name.isascii() and folder.name.isdigit()):
        raise VersionDamaged(f"{folder} is not named by a version number; {_REMEDY}")
    metrics = msgspec.json.decode((folder / METRICS_FILE).read_bytes(), type=dict[str, Any])
    try:
        golden = read_golden(folder / GOLDEN_FILE)
    except (KeyError, ValueError, OSError) as error:
        raise VersionDamaged(f"{folder / GOLDEN_FILE} is no golden set ({error}); {_REMEDY}") from error
    return ModelVersion(folder.parent.name, int(folder.name), folder, sha256, metrics, golden, manifest)


def read_golden(path: Path) -> Golden:
    """Read what `golden_bytes` made. Raises what numpy.load raises, and KeyError."""
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
    numbered = [entry for entry in entries if entry.name.isascii() and entry.name.isdigit() and entry.is_dir()]
    return sorted(int(entry.name) for entry in numbered)


def golden_bytes(golden: Golden) -> bytes:
    """The file of a golden set; the same arrays give the same bytes."""
    sink = io.BytesIO()
    arrays = {f"{_INPUT}{name}": array for name, array in sorted(golden.inputs.items())}
    np.savez_compressed(sink, allow_pickle=False, scores=golden.scores, top10=golden.top10, **arrays)
    return sink.getvalue()


def write_version(
    repository: Path, name: str, version: int, files: Mapping[str, bytes], config: str, about: About | None = None
) -> Path:
    """Put a version into its place, complete with its manifest, or not at all.

    `about` goes into the manifest; without it the manifest is the bare sums, as early releases wrote it. Raises
    VersionDamaged when the version exists with other contents: a version is never changed.
    """
    missing = [wanted for wanted in VERSION_FILES if wanted not in files]
    if missing:
        raise VersionDamaged(f"version {version} of {name} would have no {', '.join(missing)}; write all of them")
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())}
    written = sums if about is None else Manifest(files=sums, **msgspec.structs.asdict(about))
    manifest = msgspec.json.format(msgspec.json.encode(written), indent=1) + b"\n"
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
