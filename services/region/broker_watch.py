"""Watches a broker that something else runs, as a process of the region: ends when the broker ends, or is replaced.

A broker that comes back may have come back with less, so what reads and writes logs must be judged anew after each of
its starts. Of a broker in a container of its own the supervisor sees nothing but its port: this process holds one
connection to it, and dies with it. It speaks one request (ApiVersions), often enough that the broker does not hang up,
and imports nothing but sockets: it stays small. A broker that only stopped answering is not gone.

    python -I -S broker_watch.py HOST PORT
"""

import select
import socket
import struct
import sys
import time

ASK_SECONDS = 30.0
CONNECT_SECONDS = 2.0
RETRY_SECONDS = 0.2
API_VERSIONS = 18
_REQUEST = struct.pack(">hhih", API_VERSIONS, 0, 1, -1)
REQUEST = struct.pack(">i", len(_REQUEST)) + _REQUEST


def connect(host: str, port: int) -> socket.socket:
    """Return a connection, as soon as there is somebody to connect to."""
    while True:
        try:
            return socket.create_connection((host, port), CONNECT_SECONDS)
        except OSError:
            time.sleep(RETRY_SECONDS)


def watch(connection: socket.socket) -> str:
    """Return once the broker has closed the connection, and how."""
    connection.setblocking(True)
    try:
        connection.sendall(REQUEST)
        while True:
            readable, _, _ = select.select([connection], [], [], ASK_SECONDS)
            if not readable:
                connection.sendall(REQUEST)
            elif not connection.recv(65536):
                return "the broker closed its connection"
    except OSError as error:
        return f"the connection to the broker broke: {error.strerror or error}"


def main() -> int:
    """Watch until the broker is gone."""
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 64
    host, port = sys.argv[1], int(sys.argv[2])
    with connect(host, port) as connection:
        print(f"{watch(connection)}; it is waited for at {host}:{port}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
