"""Whether this region may show effects now: asked immediately before each one, never earlier.

The same code runs in an active and in a passive region; only the gate differs, so that a promotion is a flag and not a
start. It answers with the reason, because "why do I get no rankings" is what an operator asks. A region that is
alone has an open gate with the epoch (0, 1); an election will set epoch and deadline.
"""

from streams.asks import Epoch


class Gate:
    """Open or shut, with the epoch of the term under which effects are made, and until when they may be."""

    def __init__(self, epoch: Epoch, *, closed_because: str | None = None, valid_until_ms: int | None = None) -> None:
        self._epoch = epoch
        self._closed_because = closed_because
        self._valid_until_ms = valid_until_ms

    @property
    def epoch(self) -> Epoch:
        """The epoch that every effect carries."""
        return self._epoch

    @property
    def is_open(self) -> bool:
        """Whether it was opened; a deadline may still have passed."""
        return self._closed_because is None

    def blocker(self, now_ms: int) -> str | None:
        """Why no effect may be shown at `now_ms`; None when it may."""
        if self._closed_because is not None:
            return self._closed_because
        if self._valid_until_ms is not None and now_ms >= self._valid_until_ms:
            return f"the term of epoch {self._epoch} ended {now_ms - self._valid_until_ms} ms ago"
        return None

    def valid_until_ms(self, wanted_ms: int) -> int:
        """Until when an effect may be shown that would like to be shown until `wanted_ms`."""
        return wanted_ms if self._valid_until_ms is None else min(wanted_ms, self._valid_until_ms)

    def open(self, epoch: Epoch, valid_until_ms: int | None) -> None:
        """Let effects out under `epoch`. Raises ValueError for an epoch that lies behind."""
        if epoch < self._epoch:
            raise ValueError(f"the gate was open under epoch {self._epoch}; it cannot go back to {epoch}")
        self._epoch = epoch
        self._valid_until_ms = valid_until_ms
        self._closed_because = None

    def shut(self, because: str) -> None:
        """Let no effect out from now on."""
        self._closed_because = because
