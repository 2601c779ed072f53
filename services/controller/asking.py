"""Asking controllers from a command line: whichever region answers first, in the deployment's order."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Any

import msgspec

from services.common.deployment import Deployment
from services.common.settings import SettingsError

ANSWER_SECONDS = 2.0


class NoController(Exception):
    """No controller of the deployment answers; what each of them said is in the message."""


class Refused(Exception):
    """A controller refused, with the reason and the next step."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail", problem)))
        self.problem = problem

    @property
    def remedy(self) -> str:
        """The next step."""
        return str(self.problem.get("remedy", ""))


def ask(
    deployment: Deployment,
    path: str,
    body: object = None,
    region: str = "",
    seconds_max: float = ANSWER_SECONDS,
) -> bytes:
    """GET, or POST `body` as JSON, at the first controller that answers, or at that of `region`.

    An answer "the store is silent" is no answer as long as another region may know more. Raises NoController, Refused.
    """
    silent: list[str] = []
    refused: Refused | None = None
    for site in deployment.regions:
        if region and site.name != region:
            continue
        try:
            return _send(site.url("control") + path, body, seconds_max)
        except Refused as problem:
            if problem.problem.get("status") != 503:
                raise
            refused = problem
        except (OSError, http.client.HTTPException, urllib.error.URLError) as problem:
            silent.append(f"{site.name}: {problem}")
    if refused is not None:
        raise refused
    raise NoController("no controller answers (" + "; ".join(silent or [f"there is no region {region!r}"]) + ")")


def _send(url: str, body: object, seconds_max: float) -> bytes:
    if not url.startswith("http://"):
        raise SettingsError(f"{url} is no address of a controller")
    encoded = None if body is None else msgspec.json.encode(body)
    wanted = urllib.request.Request(url, data=encoded, headers={"Content-Type": "application/json"})  # noqa: S310 - above
    try:
        with urllib.request.urlopen(wanted, timeout=seconds_max) as answer:  # noqa: S310 - checked above
            found: bytes = answer.read()
            return found
    except urllib.error.HTTPError as error:
        with error:
            raw = error.read()
        try:
            raise Refused(msgspec.json.decode(raw, type=dict[str, Any]))
        except msgspec.DecodeError:
            raise Refused({"status": error.code, "detail": raw[:200].decode(errors="replace")}) from None
