"""Asking a local process whether it is ready, with nothing but a socket: the supervisor stays small and never hangs.

Also a program, as the health check of containers, which runs every few seconds in each and must cost next to nothing:

    python -I -S probe.py 8080/readyz 8083 --active 8080/v1/regions

A port alone must listen; `--active` names the gateway that must know of an active region. Says what is not so, exit 1.
"""

from __future__ import annotations

import socket
import sys

ANSWER_BYTES_MAX = 1 << 16
LOOPBACK = "127.0.0.1"


def readiness(port: int, path: str | None, timeout_seconds: float = 0.5, host: str = LOOPBACK) -> str | None:
    """Return why what listens on `port` of `host` is not ready, or None. Without a path, listening is enough."""
    try:
        answer = _ask(port, path, timeout_seconds, host)
    except ConnectionRefusedError:
        return "does not listen yet"
    except TimeoutError:
        return f"did not answer within {timeout_seconds:g} s"
    except OSError as error:
        return f"does not answer: {error.strerror or error}"
    return None if path is None else _reason_in(answer)


def inactivity(port: int, path: str, timeout_seconds: float = 2.0) -> str | None:
    """Return why no region is known to be active, asked of the gateway on `port`; None when one is."""
    import json

    try:
        answer = _ask(port, path, timeout_seconds, LOOPBACK)
        found = json.loads(answer.partition("\r\n\r\n")[2])
    except (OSError, ValueError) as error:
        return f"does not say which region is active: {error}"
    return None if isinstance(found, dict) and found.get("active") else "knows of no active region"


def _ask(port: int, path: str | None, timeout_seconds: float, host: str) -> str:
    with socket.create_connection((host, port), timeout_seconds) as connection:
        if path is None:
            return ""
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return _receive(connection)


def _receive(connection: socket.socket) -> str:
    parts: list[bytes] = []
    size = 0
    while size < ANSWER_BYTES_MAX and (part := connection.recv(8192)):
        parts.append(part)
        size += len(part)
    return b"".join(parts).decode("utf-8", "replace")


def _reason_in(answer: str) -> str | None:
    head, _, body = answer.partition("\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2:
        return "closed the connection without an answer"
    if words[1] == "200":
        return None
    reasons = [line.removeprefix("[-]").strip() for line in body.splitlines() if line.startswith("[-]")]
    return "; ".join(reasons) or f"answers {words[1]}"


def main(arguments: list[str]) -> int:
    """Ask all that are named; return 0 when all are ready."""
    problems: list[str] = []
    is_active_asked = False
    for argument in arguments:
        if argument == "--active":
            is_active_asked = True
            continue
        port, slash, path = argument.partition("/")
        if is_active_asked:
            reason = inactivity(int(port), slash + path)
        else:
            reason = readiness(int(port), slash + path if slash else None, timeout_seconds=2.0)
        problems += [f"{port}: {reason}"] if reason else []
    print("; ".join(problems) or "ready")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
