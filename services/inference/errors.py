"""What can go wrong when scoring, split by who can do something about it.

Three families. `RequestProblem` is an answer to one request: it carries its HTTP status and a stable `code`, and
the worker goes on. `ModelRefused` means that a model version, or the device it asks for, cannot be trusted: an
operator must mend it, and whatever served before keeps serving. `InferenceFailed` is what the *client* raises:
three kinds, because a caller does three different things (take the next rung and come back later; take the next
rung and report a bug; give up, the time is over).
"""


class InferenceError(Exception):
    """Root of everything that `services.inference` raises on purpose."""


class RequestProblem(InferenceError):
    """One request cannot be answered; `status` is HTTP's, `code` is stable and named in docs/reference/inference.md."""

    status = 500
    code = "internal"

    def __init__(self, cause: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.retry_after_seconds = retry_after_seconds


class BadRequest(RequestProblem):
    """The request itself is wrong: the same bytes will be refused again."""

    status = 400
    code = "bad_request"


class BadTensor(BadRequest):
    """The tensors do not fit what the model declares; the client reads the model's metadata again."""

    code = "bad_tensor"


class UnknownModel(RequestProblem):
    """No such model or version is served here."""

    status = 404
    code = "unknown_model"


class BodyTooLarge(RequestProblem):
    """The body is over the limit."""

    status = 413
    code = "body_too_large"


class QueueFull(RequestProblem):
    """The bounded queue has no room: come back after `retry_after_seconds`."""

    status = 429
    code = "queue_full"


class NotServing(RequestProblem):
    """The worker is starting or draining, or holds no version of the model."""

    status = 503
    code = "not_serving"


class DeadlineExpired(RequestProblem):
    """The time that the request named is over; it was not scored."""

    status = 504
    code = "deadline_expired"


class ModelRunFailed(RequestProblem):
    """The model was run and raised, or its scores are not finite numbers."""

    status = 500
    code = "model_run_failed"


class ModelRefused(InferenceError):
    """A model version failed a check and is not served. `remedy` is the next step for an operator."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}. {remedy}")
        self.reason = reason
        self.remedy = remedy


class DeviceRefused(ModelRefused):
    """The device that the settings ask for is not the one that a session really runs on."""


class VersionOutOfReach(ModelRefused):
    """A version is not here and could not be had now (no peer, a full disk): it is worth trying again later."""


class InferenceFailed(InferenceError):
    """Root of what the client raises; `reason` is one sentence that goes into the answer's log line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InferenceUnavailable(InferenceFailed):
    """The worker is dead, full, draining, or lately failed too often: use the next rung, and ask again later."""


class InferenceRefused(InferenceFailed):
    """The worker answered that this request cannot be scored: asking again does not help."""


class InferenceExpired(InferenceFailed):
    """The deadline is over, or too near for the request to be sent at all."""
