"""From an error answer to the exception that tells the caller what to do."""

from __future__ import annotations

import msgspec

from .answers import decode_problem
from .errors import AnswerTooLate, BadAnswer, Busy, GatewayUnavailable, MeridianError, Problem, RequestRefused
from .transport import Reply


def problem_of(reply: Reply) -> Problem:
    """The problem document of an error answer; one made from the status when there is none."""
    try:
        problem = decode_problem(reply.body)
    except msgspec.MsgspecError:
        return Problem(status=reply.status, detail=reply.body[:200].decode("utf-8", "replace"))
    return problem if problem.status else msgspec.structs.replace(problem, status=reply.status)


def error_of(reply: Reply) -> MeridianError:
    """The exception for an answer that is not a success."""
    sentence = f"{reply.url}: {problem_of(reply).sentence()}"
    if reply.status == 429:
        return Busy(sentence, retry_after_seconds=reply.retry_after_seconds)
    if reply.status in (500, 502, 503):
        return GatewayUnavailable(sentence, retry_after_seconds=reply.retry_after_seconds)
    if reply.status == 504:
        return AnswerTooLate(sentence, retry_after_seconds=reply.retry_after_seconds)
    if 400 <= reply.status < 500:
        return RequestRefused(problem_of(reply))
    return BadAnswer(f"{reply.url} answered {reply.status}, which this API never does")
