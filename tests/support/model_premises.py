"""A region's models for tests: a directory, a coordination file, tiny versions, and the verbs in this process."""

from __future__ import annotations

from pathlib import Path

from models import registry
from services.common.clock import SystemClock
from services.common.region_settings import RegionSettings
from services.coordination import FileStore
from services.coordination.model_records import CHAMPION, alias, versions
from services.inference.settings import InferenceSettings
from services.models.premises import Premises
from services.models.pushing import Pushed, push
from tests.support.tiny_model import write_version

MODEL = "tiny"


def premises_in(directory: Path, name: str = "east") -> Premises:
    """A region that is alone, with its files in a directory, and nobody who serves."""
    region = RegionSettings(name=name, data_dir=directory, inference_port=9)
    assert region.check() is None
    inference = InferenceSettings(batch_buckets=(1, 4), candidate_buckets=(64,), queue_rows_max=8)
    return Premises(region, (region,), inference, MODEL, "ada", SystemClock())


def built(directory: Path, bias: float = 0.0, *, golden_shift: float = 0.0, layers: int = 0) -> Path:
    """A version as somebody trained it, outside of any region; `bias` makes it another one."""
    place = directory / f"built-{bias}-{golden_shift}-{layers}"
    if (place / MODEL / "1").exists():
        return place / MODEL / "1"
    return write_version(place, model=MODEL, bias=bias, golden_rows=6, golden_shift=golden_shift, layers=layers)


async def pushed(premises: Premises, source: Path, version: str = "") -> Pushed:
    """Push without saying anything."""
    return await push(premises, source, version, lambda _: None)


def on_disk(premises: Premises) -> list[str]:
    """Everything under the model's folder, but for locks."""
    place = premises.repository.path / premises.model
    found = [str(path.relative_to(place)) for path in place.rglob("*")] if place.is_dir() else []
    return sorted(name for name in found if not name.endswith(".lock"))


def numbers(premises: Premises) -> list[int]:
    """The versions in the repository, each whole."""
    found = registry.versions(premises.repository.path, premises.model)
    for number in found:
        registry.verify_manifest(premises.repository.folder(premises.model, str(number)))
    return found


async def registered(premises: Premises) -> dict[str, str]:
    """The content of each registered number."""
    store = FileStore(premises.region.coordination_file)
    return {record.version: record.sha256 for record in await versions(store, premises.model)}


async def champion(premises: Premises) -> str:
    """The version that the alias names; empty: none."""
    record = await alias(FileStore(premises.region.coordination_file), premises.model, CHAMPION)
    return record.version if record is not None else ""
