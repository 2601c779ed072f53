"""Two regions' workers and one store: what an alias names serves everywhere, and what is wrong serves nowhere."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import aiohttp
import numpy as np
import onnx
import pytest

from models.signing import sign
from services.coordination import MemoryStore
from services.inference.client import InferenceClient, InferenceRefused, champion
from services.inference.serving import CHALLENGER, CHAMPION, STANDBY
from services.inference.standby import standby_candidates
from tests.support.inference_parts import (
    KEY,
    MODEL,
    NO_PEERS,
    OTHER_KEY,
    SteppedClock,
    add_version,
    own_repository,
    promote,
    region,
)
from tests.support.inference_worker import deadline_in
from tests.support.tiny_model import expected_scores, request_inputs, write_version


async def test_a_promotion_in_one_region_makes_both_serve_it(tmp_path: Path) -> None:
    """West has never seen version 2: it fetches it from east, proves it, and no request fails on the way."""
    store = MemoryStore()
    async with (
        region(own_repository(tmp_path, "east"), store, NO_PEERS) as east,
        region(own_repository(tmp_path, "west"), store, [east.url]) as west,
    ):
        sha256 = add_version(east.repository, "2")
        inputs = request_inputs(1, 50)
        async with InferenceClient(west.url) as client:
            first = await client.infer(inputs, deadline_in(5.0))
            await promote(store, "2", sha256)
            asking = asyncio.ensure_future(client.infer(inputs, deadline_in(5.0)))
            await asyncio.gather(east.look(), west.look())
            assert (await asking).model_version in {"ranker/1", "ranker/2"}
            second = await client.infer(inputs, deadline_in(5.0))
        assert (first.model_version, second.model_version) == ("ranker/1", "ranker/2")
        np.testing.assert_allclose(second.scores, expected_scores(inputs, 2.0), atol=1e-4)
        assert (east.serving, west.serving, east.blocker, west.blocker) == ("2", "2", "", "")
        async with aiohttp.ClientSession() as http:
            report = await champion(http, west.url)
        assert report.blocker is None and report.heard
        assert report.named is not None and report.serving is not None
        assert report.named.sha256 == report.serving.sha256 == sha256
        assert report.serving.golden_rows == 70


async def test_a_rollback_is_a_swap_like_any_other(tmp_path: Path) -> None:
    """What was champion before lies in the repository still."""
    store = MemoryStore()
    async with region(own_repository(tmp_path, "east", shipped=("1", "2")), store, NO_PEERS) as east:
        one, two = (east.repository.manifest_sha256(MODEL, version) or "" for version in ("1", "2"))
        assert east.serving == "2", "the newest, as long as no alias is set"
        for version, sha256 in (("1", one), ("2", two), ("1", one)):
            await promote(store, version, sha256)
            await east.look()
            assert (east.serving, east.blocker) == (version, "")


def truncated(folder: Path) -> None:
    """Half a graph."""
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def wrong_opset(folder: Path) -> None:
    """A graph of a language that this ONNX Runtime does not know."""
    model = onnx.load(str(folder / "model.onnx"))
    model.opset_import[0].version = 999
    onnx.save(model, str(folder / "model.onnx"))


def not_numbers(folder: Path) -> None:
    """Weights that are NaN."""
    model = onnx.load(str(folder / "model.onnx"))
    bias = next(found for found in model.graph.initializer if found.name == "bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([np.nan], np.float32), "bias"))
    onnx.save(model, str(folder / "model.onnx"))


def no_golden_set(folder: Path) -> None:
    """Nothing that could prove it."""
    (folder / "golden.npz").unlink()


def other_scores(folder: Path) -> None:
    """Another model under this golden set."""
    model = onnx.load(str(folder / "model.onnx"))
    bias = next(found for found in model.graph.initializer if found.name == "bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([7.5], np.float32), "bias"))
    onnx.save(model, str(folder / "model.onnx"))


@pytest.mark.parametrize("pushed_in", ["own", "peer"])
@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        (truncated, KEY, "cannot open"),
        (wrong_opset, KEY, "cannot open"),
        (not_numbers, KEY, "not finite"),
        (no_golden_set, KEY, "does not list golden.npz"),
        (other_scores, KEY, "does not score as it was shipped"),
        (None, None, "manifest.sig is missing"),
        (None, OTHER_KEY, "not among the 1 that are trusted"),
    ],
)
async def test_a_version_that_is_wrong_leaves_the_old_champion_serving(
    tmp_path: Path, pushed_in: str, change: Callable[[Path], object] | None, key: bytes | None, says: str
) -> None:
    """Whether it lies here or comes from a peer; the reason is in the health answer, the index and the metrics."""
    store = MemoryStore()
    async with (
        region(own_repository(tmp_path, "east"), store, NO_PEERS) as east,
        region(own_repository(tmp_path, "west"), store, [east.url]) as west,
    ):
        await promote(store, "1", east.repository.manifest_sha256(MODEL, "1") or "")
        await west.look()
        assert west.blocker == ""
        where = east if pushed_in == "peer" else west
        await promote(store, "2", add_version(where.repository, "2", key=key, change=change))
        await west.look()
        assert west.serving == "1"
        assert "version 2" in west.blocker and says in west.blocker, west.blocker
        assert west.worker.degraded_reason() == west.blocker
        assert west.worker.not_ready_reason() is None
        async with InferenceClient(west.url) as client:
            assert (await client.infer(request_inputs(1, 50), deadline_in(5.0))).model_version == "ranker/1"
        async with aiohttp.ClientSession() as http, http.post(f"{west.url}/v2/repository/index") as answer:
            (line,) = [line for line in await answer.json() if line["version"] == "2"]
        assert line["state"] == "UNAVAILABLE" and says in line["reason"]
        await promote(store, "1", west.repository.manifest_sha256(MODEL, "1") or "")
        await west.look()
        assert west.blocker == "", "the alias moved back: nothing is wrong any more"


async def test_what_may_pass_is_tried_again_less_and_less_often(tmp_path: Path) -> None:
    """Nobody has version 2: looked for after 1, 2, 4, ... seconds, and taken when a region has it."""
    store, clock = MemoryStore(), SteppedClock()
    asked: list[float] = []

    async def peers() -> list[str]:
        asked.append(clock.monotonic())
        return []

    async with region(own_repository(tmp_path, "west"), store, peers, clock=clock) as west:
        began = clock.monotonic()
        await promote(store, "2", "ab" * 32)
        for _ in range(40):
            await west.look()
            clock.elapsed_seconds += 0.5
        assert [at - began for at in asked] == [0.0, 1.0, 3.0, 7.0, 15.0]
        assert "no other region's worker is listed" in west.blocker
        assert west.serving == "1"
        add_version(west.repository, "2")
        await west.look()
        assert "holds the content" in west.blocker, "what came by hand is looked at at once, and is not what was named"
        shutil.rmtree(west.repository.folder(MODEL, "2"))


async def test_a_refused_version_is_looked_at_again_when_somebody_mended_it(tmp_path: Path) -> None:
    """Not every second: proving a version is work."""
    store = MemoryStore()
    async with region(own_repository(tmp_path, "east"), store, NO_PEERS) as east:
        sha256 = add_version(east.repository, "2")
        graph = east.repository.folder(MODEL, "2") / "model.onnx"
        right = graph.read_bytes()
        graph.write_bytes(right[:-1])
        await promote(store, "2", sha256)
        for _ in range(3):
            await east.look()
        assert east.serving == "1"
        assert east.worker.metrics.loads.labels(MODEL, "refused")._value.get() == 1
        graph.write_bytes(right)
        await east.look()
        assert (east.serving, east.blocker) == ("2", "")


async def test_while_the_store_is_away_what_serves_goes_on_and_a_restart_remembers(tmp_path: Path) -> None:
    """A version that was pushed but never promoted must not serve because nobody can be asked."""
    store = MemoryStore()
    repository = own_repository(tmp_path, "east")
    async with region(repository, store, NO_PEERS) as east:
        await promote(store, "1", repository.manifest_sha256(MODEL, "1") or "")
        await east.look()
        store.set_available(False)
        await east.look()
        assert (east.serving, east.blocker) == ("1", "")
    add_version(repository, "2")
    async with region(repository, store, NO_PEERS) as east:
        assert (east.serving, east.blocker) == ("1", "")
        report = east.follower.report(east.worker)
        assert not report.heard and report.named is not None
    (repository.path / MODEL / "champion.json").unlink()
    async with region(repository, store, NO_PEERS) as east:
        assert east.serving == "2"
        assert "is not known: no etcd member answered" in east.blocker, "unknown is never success"
        store.set_available(True)
        await east.look()
        assert (east.serving, east.blocker) == ("1", "")


async def test_at_start_a_former_champion_serves_until_the_champion_is_here(tmp_path: Path) -> None:
    """Not the newest that lies there: nobody promoted that."""
    store = MemoryStore()
    repository = own_repository(tmp_path, "east", shipped=("1", "2", "3"))
    for version in ("1", "2"):
        await promote(store, version, repository.manifest_sha256(MODEL, version) or "")
    await promote(store, "9", "ab" * 32)
    async with region(repository, store, NO_PEERS) as east:
        assert east.serving == "2"
        assert "version 9" in east.blocker
        assert "is not in this region's repository yet; version 2 serves instead" in east.blocker


async def test_another_content_under_the_champion_s_number_is_not_the_champion(tmp_path: Path) -> None:
    """The number alone says nothing: the alias names a content."""
    store = MemoryStore()
    repository = own_repository(tmp_path, "east", shipped=("1", "2"))
    await promote(store, "2", "cd" * 32)
    async with region(repository, store, NO_PEERS) as east:
        assert east.serving == "1"
        assert "holds the content" in east.blocker
        await east.look()
        assert "not cdcdcdcdcdcd as it is registered" in east.blocker


async def test_what_a_caller_loads_by_number_stands_until_the_alias_moves(tmp_path: Path) -> None:
    """And is a blocker as long as it stands."""
    store = MemoryStore()
    repository = own_repository(tmp_path, "east", shipped=("1", "2", "3"))
    sums = {version: repository.manifest_sha256(MODEL, version) or "" for version in ("1", "2", "3")}
    await promote(store, "2", sums["2"])
    async with region(repository, store, NO_PEERS) as east, aiohttp.ClientSession() as http:
        load = f"{east.url}/v2/repository/models/{MODEL}/load"
        async with http.post(load, json={"parameters": {"version": "1"}}) as answer:
            assert answer.status == 200
        await east.look()
        assert east.serving == "1"
        assert "version 1 was loaded by a caller" in east.blocker
        async with http.post(load) as answer:
            assert (await answer.json())["version"] == "2"
        assert east.blocker == ""
        async with http.post(f"{east.url}/v2/repository/models/{MODEL}/unload"):
            await east.look()
        assert east.serving == ""
        await promote(store, "3", sums["3"])
        await east.look()
        assert (east.serving, east.blocker) == ("3", "")


async def test_challenger_and_shadow_serve_beside_whoever_names_them(tmp_path: Path) -> None:
    """By number only; a challenger that becomes champion is not loaded twice."""
    store = MemoryStore()
    repository = own_repository(tmp_path, "east", shipped=("1", "2"))
    sums = {version: repository.manifest_sha256(MODEL, version) or "" for version in ("1", "2")}
    await promote(store, "1", sums["1"])
    await promote(store, "2", sums["2"], CHALLENGER)
    async with region(repository, store, NO_PEERS) as east, InferenceClient(east.url) as client:
        await east.look()
        assert (await client.infer(request_inputs(1, 50), deadline_in(5.0))).model_version == "ranker/1"
        challenger = east.worker.table.find(MODEL, "2")
        assert challenger is east.worker.table.current(MODEL, CHALLENGER)
        await promote(store, "2", sums["2"])
        await east.look()
        assert east.worker.table.current(MODEL, CHAMPION) is challenger
        await promote(store, "1", sums["1"], CHALLENGER)
        await east.look()
        assert east.worker.table.find(MODEL, "1").version == "1"


async def test_a_pinned_version_needs_no_alias(tmp_path: Path) -> None:
    """The setting wins, and says so by what it names."""
    store = MemoryStore()
    repository = own_repository(tmp_path, "east", shipped=("1", "2"))
    await promote(store, "2", repository.manifest_sha256(MODEL, "2") or "")
    async with region(repository, store, NO_PEERS, model_version="1") as east:
        await east.look()
        assert (east.serving, east.blocker) == ("1", "")


def test_the_smallest_version_that_is_small_enough_stands_by(tmp_path: Path) -> None:
    """At most half the champion's graph; a setting says otherwise."""
    repository = own_repository(tmp_path, "east")
    write_version(repository.path, "2", layers=1)
    write_version(repository.path, "3")
    assert standby_candidates(repository, MODEL, "2", "") == ["3", "1"]
    assert standby_candidates(repository, MODEL, "1", "") == []
    assert standby_candidates(repository, MODEL, "2", "1") == ["1"]
    assert standby_candidates(repository, MODEL, "2", "2") == []
    assert standby_candidates(repository, MODEL, "2", "none") == []


