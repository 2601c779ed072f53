"""Whether this region may show effects now: asked immediately before each one, never earlier.

The same code runs in an active and in a passive region; only the gate differs, so that a promotion is a flag and not a
start. It answers with the reason, because "why do I get no rankings" is what an operator asks. A region that is alone
has an open gate with the epoch (0, 1). In a deployment the region's lease decides, and nothing has to happen for the
gate to shut: whoever asks compares the lease's deadline with the clock.
"""

from __future__ import annotations

from collections.abc import Callable

from services.common.clock import Clock
from services.controller.client import NO_EPOCH, Term
from services.processor.client import GateReport
from streams.asks import Epoch


class Gate:
    """Open or shut, with the epoch of the term under which effects are made, and until when they may be."""

    def __init__(self, epoch: Epoch, *, closed_because: str | None = None, valid_until_ms: int | None = None) -> None:
        self._epoch = epoch
        self._closed_because = closed_because
        self._valid_until_ms = valid_until_ms
        self.ended = False
        """Shut for good."""

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
        if self.ended:
            return
        self._epoch = epoch
        self._valid_until_ms = valid_until_ms
        self._closed_because = None

    def shut(self, because: str) -> None:
        """Let no effect out from now on."""
        if not self.ended:
            self._closed_because = because

    def end(self, because: str) -> None:
        """Shut it for good: nothing opens it again."""
        self.shut(because)
        self.ended = True

    def report(self, now_ms: int) -> GateReport:
        """What is shown to others."""
        blocker = self.blocker(now_ms)
        return GateReport(open=blocker is None, epoch=self._epoch, reason=blocker or "", markers_written=self.is_open)


class LeasedGate(Gate):
    """A gate that is open only within its region's term, and only once that term's markers are written.

    `term` is what the region's lease says now; `largest_epoch` the largest epoch that anybody is known to have had.
    """

    def __init__(self, term: Callable[[], Term], largest_epoch: Callable[[], Epoch], clock: Clock) -> None:
        super().__init__(NO_EPOCH, closed_because="no term of this region has begun")
        self._term = term
        self._largest_epoch = largest_epoch
        self._clock = clock

    def blocker(self, now_ms: int) -> str | None:
        """See Gate; the lease's deadline is on a clock that never jumps, so `now_ms` has no say."""
        if self.ended:
            return super().blocker(now_ms)
        term = self._term()
        if not term.active:
            return term.reason or "the region does not hold the lease"
        if self._largest_epoch() > term.epoch:
            return f"epoch {self._largest_epoch()} was seen, this region's term has only {term.epoch}"
        if self.is_open and term.epoch != self._epoch:
            return f"the markers of epoch {term.epoch} are not written yet"
        return super().blocker(now_ms)

    def valid_until_ms(self, wanted_ms: int) -> int:
        """See Gate; never beyond the lease's deadline."""
        left_ms = int((self._term().deadline - self._clock.boottime()) * 1000)
        return min(wanted_ms, self._clock.unix_ms() + left_ms)
