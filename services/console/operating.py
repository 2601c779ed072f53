"""Acting from the page: the same four verbs as the command line, passed on to a controller word for word.

The console decides nothing. It makes sure that the wish comes from its own page (no other site's script can ask: the
name it was asked under, the origin, and a header that only this page knows) and that the operator typed the target.
Whether it is done, the controllers decide; what they refuse is shown in their words.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp import web

from services.common.clock import random_bytes
from services.common.deployment import Deployment, Site
from services.common.logging import get_logger
from services.common.problem import CONTENT_TYPE, Problem
from services.console.asking import ASK_FAILED, words
from services.console.metrics import VERBS, ConsoleMetrics
from services.console.settings import ConsoleSettings
from services.console.shapes import Operating

SESSION_HEADER: Final = "X-Meridian-Session"
PASS_ON_SECONDS: Final = 3.0
BODY_BYTES_MAX: Final = 8192
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

log = get_logger(__name__)

OPERATION_ID: Final = "^[A-Za-z0-9._-]{1,64}$"
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/operate/VERB`."""

    operation_id: Annotated[str, msgspec.Meta(pattern=OPERATION_ID)]
    by: Text
    reason: Text
    to: Annotated[str, msgspec.Meta(max_length=200)] = ""
    typed: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """The target once more, as the operator typed it."""
    accept_loss_events: Annotated[int, msgspec.Meta(ge=0)] | None = None
    seconds: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/session`: read by the page only, as no other site may read it."""

    session: str
    operating: Operating


class OperatingApi:
    """`GET /v1/session`, `POST /v1/operate/VERB`, `GET /v1/operations/ID`."""

    def __init__(
        self,
        deployment: Deployment,
        settings: ConsoleSettings,
        session: aiohttp.ClientSession,
        metrics: ConsoleMetrics,
        order: Callable[[], list[Site]],
    ) -> None:
        """`order`: the regions in the order in which their controllers are asked."""
        self._deployment = deployment
        self._settings = settings
        self._session = session
        self._metrics = metrics
        self._order = order
        self._secret = random_bytes(16).hex()

    def add_routes(self, app: web.Application) -> None:
        """The routes."""
        app.router.add_get("/v1/session", self._tell)
        app.router.add_post("/v1/operate/{verb}", self._operate)
        app.router.add_get("/v1/operations/{id}", self._operation)

    @property
    def operating(self) -> Operating:
        """Whether one may act from the page."""
        why_not = self._settings.why_read_only()
        return Operating(allowed=why_not is None, why_not=why_not or "", wants_token=bool(self._settings.token))

    async def _tell(self, _: web.Request) -> web.Response:
        found = Session(session=self._secret, operating=self.operating)
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    async def _operate(self, request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        if verb not in VERBS:
            raise Problem(
                404, "no-such-verb", f"there is no verb {verb[:32]!r}", remedy=f"There are: {', '.join(VERBS)}."
            )
        self._check_rights(request)
        wish = await _wish(request)
        body = _passed_on(verb, wish)
        log.info("an operator acts from the page", verb=verb, to=wish.to, by=wish.by, operation_id=wish.operation_id)
        return await self._pass_on(f"/v1/{verb}", body, verb)

    async def _operation(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if not re.fullmatch(OPERATION_ID, name) or not name.strip("."):
            # It becomes part of an address within the deployment, and must not lead to another one there.
            raise Problem(404, "no-such-operation", f"there is no operation {name[:64]!r}")
        return await self._pass_on(f"/v1/operations/{name}", None, "")

    def _check_rights(self, request: web.Request) -> None:
        """Raise Problem unless the wish comes from this console's own page and its operator may act."""
        if (why_not := self._settings.why_read_only()) is not None:
            raise Problem(403, "read-only", why_not, remedy="Use the command line: `meridian switchover --help`.")
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
        if origin is None or urlsplit(origin).netloc != request.host or site not in {None, "same-origin"}:
            raise Problem(403, "foreign-origin", "only this console's own page may ask for that")
        if not _is_same(request.headers.get(SESSION_HEADER, ""), self._secret):
            raise Problem(
                403, "old-page", "the console was started again after this page was opened", remedy="Reload the page."
            )
        wanted = self._settings.token
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if wanted and not _is_same(given, wanted.reveal()):
            raise Problem(401, "wrong-token", "the operator's token is missing or wrong", remedy="Type it again.")
        if request.content_type != "application/json":
            raise Problem(415, "not-json", "the body must be JSON")

    async def _pass_on(self, path: str, body: dict[str, Any] | None, verb: str) -> web.Response:
        """Ask one controller after the other. "The store is silent" is no answer as long as another may know more."""
        silent: list[str] = []
        refused: web.Response | None = None
        for site in self._order():
            try:
                status, raw, kind = await self._send(site.url("control") + path, body)
            except ASK_FAILED as problem:
                silent.append(f"{site.name}: {words(problem)}")
                continue
            answer = web.Response(body=raw, status=status, content_type=kind)
            if status != 503:
                self._count(verb, "taken" if status < 300 else "refused")
                return answer
            refused = answer
        if refused is not None:
            self._count(verb, "refused")
            return refused
        self._count(verb, "unreachable")
        raise Problem(
            503,
            "no-controller",
            f"no controller answers ({'; '.join(silent)}); it is not known whether one of them took it",
            remedy="Send the same again: under one operation id it is done once. See docs/operating/lost-quorum.md.",
        )

    async def _send(self, url: str, body: dict[str, Any] | None) -> tuple[int, bytes, str]:
        encoded = None if body is None else msgspec.json.encode(body)
        async with self._session.request(
            "GET" if body is None else "POST",
            url,
            data=encoded,
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=PASS_ON_SECONDS),
            allow_redirects=False,
        ) as answer:
            kind = CONTENT_TYPE if answer.content_type == CONTENT_TYPE else "application/json"
            return answer.status, await answer.read(), kind

    def _count(self, verb: str, outcome: str) -> None:
        if verb:
            self._metrics.operations.labels(verb, outcome).inc()


def _is_same(given: str, wanted: str) -> bool:
    """Compare in a time that says nothing of `wanted`; what was given may be no text at all."""
    return hmac.compare_digest(given.encode(errors="surrogateescape"), wanted.encode())


def _passed_on(verb: str, wish: Wish) -> dict[str, Any]:
    """What the controller is sent. Raises Problem when the target was not typed."""
    body: dict[str, Any] = {"operation_id": wish.operation_id, "by": wish.by, "reason": wish.reason}
    if verb in {"switchover", "failover"}:
        if not wish.to or wish.typed != wish.to:
            raise Problem(
                400,
                "target-not-typed",
                f"the name of the region was not typed: {wish.to!r} is wanted, {wish.typed!r} was typed",
                remedy="Type the name of the region that is to be active.",
            )
        body["to"] = wish.to
    if verb == "failover" and wish.accept_loss_events is not None:
        body["accept_loss_events"] = wish.accept_loss_events
    if verb == "pause" and wish.seconds is not None:
        body["seconds"] = wish.seconds
    return body


async def _wish(request: web.Request) -> Wish:
    try:
        return msgspec.json.decode(await request.read(), type=Wish)
    except msgspec.DecodeError as error:
        raise Problem(
            400, "bad-request", str(error), remedy="By whom and why are both wanted, up to 200 characters each."
        ) from None
