"""A real worker process spoken to by Triton's own client, and by callers that get it wrong."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.support.inference_worker import InferenceWorker, deadline_in
from tests.support.tiny_model import expected_scores, request_inputs, write_version

FEATS = "candidate_feats"
INFER = "/v2/models/ranker/infer"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceWorker]:
    """One worker with versions 1 and 2 (which serves, being newest); tests leave it that way."""
    directory = tmp_path_factory.mktemp("inference")
    write_version(directory / "repository", "1")
    write_version(directory / "repository", "2", bias=1.0)
    started = InferenceWorker(directory, directory / "repository").start()
    yield started
    assert started.stop() == 0


@pytest.fixture
def client(worker: InferenceWorker) -> Iterator[Any]:
    """Triton's client."""
    with triton.InferenceServerClient(f"127.0.0.1:{worker.port}") as opened:
        yield opened


def post(worker: InferenceWorker, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status and JSON of a POST."""
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=10)
    try:
        connection.request("POST", path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def feats(rows: int = 1, candidates: int = 50) -> np.ndarray[Any, Any]:
    """The only input of the tiny model."""
    return request_inputs(rows, candidates)[FEATS]


def triton_input(array: np.ndarray[Any, Any], *, binary: bool) -> Any:
    """As Triton's client wants it."""
    tensor = triton.InferInput(FEATS, list(array.shape), "FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False, None])
def test_triton_s_client_infers(client: Any, *, binary_input: bool, binary_output: bool | None) -> None:
    """JSON and binary tensors in both directions, rows and candidates off the buckets, request id given back."""
    array = feats(3, 77)
    wanted = None
    if binary_output is not None:
        wanted = [triton.InferRequestedOutput("scores", binary_data=binary_output)]
    answer = client.infer("ranker", [triton_input(array, binary=binary_input)], outputs=wanted, request_id="r-1")
    expected = expected_scores({FEATS: array}, bias=1.0)
    np.testing.assert_allclose(answer.as_numpy("scores"), expected, atol=1e-4)
    assert answer.get_response()["model_version"] == "2"
    assert answer.get_response()["id"] == "r-1"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_triton_s_client_may_compress(client: Any, algorithm: str) -> None:
    """A compressed binary request is read."""
    array = feats(1, 20)
    answer = client.infer("ranker", [triton_input(array, binary=True)], request_compression_algorithm=algorithm)
    np.testing.assert_allclose(answer.as_numpy("scores"), expected_scores({FEATS: array}, bias=1.0), atol=1e-4)


def test_triton_s_client_reads_health_and_metadata(client: Any) -> None:
    """Server, model, version, configuration and statistics as Triton shapes them."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("ranker")
    assert client.is_model_ready("ranker", "2")
    assert not client.is_model_ready("ranker", "1")
    assert not client.is_model_ready("nobody")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("ranker", "2")
    assert metadata["inputs"] == [{"name": FEATS, "datatype": "FP32", "shape": [-1, -1, 4]}]
    assert metadata["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, -1]}]
    config = client.get_model_config("ranker")
    assert config["max_batch_size"] == 32
    assert config["input"] == [{"name": FEATS, "data_type": "TYPE_FP32", "dims": [-1, 4]}]
    before = client.get_inference_statistics("ranker")["model_stats"][0]["inference_count"]
    client.infer("ranker", [triton_input(feats(2), binary=True)])
    assert client.get_inference_statistics("ranker", "2")["model_stats"][0]["inference_count"] == before + 2


def test_triton_s_client_loads_and_unloads(client: Any, worker: InferenceWorker) -> None:
    """The repository extension: index, another version by parameter, unload, and back to the newest."""
    states = {(line["name"], line["version"]): line["state"] for line in client.get_model_repository_index()}
    assert states == {("ranker", "1"): "UNAVAILABLE", ("ranker", "2"): "READY"}
    assert post(worker, "/v2/repository/models/ranker/load", b'{"parameters":{"version":"1"}}')[0] == 200
    assert client.is_model_ready("ranker", "1")
    array = feats()
    answer = client.infer("ranker", [triton_input(array, binary=True)])
    np.testing.assert_allclose(answer.as_numpy("scores"), expected_scores({FEATS: array}), atol=1e-4)
    client.unload_model("ranker")
    assert not client.is_server_ready()
    with pytest.raises(InferenceServerException, match="no version that serves"):
        client.infer("ranker", [triton_input(array, binary=True)])
    client.load_model("ranker")
    assert client.is_model_ready("ranker", "2")
    with pytest.raises(InferenceServerException, match="no versions of a model"):
        client.load_model("nobody")
    with pytest.raises(InferenceServerException, match="come from the repository"):
        client.load_model("ranker", config='{"max_batch_size": 1}')
    with pytest.raises(InferenceServerException, match="does not serve"):
        client.unload_model("nobody")


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "says"),
    [
        (INFER, b"", {}, 400, "not a request in JSON"),
        (INFER, b"{", {}, 400, "not a request in JSON"),
        (INFER, b"\xff\xfe", {}, 400, "not a request in JSON"),
        (INFER, b'{"inputs": 3}', {}, 400, "Expected `array`"),
        (INFER, b'{"inputs": []}', {}, 400, "'candidate_feats' is missing"),
        (INFER, b"{}", {"Inference-Header-Content-Length": "7"}, 400, "2 bytes"),
        (INFER, b"{}", {"Content-Encoding": "gzip"}, 400, "cannot be read"),
        ("/v2/models/nobody/infer", b"{}", {}, 404, "not known here"),
        ("/v2/models/ranker/versions/9/infer", b"{}", {}, 404, "does not serve"),
        ("/v2/models/ranker/nothing", b"{}", {}, 404, "Not Found"),
        ("/v2/health/live", b"{}", {}, 405, "Method Not Allowed"),
        ("/v2/repository/index", b"[", {}, 400, "not a repository request"),
        ("/v2/repository/models/..%2f..%2fetc/load", b"", {}, 404, ""),
        ("/v2/repository/models/%2e%2e/load", b"", {}, 404, ""),
        ("/v2/repository/models/ranker/load", b'{"parameters":{"version":"../2"}}', {}, 409, "no version"),
        ("/v2/repository/models/ranker/load", b'{"parameters":{"version":"9"}}', {}, 409, "It has 2, 1"),
    ],
)
def test_what_is_wrong_is_said(
    worker: InferenceWorker, path: str, body: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    """Each mistake has its status and a sentence under `error`; the worker answers the next request."""
    found, problem = post(worker, path, body, headers)
    assert (found, says in problem["error"]) == (status, True), problem
    assert problem["code"]
    assert worker.get("/v2/health/ready")[0] == 200


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        ({"name": "other"}, "is missing"),
        ({"datatype": "FP64"}, "dtype float64"),
        ({"shape": [1, 1, 5], "data": [0, 0, 0, 0, 0]}, "shape [1, 1, 5]"),
        ({"shape": [1, 0, 4], "data": []}, "nothing to score"),
        ({"shape": [33, 1, 4], "data": [0] * 132}, "largest batch is 32"),
        ({"shape": [1, 600, 4], "data": [0] * 2400}, "the most is 512"),
        ({"data": [0, 0, 0, 1e39]}, "not a finite number"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(worker: InferenceWorker, tensor: dict[str, Any], says: str) -> None:
    """Names, dtypes, shapes, sizes over the bounds and numbers that are none."""
    good = {"name": FEATS, "datatype": "FP32", "shape": [1, 1, 4], "data": [0, 0, 0, 0]}
    status, problem = post(worker, INFER, json.dumps({"inputs": [{**good, **tensor}]}).encode())
    assert (status, problem["code"], says in problem["error"]) == (400, "bad_tensor", True), problem


def test_an_unknown_output_is_refused(worker: InferenceWorker) -> None:
    """By its name, with what there is."""
    good = {"name": FEATS, "datatype": "FP32", "shape": [1, 1, 4], "data": [0, 0, 0, 0]}
    body = json.dumps({"inputs": [good], "outputs": [{"name": "probabilities"}]}).encode()
    status, problem = post(worker, INFER, body)
    assert (status, "'probabilities' is unknown" in problem["error"]) == (400, True)


def test_a_huge_body_is_refused_and_the_worker_lives(worker: InferenceWorker) -> None:
    """Over the limit: 413, and memory does not follow."""
    before = worker.rss_kib()
    try:
        status, problem = post(worker, INFER, b" " * (24 << 20))
        assert (status, problem["code"]) == (413, "body_too_large")
    except (BrokenPipeError, ConnectionResetError):
        pass  # it stopped reading and hung up, which is as good
    assert worker.get("/v2/health/ready")[0] == 200
    assert worker.rss_kib() - before < 32 << 10


@pytest.mark.parametrize("parameters", [{"deadline_unix_ms": 1000}, {"deadline_unix_ms": deadline_in(-0.001)}])
def test_an_expired_request_is_told_apart(worker: InferenceWorker, parameters: dict[str, int]) -> None:
    """504 with a code of its own, and counted as dropped."""
    good = {"name": FEATS, "datatype": "FP32", "shape": [1, 1, 4], "data": [0, 0, 0, 0]}
    before = worker.metric('meridian_inference_drops_total{reason="expired_on_arrival"}')
    status, problem = post(worker, INFER, json.dumps({"inputs": [good], "parameters": parameters}).encode())
    assert (status, problem["code"]) == (504, "deadline_expired")
    assert worker.metric('meridian_inference_drops_total{reason="expired_on_arrival"}') == before + 1


def test_triton_s_metric_names_are_there_beside_histograms(worker: InferenceWorker, client: Any) -> None:
    """Existing dashboards find theirs; ours find batch sizes, waiting and computing times, and the real device."""
    client.infer("ranker", [triton_input(feats(), binary=True)])
    page = worker.get("/metrics")[1]
    for name in ("request_success", "count", "exec_count", "pending_request_count", "queue_duration_us"):
        assert f'nv_inference_{name}{{model="ranker",version="2"}}' in page
    for name in ("compute_input_duration_us", "compute_infer_duration_us", "compute_output_duration_us"):
        assert worker.metric(f'nv_inference_{name}{{model="ranker",version="2"}}') > 0
    assert worker.metric("meridian_inference_batch_rows_count") > 0
    assert worker.metric("meridian_inference_queue_seconds_count") > 0
    assert worker.metric("meridian_inference_compute_seconds_count") > 0
    assert worker.metric('meridian_inference_flushes_total{reason="idle"}') > 0
    assert worker.metric('meridian_inference_device_info{actual="cpu",requested="auto"}') == 1


def test_concurrent_requests_share_runs_and_keep_their_own_scores(worker: InferenceWorker) -> None:
    """The batch-size histogram shows batching, and nobody gets another's scores."""
    rows = worker.metric("meridian_inference_batch_rows_sum")
    runs = worker.metric("meridian_inference_batch_rows_count")
    wrong: list[int] = []

    def ask(number: int) -> None:
        array = request_inputs(1, 30 + number, seed=number)[FEATS]
        with triton.InferenceServerClient(f"127.0.0.1:{worker.port}") as own:
            for _ in range(30):
                scores = own.infer("ranker", [triton_input(array, binary=True)]).as_numpy("scores")
                if not np.allclose(scores, expected_scores({FEATS: array}, bias=1.0), atol=1e-4):
                    wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = worker.metric("meridian_inference_batch_rows_sum") - rows
    runs = worker.metric("meridian_inference_batch_rows_count") - runs
    assert wrong == []
    assert rows == 16 * 30
    assert rows / runs > 1.2, f"{rows} rows in {runs} runs"


def test_triton_s_client_names_a_version_a_timeout_and_waits_for_many(client: Any, worker: InferenceWorker) -> None:
    """By number, with Triton's relative time-out, and several under way at once."""
    array = feats(2, 33)
    expected = expected_scores({FEATS: array}, bias=1.0)
    answer = client.infer("ranker", [triton_input(array, binary=True)], model_version="2", timeout=10_000_000)
    np.testing.assert_allclose(answer.as_numpy("scores"), expected, atol=1e-4)
    with pytest.raises(InferenceServerException, match="version '1' of model 'ranker' does not serve"):
        client.infer("ranker", [triton_input(array, binary=True)], model_version="1")
    with triton.InferenceServerClient(f"127.0.0.1:{worker.port}", concurrency=4) as several:
        waiting = [several.async_infer("ranker", [triton_input(array, binary=True)]) for _ in range(8)]
        for each in waiting:
            np.testing.assert_allclose(each.get_result().as_numpy("scores"), expected, atol=1e-4)


def test_batches_and_why_they_closed_add_up(client: Any, worker: InferenceWorker) -> None:
    """Triton's batch statistics, our histogram and the flush reasons tell of the same runs."""
    client.infer("ranker", [triton_input(feats(3), binary=True)])
    page = worker.get("/metrics")[1].splitlines()
    flushes = [line for line in page if line.startswith("meridian_inference_flushes_total{")]
    assert {line.split('"')[1] for line in flushes} <= {"idle", "size", "delay", "slack"}
    runs = sum(float(line.rsplit(" ", 1)[1]) for line in flushes)
    assert runs == worker.metric("meridian_inference_batch_rows_count") > 0
    found = client.get_inference_statistics()["model_stats"]
    assert runs == sum(model["execution_count"] for model in found)
    (stats,) = client.get_inference_statistics("ranker", "2")["model_stats"]
    assert (
        sum(batch["batch_size"] * batch["compute_infer"]["count"] for batch in stats["batch_stats"])
        == (stats["inference_count"])
    )
    assert 3 in {batch["batch_size"] for batch in stats["batch_stats"]}
    assert stats["inference_stats"]["success"]["count"] > 0 and stats["last_inference"] > 0


def test_what_triton_offers_and_this_worker_does_not_is_said(client: Any) -> None:
    """A 404 with a sentence, which Triton's client raises; nobody is told yes."""
    for call in (client.get_trace_settings, client.get_log_settings, client.get_system_shared_memory_status):
        with pytest.raises(InferenceServerException, match="Not Found"):
            call()


def test_a_version_s_files_are_handed_out_whole_and_in_part_and_nothing_else(worker: InferenceWorker) -> None:
    """Other regions' workers fetch them; a path that leads elsewhere finds nothing."""
    files = "/v2/repository/models/ranker/versions/2/files"
    listed = json.loads(worker.get(files)[1])
    assert [file["name"] for file in listed["files"]] == ["manifest.json", "golden.npz", "metrics.json", "model.onnx"]
    assert worker.get(files + "/metrics.json") == (200, "{}\n")
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=10)
    connection.request("GET", files + "/metrics.json", headers={"Range": "bytes=1-"})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (206, b"}\n")
    connection.close()
    for path in ("/config.pbtxt", "/..%2f..%2fconfig.pbtxt", "/%2e%2e/manifest.json", "/nothing"):
        assert worker.get(files + path)[0] == 404
    assert worker.get("/v2/repository/models/ranker/versions/..%2f2/files")[0] == 404
    assert worker.get("/v2/repository/models/nobody/versions/2/files")[0] == 404
    assert worker.get("/v2/repository/models/nobody/champion")[0] == 404


def test_without_an_alias_the_newest_version_is_the_right_one(worker: InferenceWorker) -> None:
    """The health answer says so, and what it was proven by."""
    said = json.loads(worker.get("/v2/repository/models/ranker/champion")[1])
    assert (said["blocker"], said["named"], said["heard"]) == (None, None, True)
    assert (said["serving"]["version"], said["serving"]["golden_rows"]) == ("2", 70)
    assert said["standby"] is None
