"""Asking a local process whether it is ready, with nothing but a socket: the supervisor stays small and never hangs."""

from __future__ import annotations

import socket

ANSWER_BYTES_MAX = 1 << 16
LOOPBACK = "127.0.0.1"


def readiness(port: int, path: str | None, timeout_seconds: float = 0.5, host: str = LOOPBACK) -> str | None:
    """Return why what listens on `port` of `host` is not ready, or None. Without a path, listening is enough."""
    try:
        with socket.create_connection((host, port), timeout_seconds) as connection:
            if path is None:
                return None
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = _receive(connection)
    except ConnectionRefusedError:
        return "does not listen yet"
    except TimeoutError:
        return f"did not answer within {timeout_seconds:g} s"
    except OSError as error:
        return f"does not answer: {error.strerror or error}"
    return _reason_in(answer)


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
