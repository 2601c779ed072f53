"""The versions that a region holds: filled from those that are shipped, and a signature for whatever is not.

Every region keeps its own copy, because a shared folder would be one more thing that all regions lose at once. A
folder that lies under a number is never replaced by the worker, whatever is wrong with it: a worker that mends its own
evidence cannot be trusted to refuse, and an operator who removes the folder has it filled or fetched again.

What is shipped needs no signature: it came with the code that would check one. It is known by its manifest's sha256,
so a changed copy of a shipped version is no longer one.
"""

import contextlib
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models import registry, signing
from models.errors import ModelError
from models.placing import placing, write_config
from models.registry import CONFIG_FILE, MANIFEST_FILE
from services.common.logging import get_logger
from services.inference.errors import ModelRefused

log = get_logger(__name__)

REMEMBERED_FILE = "champion.json"
"""Beside the versions: which one was champion when the coordination store was last heard."""


class Named(msgspec.Struct, frozen=True):
    """A version as an alias names it: the number, and the content that it stands for."""

    version: str
    sha256: str = ""
    """Of the manifest; empty: whatever has the number."""
    former: tuple[str, ...] = ()
    """Versions that the alias named before, the latest first."""


@dataclass(frozen=True, slots=True)
class Repository:
    """One region's versions, in Triton's layout.

    A deployment asks for signatures whether or not it has a list of trusted keys; a region that is alone, if it has.
    """

    path: Path
    shipped: Path
    trusted_keys_file: Path = Path()
    asks_for_signatures: bool = False

    @property
    def is_own(self) -> bool:
        """Whether the region has a folder of its own, which is written to without asking anybody."""
        return self.path != self.shipped

    def versions(self, model: str) -> list[str]:
        """Version folders of a model, newest (largest number) first, whether they are sound or not."""
        if not is_name(model):
            return []
        return [str(number) for number in reversed(registry.versions(self.path, model))]

    def models(self) -> list[str]:
        """Every folder that could be a model's."""
        with contextlib.suppress(OSError):
            return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir() and is_name(entry.name))
        return []

    def folder(self, model: str, version: str) -> Path:
        """Where a version is, or will be. `model` and `version` must be names."""
        return self.path / model / version

    def fill(self) -> None:
        """Copy every shipped version whose number is free here. Blocks; says in the log what could not be copied."""
        if not self.is_own:
            return
        for model in Repository(self.shipped, self.shipped).models():
            for number in registry.versions(self.shipped, model):
                try:
                    self._copy(model, str(number))
                except OSError as error:
                    log.error(
                        "a shipped version could not be copied",
                        model=model,
                        version=str(number),
                        reason=f"{error}; the region serves what it has",
                    )

    def manifest_sha256(self, model: str, version: str) -> str | None:
        """What a version's manifest says it is, None when it cannot be read. Nothing of it is checked."""
        try:
            return hashlib.sha256((self.folder(model, version) / MANIFEST_FILE).read_bytes()).hexdigest()
        except OSError:
            return None

    def fingerprint(self, model: str, version: str) -> tuple[tuple[str, int, int], ...]:
        """Names, sizes and times of a version's files: whether somebody touched it since it was refused."""
        try:
            found = [(entry.name, entry.stat()) for entry in os.scandir(self.folder(model, version))]
        except OSError:
            return ()
        return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found))

    def check_signature(self, folder: Path, *, arriving: bool = False) -> None:
        """Refuse a version that is neither shipped nor signed by a trusted key. Blocks. Raises ModelRefused.

        For what lies in a folder that the settings name, whoever set it vouches; not for what arrives from a peer.
        """
        if not arriving and not self.is_own:
            return
        if not self.asks_for_signatures and not self.trusted_keys_file.is_file():
            return
        try:
            sha256 = hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()
            if sha256 in self._shipped_sums(folder.parent.name):
                return
            signing.verify(folder, signing.read_trusted(self.trusted_keys_file))
        except (ModelError, signing.KeyUnreadable, OSError) as error:
            raise ModelRefused(
                f"version folder {folder}: {error}", "Ship it with `meridian models push`, which proves and signs it"
            ) from error

    def config_written(self, model: str) -> None:
        """Give a model that came from elsewhere the least that Triton wants beside its versions; it reads the rest.

        `models.export.triton_config` says more, at 100 MB of what retrieval needs in a process that only scores.
        """
        config = self.path / model / CONFIG_FILE
        if not config.exists():
            config.write_text(f'name: "{model}"\nbackend: "onnxruntime"\n')

    def remember(self, model: str, named: Named) -> None:
        """Keep what was champion, for a start while the coordination store is away."""
        if not self.is_own or self.remembered(model) == named:
            return
        path = self.path / model / REMEMBERED_FILE
        beside = path.with_name(f".{REMEMBERED_FILE}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(named))
            beside.replace(path)
        except OSError as error:
            log.warning("the champion could not be remembered", model=model, reason=str(error))

    def remembered(self, model: str) -> Named | None:
        """What was champion when the store was last heard, None when that is not known."""
        try:
            return msgspec.json.decode((self.path / model / REMEMBERED_FILE).read_bytes(), type=Named)
        except (OSError, msgspec.DecodeError):
            return None

    def _copy(self, model: str, version: str) -> None:
        if (self.path / model / version).exists():
            return
        with contextlib.suppress(FileExistsError), placing(self.path, model, version) as half:  # a push may fill, too
            shutil.copytree(self.shipped / model / version, half, dirs_exist_ok=True)
            config = self.shipped / model / CONFIG_FILE
            if config.exists():
                write_config(self.path, model, config.read_bytes())

    def _shipped_sums(self, model: str) -> set[str]:
        source = Repository(self.shipped, self.shipped)
        found = (source.manifest_sha256(model, version) for version in source.versions(model))
        return {sha256 for sha256 in found if sha256 is not None}


def is_name(text: str) -> bool:
    """Whether a text can be a model's name: one part of a path, and not hidden."""
    return bool(text) and not text.startswith(".") and "/" not in text and "\0" not in text


def is_number(text: str) -> bool:
    """Whether a text can be a version's: digits as a folder is named by them."""
    return text.isascii() and text.isdigit() and len(text) <= 18 and (text == "0" or text[0] != "0")
