"""A small process for tests of supervision: it serves /readyz, and ends as it is told to.

    python child_process.py PORT [exit-file]

It is ready at once. When `exit-file` exists it ends with the code written there, after printing the rest of the file
as its last words; SIGTERM ends it with 0.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nready\n"


def main() -> int:
    """Serve until told to end; return the exit code."""
    port = int(sys.argv[1])
    exit_file = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = socket.create_server(("127.0.0.1", port))
    server.settimeout(0.05)
    while True:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            if exit_file is not None and exit_file.exists():
                code, _, words = exit_file.read_text().partition(" ")
                exit_file.unlink()
                print(words, flush=True)
                return int(code)
            continue
        with connection:
            connection.recv(4096)
            connection.sendall(ANSWER)


if __name__ == "__main__":
    sys.exit(main())
