"""`make test`: the quick tests and those on real servers, side by side.

Tests on real servers mostly wait (a broker starts, a lease runs out) and use little more than half a core; the quick
ones only compute. Beside each other they take as long as the longer part. The quick part yields to the other one
(nice), because deadlines of real servers are real.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

SERVERS = ("tests/integration", "tests/e2e")
QUICK = ("tests", *(f"--ignore={place}" for place in SERVERS))
CHOSEN = ("-m", "not slow and not docker")
NOTHING_CHOSEN = 5
"""Pytest's exit code when no test was selected: here, a part that was renamed."""


def main() -> int:
    """Run both parts; 0 when both pass. What the quick part says comes in one piece when it has ended."""
    pytest = [sys.executable, "-m", "pytest", *CHOSEN, *sys.argv[1:]]
    with tempfile.TemporaryDirectory(prefix="meridian-tests-") as directory:
        said = Path(directory) / "quick"
        with said.open("wb") as output:
            quick = subprocess.Popen(["nice", "-n", "10", *pytest, *QUICK], stdout=output, stderr=subprocess.STDOUT)
        print("the quick tests run beside these; what they say comes when they have ended", flush=True)
        telling = threading.Thread(target=_tell, args=(quick, said))
        telling.start()
        try:
            servers = subprocess.call([*pytest, *SERVERS])
            telling.join()
        except KeyboardInterrupt:
            quick.terminate()
            telling.join()
            return 130
    print(f"quick tests: {_word(quick.returncode)}; tests on real servers: {_word(servers)}")
    return max(quick.returncode, servers)


def _tell(quick: subprocess.Popen[bytes], said: Path) -> None:
    quick.wait()
    sys.stdout.buffer.write(b"\n" + said.read_bytes())
    sys.stdout.flush()


def _word(code: int) -> str:
    return {0: "passed", NOTHING_CHOSEN: "none was found"}.get(code, f"failed ({code})")


if __name__ == "__main__":
    sys.exit(main())
