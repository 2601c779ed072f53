"""What a process says of itself: it lives; it is ready, or the reason why not.

A check returns the reason or None, so that `/readyz?verbose`, the supervisor and `meridian status` show the same words.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

Check = Callable[[], str | None]


class Health:
    """The named checks of one process; each is a cheap look at what is known already."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._notices: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Add a check: it returns why the process cannot do its work, or None."""
        self._checks[name] = check

    def add_notice(self, name: str, check: Check) -> None:
        """Add what is worth knowing but keeps nobody from working (degraded); shown by `/readyz?verbose` only."""
        self._notices[name] = check

    def reasons(self) -> dict[str, str | None]:
        """Return what each check says now."""
        return {name: check() for name, check in self._checks.items()}

    def blocker(self) -> str | None:
        """Return the first reason not to be ready, with its check's name, or None."""
        return next((f"{name}: {reason}" for name, reason in self.reasons().items() if reason is not None), None)

    def add_routes(self, app: web.Application) -> None:
        """Serve `/livez` and `/readyz`."""
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = self.reasons()
        ready = all(reason is None for reason in reasons.values())
        if "verbose" in request.query:
            lines = [f"[+] {name} ok" if why is None else f"[-] {name}: {why}" for name, why in reasons.items()]
            noticed = {name: check() for name, check in self._notices.items()}
            lines += [f"[+] {name} ok" if why is None else f"[~] {name}: {why}" for name, why in noticed.items()]
        else:
            lines = [f"[-] {name}: {why}" for name, why in reasons.items() if why is not None]
        text = "\n".join([*lines, "ready" if ready else "not ready"]) + "\n"
        return web.Response(text=text, status=200 if ready else 503)
