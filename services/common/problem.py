"""Refusals as RFC 9457 problem documents, so that a program can act on them and a person can mend the cause.

`type` is stable and means one kind of refusal; `detail` is the sentence about this one; `remedy` the next step.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from services.common.logging import get_logger

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:meridian:problem:"

log = get_logger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(Exception):
    """Raise it in a handler under `problem_middleware`, or render it with `response()`."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        remedy: str = "",
        retry_after_seconds: float | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.remedy = remedy
        self.retry_after_seconds = retry_after_seconds
        self.members = dict(members or {})

    def document(self) -> dict[str, object]:
        """Return the document as RFC 9457 lays it out; `members` are its extensions."""
        fields: dict[str, object] = {
            "type": TYPE_PREFIX + self.kind,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.remedy:
            fields["remedy"] = self.remedy
        if self.retry_after_seconds is not None:
            fields["retry_after_seconds"] = self.retry_after_seconds
        return {**fields, **self.members}

    def response(self) -> web.Response:
        """Return the answer, with Retry-After in whole seconds (rounded up) when there is one."""
        headers = {}
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_seconds)))
        return web.Response(
            body=msgspec.json.encode(self.document()),
            status=self.status,
            content_type=CONTENT_TYPE,
            headers=headers,
        )


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every failure with a problem document; what nobody foresaw is logged and says nothing of the inside."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPSuccessful:
        raise
    except web.HTTPException as refused:
        if refused.status < HTTPStatus.BAD_REQUEST:
            raise
        kind = (refused.reason or "refused").lower().replace(" ", "-")
        answer = Problem(refused.status, kind, refused.text or refused.reason).response()
        for name in ("Allow", "Retry-After"):
            if name in refused.headers:
                answer.headers[name] = refused.headers[name]
        return answer
    except Exception:
        log.exception("a request failed in a way nobody foresaw", method=request.method, path=request.path)
        return Problem(500, "internal-error", "the server failed; its log has the cause").response()
