"""Fetching a version from peers that are slow, full of other things, damaged, or mean ill."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.coordination import StoreUnavailable
from services.inference import peers as peers_module
from services.inference.errors import VersionOutOfReach
from services.inference.metrics import InferenceMetrics
from services.inference.peers import Fetcher
from services.inference.repository import Repository
from services.inference.sharing import version_files
from tests.support.inference_parts import MODEL, OTHER_KEY, add_version, own_repository
from tests.support.inference_peer import Peer, listening
from tests.support.poll import wait_until_async


def fetcher(repository: Repository, *urls: str, bytes_max: int = 1 << 20) -> Fetcher:
    """What the worker of `repository` fetches with."""

    async def listed() -> list[str]:
        return list(urls)

    metrics = InferenceMetrics(CollectorRegistry())
    return Fetcher(repository, listed, metrics, bytes_max=bytes_max, silence_seconds=1.0)


@pytest.fixture
def east(tmp_path: Path) -> Repository:
    """Has versions 1 (shipped) and 2."""
    return own_repository(tmp_path, "east")


@pytest.fixture
def west(tmp_path: Path) -> Repository:
    """Has version 1."""
    return own_repository(tmp_path, "west")


def contents(repository: Repository, version: str) -> dict[str, bytes]:
    """All files of a version."""
    return {path.name: path.read_bytes() for path in repository.folder(MODEL, version).iterdir()}


def hidden(repository: Repository) -> list[str]:
    """What is there that is no version yet."""
    return sorted(path.name for path in (repository.path / MODEL).glob(".*") if path.name != ".placing.lock")


async def test_a_version_arrives_whole_and_signed(east: Repository, west: Repository) -> None:
    """Every byte as the peer has it, nothing left over, and a second call asks nobody."""
    sha256 = add_version(east, "2")
    peer = Peer(east)
    async with listening(peer) as url:
        fetching = fetcher(west, url)
        await fetching.fetch(MODEL, "2", sha256)
        assert contents(west, "2") == contents(east, "2")
        assert hidden(west) == []
        asked = len(peer.asked)
        await fetching.fetch(MODEL, "2", sha256)
        assert len(peer.asked) == asked


async def test_a_model_that_a_region_never_had_gets_its_configuration_too(east: Repository, tmp_path: Path) -> None:
    """Triton wants one beside the numbers."""
    empty = Repository(tmp_path / "north" / "models", east.shipped, east.trusted_keys_file, asks_for_signatures=True)
    sha256 = add_version(east, "2")
    async with listening(Peer(east)) as url:
        await fetcher(empty, url).fetch(MODEL, "2", sha256)
    assert 'name: "ranker"' in (empty.path / MODEL / "config.pbtxt").read_text()


async def test_damaged_bytes_get_no_place_and_the_next_peer_is_asked(east: Repository, west: Repository) -> None:
    """One bit of the graph: refused by its sum, however often it is sent; another region's copy is taken."""
    sha256 = add_version(east, "2")
    damaged, sound = Peer(east), Peer(east)
    graph = bytearray((east.folder(MODEL, "2") / "model.onnx").read_bytes())
    graph[50] ^= 1
    damaged.spoil["model.onnx"] = bytes(graph)
    async with listening(damaged) as bad, listening(sound) as good:
        with pytest.raises(VersionOutOfReach, match=r"model.onnx arrived with sha256"):
            await fetcher(west, bad).fetch(MODEL, "2", sha256)
        assert west.versions(MODEL) == ["1"]
        await fetcher(west, bad, good).fetch(MODEL, "2", sha256)
    assert contents(west, "2") == contents(east, "2")


async def test_what_arrived_before_an_interruption_is_not_sent_again(east: Repository, west: Repository) -> None:
    """The peer hangs up in the middle of the largest file: the rest is asked for by its range."""
    sha256 = add_version(east, "2")
    peer = Peer(east)
    peer.break_after["golden.npz"] = 20_000
    async with listening(peer) as url:
        with pytest.raises(VersionOutOfReach):
            await fetcher(west, url).fetch(MODEL, "2", sha256)
        assert west.versions(MODEL) == ["1"]
        (half,) = hidden(west)
        part = west.path / MODEL / half / "golden.npz.part"
        assert part.stat().st_size == 20_000
        await fetcher(west, url).fetch(MODEL, "2", sha256)
    assert [range_ for name, range_ in peer.asked if name == "golden.npz"] == ["", "bytes=20000-"]
    assert contents(west, "2") == contents(east, "2")
    assert hidden(west) == []


async def test_a_wrong_first_half_is_given_up_for_the_whole(east: Repository, west: Repository) -> None:
    """What an earlier try left was wrong: the same peer is asked once more from the start."""
    sha256 = add_version(east, "2")
    half = west.path / MODEL / f".fetch-2-{sha256[:16]}"
    half.mkdir()
    (half / "golden.npz.part").write_bytes(b"x" * 500)
    (half / "model.onnx").write_bytes(b"not it")
    peer = Peer(east)
    async with listening(peer) as url:
        await fetcher(west, url).fetch(MODEL, "2", sha256)
    assert [range_ for name, range_ in peer.asked if name == "golden.npz"] == ["bytes=500-", ""]
    assert contents(west, "2") == contents(east, "2")


