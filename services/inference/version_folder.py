"""Reading a version's folder {model.onnx, golden.npz, metrics.json, manifest.json}: sums first, then contents.

`manifest.json` names each file's sha256; a folder with a missing, changed or unlisted file is not the version that was
trained, whatever its number says. Unlisted ones count because ONNX keeps large weights in files beside the model.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from services.inference.errors import ModelRefused
from services.inference.golden import GoldenSet

MANIFEST = "manifest.json"
REQUIRED = ("model.onnx", "golden.npz")
_REMEDY = "Restore the folder from where it was built; never edit a version, make the next one"


@dataclass(frozen=True, slots=True)
class VersionContents:
    """A folder whose sums are right. `sha256` is the manifest's own, and names the version beyond its number."""

    model_path: Path
    golden: GoldenSet
    sha256: str


def read_version(folder: Path) -> VersionContents:
    """Raises ModelRefused that names the file and what is wrong with it."""
    sha256 = _verify_sums(folder)
    return VersionContents(folder / "model.onnx", _read_golden(folder / "golden.npz"), sha256)


def _verify_sums(folder: Path) -> str:
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
        sums = msgspec.json.decode(raw, type=dict[str, str])
        present = {found.name for found in folder.iterdir()} - {MANIFEST}
        for name in REQUIRED:
            if name not in sums:
                raise ModelRefused(f"the manifest {path} does not name {name}", _REMEDY)
        for name in sorted(present - sums.keys()):
            raise ModelRefused(f"{folder / name} is not named in {MANIFEST}", _REMEDY)
        for name, expected in sums.items():
            with (folder / name).open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            if found != expected:
                raise ModelRefused(
                    f"{folder / name} has sha256 {found[:12]}..., its manifest says {expected[:12]}...", _REMEDY
                )
    except OSError as error:
        raise ModelRefused(f"{error.filename} cannot be read: {error.strerror}", _REMEDY) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelRefused(f"{path} is no manifest of names and sums: {error}", _REMEDY) from error
    return hashlib.sha256(raw).hexdigest()


def _read_golden(path: Path) -> GoldenSet:
    prefix = "input."
    try:
        with np.load(path, allow_pickle=False) as arrays:
            inputs = {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}
            return GoldenSet(inputs, arrays["scores"], arrays["top10"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ModelRefused(f"{path} is no golden set: {error}", _REMEDY) from error
