"""Reading a version's folder {model.onnx, golden.npz, metrics.json, manifest.json}: sums first, then contents.

`manifest.json` names each file's sha256; a folder with a missing, changed or unlisted file is not the version that
was trained, whatever its number says.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from services.inference.errors import ModelRefused
from services.inference.golden import GoldenSet

_REMEDY = "Restore the folder from where it was built; never edit a version, make the next one"


@dataclass(frozen=True, slots=True)
class VersionContents:
    """A folder whose sums are right. `sha256` is the manifest's own, and names the version beyond its number."""

    model_path: Path
    golden: GoldenSet
    sha256: str


def read_version(folder: Path) -> VersionContents:
    """Raises ModelRefused that names the file and what is wrong with it."""
    manifest = folder / "manifest.json"
    try:
        raw = manifest.read_bytes()
        sums = msgspec.json.decode(raw, type=dict[str, str])
        for name, expected in sums.items():
            with (folder / name).open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            if found != expected:
                raise ModelRefused(
                    f"{folder / name} has sha256 {found[:12]}, its manifest says {expected[:12]}", _REMEDY
                )
    except OSError as error:
        raise ModelRefused(f"{error.filename} cannot be read: {error.strerror}", _REMEDY) from error
    except msgspec.DecodeError as error:
        raise ModelRefused(f"{manifest} is not a manifest: {error}", _REMEDY) from error
    with np.load(folder / "golden.npz", allow_pickle=False) as arrays:
        inputs = {name.removeprefix("input."): arrays[name] for name in arrays.files if name.startswith("input.")}
        golden = GoldenSet(inputs, arrays["scores"], arrays["top10"])
    return VersionContents(folder / "model.onnx", golden, hashlib.sha256(raw).hexdigest())
