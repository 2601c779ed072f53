"""Where results go: made before anything runs, so that nobody learns at the end that nothing could be kept."""

from __future__ import annotations

import os
from pathlib import Path

from region_sim.errors import BadDrill


def made(directory: Path, *, anew: bool = False) -> Path:
    """Make a directory for results, if need be, and return it; with `anew` it must not be there. Raises BadDrill."""
    try:
        directory.mkdir(parents=True, exist_ok=not anew)
    except OSError as error:
        raise BadDrill(
            f"results cannot be written to {directory}: {error.strerror}. Name another place with --out"
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise BadDrill(f"results cannot be written to {directory}: not allowed. Name another place with --out")
    return directory
