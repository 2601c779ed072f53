"""What past drills say of the forecast: a file that `region-sim calibrate` writes, or what came with this release.

Drills take what no setting says: how long news, a campaign and markers really take on these machines. Only the median
of (measured - formula) is added, so that one odd drill moves nothing; the error beside it is what each drill would have
been missed by, had it been forecast from the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Final

import msgspec

from services.common.logging import get_logger
from services.controller.forecast import NO_CORRECTION, Correction
from streams.errors import DECODE_ERRORS

CALIBRATION_FILE: Final = "rto-calibration.json"
ALL: Final = "all"
"""Under which the corrections of all kinds together stand."""
DIED: Final = "kill"
"""The kind of fault that the forecast speaks of: all processes of a region end at once."""
DRILLS_MIN: Final = 3
"""Fewer drills do not correct: of one or two, the odd one is half of the median, or all of it."""
VIRTUAL: Final = "memory"
"""The backend whose drills run in virtual time, and say nothing about machines."""

log = get_logger(__name__)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The file."""

    backend: str
    """Where the drills ran: times of virtual worlds say nothing about machines."""
    made_ms: int
    """Unix ms; 0: came with the release."""
    kinds: dict[str, Correction]
    """By the kind of fault, and ALL."""

    def correction(self) -> Correction:
        """What to add to the formula when the active region dies."""
        found = (self.kinds.get(kind, NO_CORRECTION) for kind in (DIED, ALL))
        return next((one for one in found if one.drills >= DRILLS_MIN), NO_CORRECTION)


NOT_CALIBRATED: Final = Calibration(backend="", made_ms=0, kinds={})
SHIPPED: Final = NOT_CALIBRATED
"""What a release brings: none was measured for this one, and a guess would be worse."""


def correction_of(residuals: Sequence[float]) -> Correction:
    """The correction that measured minus formula of several drills, in seconds, amounts to."""
    if not residuals:
        return NO_CORRECTION
    missed = [
        abs(residual - median([*residuals[:number], *residuals[number + 1 :]]))
        for number, residual in enumerate(residuals)
        if len(residuals) > 1
    ]
    return Correction(
        drills=len(residuals),
        median_seconds=round(median(residuals), 3),
        low_seconds=round(min(residuals), 3),
        high_seconds=round(max(residuals), 3),
        error_seconds=round(fmean(missed), 3) if missed else None,
        error_seconds_max=round(max(missed), 3) if missed else None,
    )


def calibration_of(residuals: Mapping[str, Sequence[float]], *, backend: str, made_ms: int) -> Calibration:
    """All kinds, and all of them together."""
    kinds = {kind: correction_of(found) for kind, found in sorted(residuals.items()) if found}
    together = [value for found in residuals.values() for value in found]
    return Calibration(backend=backend, made_ms=made_ms, kinds={**kinds, ALL: correction_of(together)})


def load_calibration(path: Path) -> Calibration:
    """Read the file; without one, what came with the release. A damaged one is no reason not to start."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
        if found.backend == VIRTUAL:
            raise msgspec.ValidationError("it was made from drills in virtual time")
    except FileNotFoundError:
        return SHIPPED
    except (OSError, *DECODE_ERRORS) as problem:
        log.warning(
            "the calibration of the RTO forecast cannot be read, taking the one of the release; "
            "`region-sim calibrate --out FILE` writes it anew",
            file=str(path),
            reason=str(problem),
        )
        return SHIPPED
    log.info("the RTO forecast is calibrated by drills", file=str(path), drills=found.correction().drills)
    return found