async def test_a_standby_comes_and_goes_with_the_champion(tmp_path: Path) -> None:
    """Below a large champion the small version stays ready; as champion it needs none; a bad one is passed over."""
    store = MemoryStore()
    repository = own_repository(tmp_path, "east")
    large = write_version(repository.path, "2", layers=1)
    sign(large, KEY)
    async with region(repository, store, NO_PEERS) as east:
        assert east.serving == "2"
        await east.look()
        standby = east.worker.table.current(MODEL, STANDBY)
        assert standby is not None and standby.version == "1"
        report = east.follower.report(east.worker)
        assert report.standby is not None and report.standby.device == "cpu"
        add_version(repository, "3", change=other_scores)
        await east.look()
        assert east.worker.table.current(MODEL, STANDBY) is standby, "the smallest is refused, the next one stays"
        await promote(store, "1", repository.manifest_sha256(MODEL, "1") or "")
        await east.look()
        assert east.serving == "1"
        assert east.worker.table.current(MODEL, STANDBY) is None


async def test_a_second_model_is_served_as_soon_as_its_alias_names_a_version(tmp_path: Path) -> None:
    """West fetches it from east; a spoiled version of it is refused, and the ranker does not notice any of this."""
    store = MemoryStore()
    async with (
        region(own_repository(tmp_path, "east"), store, NO_PEERS) as east,
        region(own_repository(tmp_path, "west"), store, [east.url]) as west,
    ):
        inputs = request_inputs(1, 50)
        async with InferenceClient(west.url, model="similar") as client:
            with pytest.raises(InferenceRefused, match="not known here"):
                await client.infer(inputs, deadline_in(5.0))
            await promote(store, "1", add_version(east.repository, "1", model="similar"), model="similar")
            await asyncio.gather(*(one.follower.look_beside(one.worker, "similar") for one in (east, west)))
            assert (await client.infer(inputs, deadline_in(5.0))).model_version == "similar/1"
            spoiled = add_version(east.repository, "2", model="similar", change=truncated)
            await promote(store, "2", spoiled, model="similar")
            await asyncio.gather(*(one.follower.look_beside(one.worker, "similar") for one in (east, west)))
            assert (await client.infer(inputs, deadline_in(5.0))).model_version == "similar/1"
        async with aiohttp.ClientSession() as http:
            report = await champion(http, east.url, "similar")
        assert report.named is not None and report.serving is not None and report.blocker is not None
        assert (report.named.version, report.serving.version) == ("2", "1") and "model.onnx" in report.blocker
        async with InferenceClient(west.url) as client:
            assert (await client.infer(inputs, deadline_in(5.0))).model_version == "ranker/1"
        assert (east.serving, west.serving, east.worker.degraded_reason()) == ("1", "1", None)
