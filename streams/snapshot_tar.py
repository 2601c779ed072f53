"""A snapshot on its way to another region: one tar stream, unpacked beside the place where it will stand.

All files are opened before the first byte is sent, so that a newer snapshot that sweeps old files away meanwhile takes
nothing from the one under way. The receiver takes only names that a snapshot can have, and moves the manifest last: a
transfer that was cut short leaves nothing that looks like a snapshot. `load` checks whether the content is right.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from streams.errors import StreamError
from streams.snapshot import newest

CHUNK_BYTES: Final = 1 << 20
_ALLOWED: Final = re.compile(r"snapshot-\d{12}\.json|units/(unit--?\d+-[0-9a-f]{32}|catalogue-[0-9a-f]{32})\.arrow")


class TransferError(StreamError):
    """What came is not a whole snapshot; another try, or a replay, may do."""


def pack(directory: Path) -> Iterator[bytes]:
    """The newest snapshot in `directory` as the bytes of a tar file. Raises FileNotFoundError when there is none."""
    found = newest(directory)
    if found is None:
        raise FileNotFoundError(f"there is no snapshot in {directory}")
    path, manifest = found
    with ExitStack() as opened:
        files = [(f"units/{each.name}", directory / "units" / each.name) for each in manifest.files]
        sources = [(name, opened.enter_context(file.open("rb")), file.stat().st_size) for name, file in files]
        sources.append((path.name, opened.enter_context(path.open("rb")), path.stat().st_size))
        for name, source, size in sources:
            entry = tarfile.TarInfo(name)
            entry.size = size
            yield entry.tobuf()
            left = size
            while left > 0:
                chunk = source.read(min(CHUNK_BYTES, left))
                if not chunk:
                    raise TransferError(f"{name} is shorter than it was")
                left -= len(chunk)
                yield chunk
            yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def unpack(archive: Path, directory: Path) -> None:
    """Put the snapshot in `archive` into `directory`. Raises TransferError for anything else than a whole one."""
    beside = directory / ".incoming"
    shutil.rmtree(beside, ignore_errors=True)
    (beside / "units").mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:") as tar:
            names = [_take(tar, entry, beside) for entry in tar]
    except (tarfile.TarError, OSError) as error:
        raise TransferError(f"the snapshot did not come whole: {error}") from error
    manifests = [name for name in names if not name.startswith("units/")]
    if len(manifests) != 1:
        raise TransferError(f"a snapshot has one manifest, this has {len(manifests)}")
    (directory / "units").mkdir(parents=True, exist_ok=True)
    for name in [*(name for name in names if name not in manifests), *manifests]:
        (beside / name).replace(directory / name)
    shutil.rmtree(beside)


def _take(tar: tarfile.TarFile, entry: tarfile.TarInfo, beside: Path) -> str:
    source = tar.extractfile(entry)
    if source is None or not _ALLOWED.fullmatch(entry.name):
        raise TransferError(f"{entry.name!r} does not belong to a snapshot")
    with (beside / entry.name).open("wb") as target:
        shutil.copyfileobj(source, target, CHUNK_BYTES)
    return entry.name
