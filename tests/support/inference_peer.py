"""A worker's door for other workers, in this process, which can be made to lie, to hang up and to stall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from services.common.http import serving
from services.inference.repository import Repository
from services.inference.sharing import FILES, file_of, version_files


class Peer:
    """Hands out a repository's versions, spoiled as a test says, by the names of files.

    `spoil`: what is sent instead. `listed_sizes`: what is listed instead.
    `break_after`: hang up once after so many bytes; with `stall`, only say nothing more.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.asked: list[tuple[str, str]] = []
        self.spoil: dict[str, bytes] = {}
        self.listed_sizes: dict[str, int] = {}
        self.break_after: dict[str, int] = {}
        self.stall: asyncio.Event | None = None

    async def files(self, request: web.Request) -> web.Response:
        names = request.match_info
        if not self.repository.folder(names["model"], names["version"]).exists():
            return web.Response(status=404)
        found = version_files(self.repository, names["model"], names["version"])
        return web.json_response(
            {
                "model": found.model,
                "version": found.version,
                "sha256": found.sha256,
                "files": [
                    {"name": file.name, "size_bytes": self.listed_sizes.get(file.name, file.size_bytes)}
                    for file in found.files
                ],
            }
        )

    async def file(self, request: web.Request) -> web.StreamResponse:
        names = request.match_info
        name = names["name"]
        self.asked.append((name, request.headers.get("Range", "")))
        path = self.repository.folder(names["model"], names["version"]) / name
        if not path.exists():
            return web.Response(status=404)
        if name in self.break_after:
            response = web.StreamResponse(headers={"Content-Length": str(path.stat().st_size)})
            await response.prepare(request)
            await response.write(path.read_bytes()[: self.break_after.pop(name)])
            if self.stall is not None:
                await self.stall.wait()
            assert request.transport is not None
            request.transport.close()
            return response
        if name in self.spoil:
            return web.Response(body=self.spoil[name])
        return file_of(self.repository, names["model"], names["version"], name)


@asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[str]:
    """A peer's address."""
    app = web.Application()
    app.router.add_get(FILES, peer.files)
    app.router.add_get(FILES + "/{name}", peer.file)
    async with serving(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"