async def test_another_content_under_the_number_is_not_taken(east: Repository, west: Repository) -> None:
    """The coordination store says which content the number stands for."""
    add_version(east, "2")
    async with listening(Peer(east)) as url:
        with pytest.raises(VersionOutOfReach, match="its manifest is"):
            await fetcher(west, url).fetch(MODEL, "2", "ab" * 32)
    assert west.versions(MODEL) == ["1"]


@pytest.mark.parametrize(("key", "says"), [(None, "manifest.sig is missing"), (OTHER_KEY, "not among the 1")])
async def test_what_nobody_trusted_signed_gets_no_place(
    east: Repository, west: Repository, key: bytes | None, says: str
) -> None:
    """Right sums are not enough: whoever changes a file can change its sum."""
    sha256 = add_version(east, "2", key=key)
    async with listening(Peer(east)) as url:
        with pytest.raises(VersionOutOfReach, match=says):
            await fetcher(west, url).fetch(MODEL, "2", sha256)
    assert west.versions(MODEL) == ["1"]
    assert hidden(west) == []


async def test_a_folder_that_the_settings_name_takes_nothing_unsigned_from_peers(
    east: Repository, tmp_path: Path
) -> None:
    """Whoever set it vouches for what lies there, not for what others send."""
    sha256 = add_version(east, "2", key=None)
    given = Repository(tmp_path / "given", tmp_path / "given", east.trusted_keys_file, asks_for_signatures=True)
    async with listening(Peer(east)) as url:
        with pytest.raises(VersionOutOfReach, match=r"manifest.sig is missing"):
            await fetcher(given, url).fetch(MODEL, "2", sha256)


async def test_a_manifest_that_leads_out_of_the_folder_is_refused(east: Repository, west: Repository) -> None:
    """A signed one, even."""
    add_version(east, "2")
    manifest = east.folder(MODEL, "2") / "manifest.json"
    manifest.write_text(manifest.read_text().replace("metrics.json", "../../metrics.json"))
    sha256 = hashlib.sha256(manifest.read_bytes()).hexdigest()
    peer = Peer(east)
    async with listening(peer) as url:
        with pytest.raises(VersionOutOfReach, match="does not list"):
            await fetcher(west, url).fetch(MODEL, "2", sha256)
    assert west.versions(MODEL) == ["1"]


async def test_too_large_a_version_is_not_fetched(east: Repository, west: Repository) -> None:
    """By what the peer lists, and by what it really sends."""
    sha256 = add_version(east, "2")
    peer = Peer(east)
    async with listening(peer) as url:
        with pytest.raises(VersionOutOfReach, match="the limit is 1000"):
            await fetcher(west, url, bytes_max=1000).fetch(MODEL, "2", sha256)
        assert [name for name, _ in peer.asked if name == "golden.npz"] == []
        peer.spoil["golden.npz"] = b"x" * (2 << 20)
        with pytest.raises(VersionOutOfReach, match="longer than"):
            await fetcher(west, url, bytes_max=1 << 20).fetch(MODEL, "2", sha256)


