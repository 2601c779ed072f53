"""Open Inference Protocol v2 over HTTP: addresses, JSON shapes and status codes; what they do is in `worker`.

Addresses and shapes are Triton's, its repository extension included, so that its clients work unchanged. Every
refusal is `{"error": sentence, "code": word}`: `error` is what the protocol asks for, `code` is stable for
programs. Nothing that a request contains may end the worker: the outermost handler turns what is left over into a
logged, counted 500.
"""

from typing import Any

import msgspec
from aiohttp import web

from services.common.logging import get_logger
from services.common.tracing import HEADER_PARENT, Tracer, current, entered
from services.inference.codec import HEADER_LENGTH, decode_request, encode_response
from services.inference.errors import BadRequest, BodyTooLarge, ModelRefused, RequestProblem, UnknownModel
from services.inference.follower import Follower
from services.inference.serving import ServedVersion
from services.inference.sharing import FILES, file_of, version_files
from services.inference.signature import TensorSpec
from services.inference.statistics import Duration, VersionStatistics
from services.inference.worker import Worker

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ["binary_tensor_data", "model_repository", "model_configuration", "statistics"]
WORKER: web.AppKey[Worker] = web.AppKey("worker", Worker)
FOLLOWER: web.AppKey[Follower] = web.AppKey("follower", Follower)
TRACER: web.AppKey[Tracer] = web.AppKey("tracer", Tracer)

_log = get_logger(__name__)


class _RepositoryCall(msgspec.Struct):
    parameters: dict[str, Any] = {}
    ready: bool = False


def add_routes(app: web.Application) -> None:
    """The protocol's addresses."""
    add = app.router
    add.add_get("/v2", _server_metadata)
    add.add_get("/v2/", _server_metadata)
    add.add_get("/v2/health/live", _live)
    add.add_get("/v2/health/ready", _ready)
    add.add_get("/v2/models/stats", _statistics)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        add.add_get(prefix, _model_metadata)
        add.add_get(prefix + "/ready", _model_ready)
        add.add_get(prefix + "/config", _model_config)
        add.add_get(prefix + "/stats", _statistics)
        add.add_post(prefix + "/infer", _infer)
    add.add_post("/v2/repository/index", _index)
    add.add_post("/v2/repository/models/{model}/load", _load)
    add.add_post("/v2/repository/models/{model}/unload", _unload)
    add.add_get("/v2/repository/models/{model}/champion", _champion)
    add.add_get(FILES, _files)
    add.add_get(FILES + "/{name}", _file)


@web.middleware
async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
    """Turn every refusal into the protocol's error body."""
    try:
        answer: web.StreamResponse = await handler(request)
        return answer
    except (RequestProblem, ModelRefused, web.RequestPayloadError, web.HTTPException) as refusal:
        return _refuse(request, refusal)
    except Exception as error:  # noqa: BLE001 - see below
        # The outermost handler of a request: one bad request must not end the worker.
        _log.exception("a request failed in a way that was not foreseen", path=request.path[:200])
        return _problem(request, 500, "internal", f"the worker failed: {type(error).__name__}")


def _refuse(request: web.Request, refusal: Exception) -> web.Response:
    match refusal:
        case RequestProblem():
            return _problem(request, refusal.status, refusal.code, refusal.cause, refusal.retry_after_seconds)
        case ModelRefused():
            return _problem(request, 409, "model_refused", str(refusal))
        case web.HTTPRequestEntityTooLarge():
            cause = f"{refusal.text}; the limit is a setting (body_bytes_max)"
            return _problem(request, BodyTooLarge.status, BodyTooLarge.code, cause)
        case web.HTTPException():
            cause = f"{request.method} {request.path[:200]}: {refusal.reason}"
            return _problem(request, refusal.status, "http", cause)
    cause = f"the body cannot be read (cut off, or not encoded as its header says): {refusal}"
    return _problem(request, BadRequest.status, BadRequest.code, cause)


