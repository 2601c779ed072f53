"""A TCP door in front of a server that lets answers through late: a worker that is slow without being hung."""

from __future__ import annotations

import socket
import threading
from typing import Self


class SlowDoor:
    """Listens on `port`; each piece of an answer waits for `delay_seconds`. Use as a context manager."""

    def __init__(self, target_port: int, delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._closing = threading.Event()
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
                outside = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            self._open += [inside, outside]
            threading.Thread(target=self._carry, args=(inside, outside, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(outside, inside, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, late: bool) -> None:  # noqa: FBT001
        try:
            while piece := source.recv(1 << 16):
                if late:
                    self._closing.wait(self.delay_seconds)
                target.sendall(piece)
        except OSError:
            return
