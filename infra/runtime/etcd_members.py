"""Asking the surviving members to take a lost one in again. The standard library is enough, and all that is there.

Every step can be repeated: a try that was cut short leaves a learner that never started, and the next try finds it.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final

REQUEST_TIMEOUT_SECONDS: Final = 3.0
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class JoinRefused(Exception):
    """No survivor can take the member in now; the message says what each of them said."""


def join_as_learner(name: str, peer_url: str, members: Mapping[str, str], survivors: Sequence[str]) -> dict[str, str]:
    """Replace the lost member `name` by a learner, and return the cluster as it then is: name to peer address.

    `members` names the members by peer address as the deployment knows them. Raises JoinRefused.
    """
    said: list[str] = []
    for survivor in survivors:
        try:
            return _join_through(survivor, name, peer_url, members)
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            said.append(f"{survivor}: {_cause(error)}")
    raise JoinRefused("; ".join(said) or "there are no other members")


def http_json(url: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the JSON object that a member answers; raises OSError or ValueError."""
    request = urllib.request.Request(  # noqa: S310 - addresses come from the deployment's own file
        url, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with _OPENER.open(request, timeout=REQUEST_TIMEOUT_SECONDS) as response:
        found = json.loads(response.read())
    if not isinstance(found, dict):
        raise ValueError(f"{url} answered no object")  # noqa: TRY004 - what it says is wrong, not its use
    return found


def _join_through(survivor: str, name: str, peer_url: str, members: Mapping[str, str]) -> dict[str, str]:
    listed = http_json(f"{survivor}/v3/cluster/member/list", {"linearizable": True})["members"]
    own = [member for member in listed if member.get("name") == name or peer_url in member.get("peerURLs", [])]
    waiting = [member for member in own if not member.get("name") and member.get("isLearner")]
    for lost in own:
        if lost not in waiting:
            listed = http_json(f"{survivor}/v3/cluster/member/remove", {"ID": lost["ID"]})["members"]
    if not waiting:
        added = http_json(f"{survivor}/v3/cluster/member/add", {"peerURLs": [peer_url], "isLearner": True})
        listed = added["members"]
    names = {url: known for known, url in members.items()}
    cluster: dict[str, str] = {}
    for member in listed:
        url = member["peerURLs"][0]
        # A member that has not started yet has no name in the list.
        cluster[member.get("name") or names.get(url, f"member-{member['ID']}")] = url
    return cluster


def _cause(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        try:
            return str(json.loads(error.read()).get("message", error))
        except (OSError, ValueError, AttributeError):
            return str(error)
    return str(error)
