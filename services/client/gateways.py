"""Which gateway is asked next.

The one in use stays in use until it cannot be reached, does not answer in time or answers 503. One that could not be
reached, or was silent twice in a row, is a suspect for a while: it is asked again only when nobody else is left, so a
region that swallows packets does not cost a time-out in every round. (Once is not enough: a single slow answer among
many good ones must not drive everybody away from the only region that may answer.) Which region is active is not
decided here: a passive gateway says so with a 307, and the gateway that then answers becomes the one in use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from urllib.parse import urlsplit

from .clock import Clock
from .errors import BadAddress, Busy, MeridianError, TryAgain
from .retry import RetryPolicy

GATEWAYS_MAX = 32
SUSPECT_FIRST_SECONDS = 0.5
SUSPECT_SILENT_SECONDS = 2.0
SUSPECT_SECONDS_MAX = 5.0


class Gateways:
    """The addresses, which one is in use and which ones are suspects."""

    def __init__(self, urls: Sequence[str], clock: Clock) -> None:
        if not urls:
            raise BadAddress("MeridianClient needs at least one gateway URL, such as http://127.0.0.1:8080")
        for url in urls:
            if not is_address(url):
                raise BadAddress(f"{url!r} is not a gateway URL: write it like http://127.0.0.1:8080")
        self._clock = clock
        self._given = list(dict.fromkeys(url.rstrip("/") for url in urls))
        self._urls = list(self._given)
        self._current = self._urls[0]
        self._suspect_until: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._urls)

    @property
    def current(self) -> str:
        """The one in use."""
        return self._current

    @property
    def urls(self) -> tuple[str, ...]:
        """All that are known."""
        return tuple(self._urls)

    def pick(self, asked: Collection[str]) -> str | None:
        """Whom to ask next: from the one in use on, without those `asked`; suspects only if there is nobody else."""
        at = self._urls.index(self._current)
        ring = self._urls[at:] + self._urls[:at]
        pool = [url for url in ring if not self.is_suspect(url)] or ring
        return next((url for url in pool if url not in asked), None)

    def is_suspect(self, url: str) -> bool:
        """Whether it was not reached, or silent, a moment ago."""
        return self._clock.elapsed_seconds() < self._suspect_until.get(url, 0.0)

    def leave(self, url: str) -> None:
        """`url` did not serve: the next one comes into use, unless another request has moved on already."""
        if url == self._current:
            self._current = self._urls[(self._urls.index(url) + 1) % len(self._urls)]

    def fail(self, url: str, *, silent: bool = False) -> None:
        """`url` was not reached, or was `silent`: it did not answer in time, which a slow one does now and then too."""
        failures = self._failures[url] = self._failures.get(url, 0) + 1
        if not silent or failures > 1:
            first_seconds = SUSPECT_SILENT_SECONDS if silent else SUSPECT_FIRST_SECONDS
            suspect_seconds = min(first_seconds * 2 ** min(failures - 1, 10), SUSPECT_SECONDS_MAX)
            self._suspect_until[url] = self._clock.elapsed_seconds() + suspect_seconds
        self.leave(url)

    def reached(self, url: str) -> None:
        """`url` answered something."""
        self._failures.pop(url, None)
        self._suspect_until.pop(url, None)

    def use(self, url: str) -> None:
        """`url` served what another gateway had passed on to it: ask it directly from now on."""
        if url not in self._urls and len(self._urls) < GATEWAYS_MAX:
            self._urls.append(url)
        if url in self._urls:
            self._current = url

    def learn(self, urls: Iterable[str]) -> None:
        """These are all gateways there are, as one of them says. Those that the app named stay in any case."""
        said = (url.rstrip("/") for url in urls if is_address(url))
        known = list(dict.fromkeys([*self._given, *said]))[:GATEWAYS_MAX]
        if self._current not in known:
            known = [*known[: GATEWAYS_MAX - 1], self._current]  # it serves, whatever others say
        self._urls = known
        self._failures = {url: count for url, count in self._failures.items() if url in known}
        self._suspect_until = {url: until for url, until in self._suspect_until.items() if url in known}


def is_address(url: str) -> bool:
    """Whether it can be the address of a gateway."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def base_of(url: str) -> str:
    """The gateway's address in the address of a request."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class Round:
    """The tries of one call: everybody once, then a pause, then everybody again."""

    def __init__(self, gateways: Gateways, retry: RetryPolicy, clock: Clock) -> None:
        self._gateways = gateways
        self._retry = retry
        self._clock = clock
        self._asked: set[str] = set()
        self._asked_to_wait: list[float] = []
        self._rounds = 0

    def next(self) -> str:
        """The gateway to ask now."""
        base = self._gateways.pick(self._asked) or self._gateways.current
        self._asked.add(base)
        return base

    def pause_seconds(self, error: MeridianError | None = None) -> float:
        """How long to wait before the next try, after one that failed with `error`, or left something open."""
        if isinstance(error, TryAgain) and error.retry_after_seconds is not None:
            self._asked_to_wait.append(error.retry_after_seconds)
        # A full log is full for everybody who asks there: going elsewhere would only carry the flood on.
        if not isinstance(error, Busy) and self._gateways.pick(self._asked) is not None:
            return 0.0
        asked_to_wait = min(self._asked_to_wait, default=None)
        self._rounds += 1
        self._asked.clear()
        self._asked_to_wait.clear()
        return self._retry.delay_seconds(self._rounds, self._clock.chance(), asked_to_wait)
