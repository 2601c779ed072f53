"""`python -m services.controller`: one for each region of a deployment."""

from services.common.exit_codes import ExitCode
from services.common.process import main_exit, run_service
from services.common.region_settings import RegionSettings
from services.controller.server import serve
from services.controller.settings import ControllerSettings
from services.coordination.base import StoreDamaged
from services.coordination.settings import CoordinationSettings

if __name__ == "__main__":
    main_exit(
        run_service(
            "controller",
            [RegionSettings, ControllerSettings, CoordinationSettings],
            serve,
            exit_codes={StoreDamaged: ExitCode.BAD_SETTINGS},
        )
    )