async def test_a_full_disk_is_said_and_leaves_nothing_half_there(
    east: Repository, west: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written when it shows, and in the middle when it does not."""
    sha256 = add_version(east, "2")
    usage = shutil.disk_usage(east.path)
    async with listening(Peer(east)) as url:
        monkeypatch.setattr(peers_module.shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
        with pytest.raises(VersionOutOfReach, match="the disk is too full"):
            await fetcher(west, url).fetch(MODEL, "2", sha256)
        assert hidden(west) == []
        monkeypatch.setattr(peers_module.shutil, "disk_usage", lambda _: usage)

        def full(path: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(peers_module, "_sync", full)
        with pytest.raises(VersionOutOfReach, match="No space left"):
            await fetcher(west, url).fetch(MODEL, "2", sha256)
        monkeypatch.undo()
        assert hidden(west) == []
        assert west.versions(MODEL) == ["1"]
        await fetcher(west, url).fetch(MODEL, "2", sha256)
    assert west.versions(MODEL) == ["2", "1"]


async def test_nobody_to_ask_and_nobody_who_answers_are_told_apart(west: Repository) -> None:
    """Each has its own next step."""
    with pytest.raises(VersionOutOfReach, match="no other region's worker is listed"):
        await fetcher(west).fetch(MODEL, "2", "ab" * 32)
    with pytest.raises(VersionOutOfReach, match=r"http://127.0.0.1:9: Cannot connect"):
        await fetcher(west, "http://127.0.0.1:9").fetch(MODEL, "2", "ab" * 32)

    async def away() -> list[str]:
        raise StoreUnavailable("no etcd member answered")

    metrics = InferenceMetrics(CollectorRegistry())
    with pytest.raises(VersionOutOfReach, match="nobody knows who has version 2: no etcd member answered"):
        await Fetcher(west, away, metrics, bytes_max=1, silence_seconds=1.0).fetch(MODEL, "2", "ab" * 32)


async def test_a_silent_peer_is_given_up(west: Repository) -> None:
    """It accepted the connection and says nothing."""
    done = asyncio.Event()

    async def silence(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def listed() -> list[str]:
        return [f"http://127.0.0.1:{port}"]

    metrics = InferenceMetrics(CollectorRegistry())
    quick = Fetcher(west, listed, metrics, bytes_max=1 << 20, silence_seconds=0.05)
    with pytest.raises(VersionOutOfReach, match="Timeout"):
        await quick.fetch(MODEL, "2", "ab" * 32)
    done.set()
    server.close()
    await server.wait_closed()


async def test_a_fetch_that_is_cancelled_leaves_what_arrived(east: Repository, west: Repository) -> None:
    """Whoever fetches next goes on from there."""
    sha256 = add_version(east, "2")
    peer = Peer(east)
    peer.break_after["golden.npz"] = 20_000
    peer.stall = asyncio.Event()
    async with listening(peer) as url:
        fetching = asyncio.ensure_future(fetcher(west, url).fetch(MODEL, "2", sha256))
        part = west.path / MODEL / f".fetch-2-{sha256[:16]}" / "golden.npz.part"
        await wait_until_async(
            lambda: asyncio.to_thread(lambda: part.exists() and part.stat().st_size > 0), 20, "a part"
        )
        fetching.cancel()
        await asyncio.wait({fetching})
        peer.stall.set()
        arrived = part.stat().st_size
        assert fetching.cancelled() and arrived
        await fetcher(west, url).fetch(MODEL, "2", sha256)
    assert [range_ for name, range_ in peer.asked if name == "golden.npz"] == ["", f"bytes={arrived}-"]
    assert contents(west, "2") == contents(east, "2")


async def test_a_peer_that_never_comes_to_an_end_is_left_for_the_next(east: Repository, west: Repository) -> None:
    """However it keeps the connection busy: the next one is asked for the rest."""
    sha256 = add_version(east, "2")
    slow, quick = Peer(east), Peer(east)
    slow.break_after["golden.npz"] = 20_000
    slow.stall = asyncio.Event()

    async with listening(slow) as first, listening(quick) as second:

        async def listed() -> list[str]:
            return [first, second]

        metrics = InferenceMetrics(CollectorRegistry())
        limited = Fetcher(west, listed, metrics, bytes_max=1 << 20, silence_seconds=60.0, seconds_max=2.0)
        async with asyncio.timeout(20):
            await limited.fetch(MODEL, "2", sha256)
        slow.stall.set()
    assert contents(west, "2") == contents(east, "2")


async def test_all_files_together_have_one_limit(east: Repository, west: Repository) -> None:
    """Each is shorter than the limit; what a peer sends beyond its own list is not taken either."""
    sha256 = add_version(east, "2")
    peer = Peer(east)
    sizes = {name: len(content) for name, content in contents(east, "2").items() if not name.startswith("manifest")}
    async with listening(peer) as url:
        with pytest.raises(VersionOutOfReach, match=f"it has {sum(sizes.values())} bytes; the limit is"):
            await fetcher(west, url, bytes_max=sum(sizes.values()) - 1).fetch(MODEL, "2", sha256)
        peer.spoil["golden.npz"] = b"x" * (sizes["golden.npz"] + 1)
        with pytest.raises(VersionOutOfReach, match=f"longer than the {sizes['golden.npz']} bytes that it lists"):
            await fetcher(west, url, bytes_max=1 << 30).fetch(MODEL, "2", sha256)
    assert west.versions(MODEL) == ["1"]


@pytest.mark.parametrize("size", [0, -(1 << 40)])
async def test_sizes_that_cannot_be_are_refused(east: Repository, west: Repository, size: int) -> None:
    """A negative one would make room for all others."""
    sha256 = add_version(east, "2")
    peer = Peer(east)
    peer.listed_sizes["model.onnx"] = size
    async with listening(peer) as url:
        with pytest.raises(VersionOutOfReach, match=f"lists model.onnx with {size} bytes"):
            await fetcher(west, url).fetch(MODEL, "2", sha256)
    assert west.versions(MODEL) == ["1"]


async def test_a_file_s_name_may_mean_something_in_an_address(east: Repository, west: Repository) -> None:
    """It is the name all the same."""

    def further(folder: Path) -> None:
        for name in ("a#b.bin", "50%25?.bin"):
            (folder / name).write_text(name)

    sha256 = add_version(east, "2", change=further)
    async with listening(Peer(east)) as url:
        await fetcher(west, url).fetch(MODEL, "2", sha256)
    assert contents(west, "2") == contents(east, "2")
    assert "a#b.bin" in contents(west, "2")


def test_only_files_of_the_version_are_listed(east: Repository) -> None:
    """Not what somebody left beside them, nor the configuration of the model."""
    add_version(east, "2")
    (east.folder(MODEL, "2") / "notes.txt").write_text("private")
    names = [file.name for file in version_files(east, MODEL, "2").files]
    assert names == ["manifest.json", "manifest.sig", "golden.npz", "metrics.json", "model.onnx"]