def _problem(
    request: web.Request, status: int, code: str, cause: str, retry_after_seconds: int | None = None
) -> web.Response:
    request.app[WORKER].metrics.problems.labels(code).inc()
    headers = {} if retry_after_seconds is None else {"Retry-After": str(retry_after_seconds)}
    return _json({"error": cause, "code": code}, status=status, headers=headers)


async def _infer(request: web.Request) -> web.Response:
    parent = request.headers.get(HEADER_PARENT, "")
    if not parent:
        return await _scored(request)
    with entered(request.app[TRACER].continued(parent)) as trace:
        error = "refused"
        try:
            answer = await _scored(request)
            error = ""
        finally:
            trace.end("infer", kind="server", error=error)
    return answer


async def _scored(request: web.Request) -> web.Response:
    worker = request.app[WORKER]
    served = _served(request)
    body = await request.read()
    decoded = decode_request(body, request.headers.get(HEADER_LENGTH))
    scored = await worker.infer(served, decoded, by_number="version" in request.match_info)
    current().note(model_version=f"{scored.served.model}/{scored.served.version}", stands_in_for=scored.stands_in_for)
    parameters = {"stands_in_for": scored.stands_in_for} if scored.stands_in_for else None
    encoded = encode_response(scored.served.model, scored.served.version, decoded, scored.answer, parameters)
    return web.Response(body=encoded.content, headers=encoded.headers)


async def _server_metadata(_: web.Request) -> web.Response:
    return _json({"name": "meridian-inference", "version": "0.1.0", "extensions": EXTENSIONS})


async def _live(_: web.Request) -> web.Response:
    return web.Response()


async def _ready(request: web.Request) -> web.Response:
    """200, or 400 as the protocol says; `/readyz` is the one for probes that want a reason and a 503."""
    return web.Response(status=200 if request.app[WORKER].not_ready_reason() is None else 400)


async def _model_ready(request: web.Request) -> web.Response:
    _served(request)
    return web.Response(status=200 if request.app[WORKER].not_ready_reason() is None else 400)


async def _model_metadata(request: web.Request) -> web.Response:
    served = _served(request)
    signature = served.session.signature
    return _json(
        {
            "name": served.model,
            "versions": [served.version],
            "platform": PLATFORM,
            "inputs": [_tensor_metadata(spec) for spec in signature.inputs],
            "outputs": [_tensor_metadata(spec) for spec in signature.outputs],
            "parameters": {
                "manifest_sha256": served.sha256,
                "device": served.session.device.value,
                "degraded": request.app[WORKER].degraded_reason() or "",
            },
        }
    )


async def _model_config(request: web.Request) -> web.Response:
    """What really runs, not what a file says: read from the session and the settings."""
    served = _served(request)
    signature = served.session.signature
    limits = request.app[WORKER].batcher.limits
    return _json(
        {
            "name": served.model,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "version_policy": {"specific": {"versions": [int(served.version)]}},
            "max_batch_size": served.buckets.rows[-1],
            "input": [_tensor_config(spec) for spec in signature.inputs],
            "output": [_tensor_config(spec) for spec in signature.outputs],
            "dynamic_batching": {
                "preferred_batch_size": sorted({pace.rows_max for pace in served.paces.values()}),
                "max_queue_delay_microseconds": round(limits.delay_seconds * 1e6),
            },
            "parameters": {
                "candidate_buckets": {"string_value": ",".join(map(str, served.buckets.candidates))},
                "device": {"string_value": served.session.device.value},
            },
        }
    )


async def _statistics(request: web.Request) -> web.Response:
    worker = request.app[WORKER]
    model, version = request.match_info.get("model"), request.match_info.get("version")
    if model is not None:
        worker.table.find(model, version)
    found = [
        _version_statistics(name, number, statistics)
        for (name, number), statistics in sorted(worker.table.statistics().items())
        if model in (None, name) and version in (None, number)
    ]
    return _json({"model_stats": found})


