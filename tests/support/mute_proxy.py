"""A TCP proxy that can swallow answers: what was asked arrives and is done, and nobody hears of it."""

from __future__ import annotations

import asyncio
from typing import Self
from urllib.parse import urlsplit


class MuteProxy:
    """Passes bytes on in both directions until `mute`; then what comes back is thrown away."""

    def __init__(self, target_url: str) -> None:
        address = urlsplit(target_url)
        assert address.hostname is not None
        self._host, self._port = address.hostname, address.port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.mute = False
        self.port = 0

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        ways = [
            asyncio.ensure_future(self._pass(reader, far_writer, outward=True)),
            asyncio.ensure_future(self._pass(far_reader, writer, outward=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            writer.close()
            far_writer.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, outward: bool) -> None:
        try:
            while received := await source.read(65536):
                if outward or not self.mute:
                    sink.write(received)
                    await sink.drain()
        except OSError:
            return
