"""The requirement files install the same bytes everywhere, and name no registry."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from infra.runtime.kafka_install import ARTIFACTS, read_artifacts

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([A-Za-z0-9._-]+)(\[[^\]]+\])?==([^ ;\\]+)")


def pins(path: Path) -> dict[str, list[str]]:
    """Each pinned package with its hashes."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in path.read_text().splitlines():
        if match := PIN.match(line):
            name = match[1].lower().replace("_", "-").replace(".", "-")
            found[name] = []
        found.setdefault(name, []).extend(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    found.pop("", None)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_package_is_pinned_with_hashes(path: Path) -> None:
    """A package without a hash would be whatever the index says today."""
    found = pins(path)
    assert found
    assert not [name for name, hashes in found.items() if not hashes]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_a_registry_or_a_machine(path: Path) -> None:
    """The same file installs from whichever index a machine is set up for."""
    words = re.compile(r"https?:|file:|--(extra-)?index-url|--find-links|--trusted-host|(^|\s)@\s")
    assert not [line for line in path.read_text().splitlines() if words.search(line)]


@pytest.mark.parametrize(("path", "extras"), [
    ("runtime.txt", ("cpu", "build", "servers", "otel")),
    ("gpu.txt", ("gpu", "build", "servers", "otel")),
    ("container.txt", ("cpu", "build", "otel")),
    ("container-gpu.txt", ("gpu", "build", "otel")),
    ("dev.txt", ("cpu", "build", "servers", "train-small", "dev")),
    ("train.txt", ("cpu", "build", "servers", "train-small", "dev", "train")),
])  # fmt: skip
def test_every_declared_dependency_is_pinned(path: str, extras: tuple[str, ...]) -> None:
    """A dependency that was added without `requirements/compile.sh` would be missing after a fresh set-up."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *(line for name in extras for line in project["optional-dependencies"][name])]
    names = {re.split(r"[\[<>=~! ]", line)[0].lower() for line in declared}
    assert names - pins(ROOT / "requirements" / path).keys() == set()


def test_an_environment_to_train_in_is_one_to_develop_in() -> None:
    """`make train-env` adds packages to those of `make setup` and changes none of them."""
    develop, train = (pins(ROOT / "requirements" / name) for name in ("dev.txt", "train.txt"))
    assert {name: hashes for name, hashes in train.items() if name in develop} == develop
    assert "torch" in train.keys() - develop.keys()


def test_one_runtime_for_onnx_in_each_file() -> None:
    """The two wheels share a module name: both in one environment overwrite each other."""
    for path in FILES:
        assert len({"onnxruntime", "onnxruntime-gpu"} & pins(path).keys()) <= 1


def test_every_jar_has_its_sum() -> None:
    """Kafka's jars are exact coordinates, each once, each with a sha256."""
    artifacts = list(read_artifacts(ARTIFACTS.read_text().splitlines()))
    assert len(artifacts) == len({artifact.file_name for artifact in artifacts}) == 46
    assert all(re.fullmatch(r"[0-9a-f]{64}", artifact.sha256) for artifact in artifacts)
