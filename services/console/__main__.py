"""`python -m services.console`: for containers; settings come from the `[console]` table and the environment."""

from services.common.process import main_exit, run_service
from services.console.server import serve
from services.console.settings import ConsoleSettings

if __name__ == "__main__":
    main_exit(run_service("console", [ConsoleSettings], serve))