async def _index(request: web.Request) -> web.Response:
    call = await _repository_call(request)
    states = request.app[WORKER].refresh_index(request.app[FOLLOWER].named)
    return _json(
        [
            {"name": state.model, "version": state.version, "state": state.state, "reason": state.reason}
            for state in states
            if state.state == "READY" or not call.ready
        ]
    )


async def _load(request: web.Request) -> web.Response:
    call = await _repository_call(request)
    version = call.parameters.get("version")
    unknown = sorted(call.parameters.keys() - {"version"})
    if unknown:
        raise BadRequest(
            f"load does not take {unknown[0][:60]!r}: versions come from the repository, with manifest and golden set"
        )
    if version is not None and not isinstance(version, str | int):
        raise BadRequest("parameter version must be the number of a version folder")
    worker, model = request.app[WORKER], request.match_info["model"]
    served = await worker.load(model, None if version is None else str(version))
    if model == worker.options.model:
        worker.held = None if version is None else f"version {version} was loaded by a caller of the repository API"
    return _json({"name": served.model, "version": served.version, "state": "READY"})


async def _unload(request: web.Request) -> web.Response:
    await _repository_call(request)
    worker, model = request.app[WORKER], request.match_info["model"]
    worker.unload(model)
    if model == worker.options.model:
        worker.held = "it was unloaded by a caller of the repository API"
    return web.Response()


async def _champion(request: web.Request) -> web.Response:
    """Whether what serves is what the alias names, proven here: a region may not take the lease without."""
    worker, model = request.app[WORKER], request.match_info["model"]
    if model in worker.options.also:
        return _json(request.app[FOLLOWER].report_beside(worker, model))
    if model != worker.options.model:
        raise UnknownModel(f"the model that is served here is {worker.options.model!r}")
    return _json(request.app[FOLLOWER].report(worker))


async def _files(request: web.Request) -> web.Response:
    model, version = request.match_info["model"], request.match_info["version"]
    return _json(version_files(request.app[WORKER].repository, model, version))


async def _file(request: web.Request) -> web.StreamResponse:
    names = request.match_info
    return file_of(request.app[WORKER].repository, names["model"], names["version"], names["name"])


async def _repository_call(request: web.Request) -> _RepositoryCall:
    body = await request.read()
    try:
        return msgspec.json.decode(body, type=_RepositoryCall) if body else _RepositoryCall()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not a repository request in JSON: {error}") from None


def _served(request: web.Request) -> ServedVersion:
    return request.app[WORKER].table.find(request.match_info["model"], request.match_info.get("version"))


def _tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": spec.datatype,
        "shape": [-1 if size is None else size for size in spec.shape],
    }


def _tensor_config(spec: TensorSpec) -> dict[str, Any]:
    data_type = "TYPE_" + spec.datatype
    return {
        "name": spec.name,
        "data_type": data_type,
        "dims": [-1 if size is None else size for size in spec.shape[1:]],
    }


def _version_statistics(model: str, version: str, statistics: VersionStatistics) -> dict[str, Any]:
    return {
        "name": model,
        "version": version,
        "last_inference": statistics.last_inference_unix_ms,
        "inference_count": statistics.inferences,
        "execution_count": statistics.executions,
        "inference_stats": {
            "success": _duration(statistics.success),
            "fail": {"count": sum(statistics.failures.values()), "ns": 0},
            "queue": _duration(statistics.queue),
            "compute_input": _duration(statistics.compute_input),
            "compute_infer": _duration(statistics.compute_infer),
            "compute_output": _duration(statistics.compute_output),
        },
        "batch_stats": [
            {"batch_size": rows, "compute_infer": _duration(duration)}
            for rows, duration in sorted(statistics.batches.items())
        ],
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": round(duration.seconds * 1e9)}


def _json(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(content)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")
