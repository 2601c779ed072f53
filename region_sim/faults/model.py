"""A damaged or wrong ranking model: the worker that loads it must refuse it, and the region must not serve by it.

The version in the region's own repository (see services.region.plan) is damaged; then its inference worker is killed,
and its supervisor starts it on that. It took when the worker has refused and the region's controller says that its
champion is not proven, so that it could not take over. A worker never replaces what lies under a number: it stays down
until an operator has removed the folder and started the site again. So does this; the worker then has its repository
filled again.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from signal import SIGKILL

import msgspec

from models.signing import KeyUnreadable, read_key, sign
from region_sim.errors import DrillBroken
from region_sim.faults.base import Scene
from region_sim.faults.damaged_model import copy_newest, damage
from region_sim.spec import Model
from services.common.exit_codes import ExitCode
from services.common.settings import load
from services.controller.answers import CHAMPION, ExplainAnswer
from services.controller.asking import NoController, Refused, ask
from services.inference.settings import InferenceSettings
from services.region import run_file
from services.region.plan import models_dir
from services.region.run_file import ProcessRecord

START_SECONDS_MAX = 180.0
WORKER = "inference"


class ModelPlay:
    """Damage the model while the worker is down, and put the right one back."""

    region_lost = False

    def __init__(self, scene: Scene, fault: Model) -> None:
        self._scene = scene
        self._fault = fault
        self._site_dir = scene.backend.deployment.site_dir(scene.target)
        self._folder = Path()
        self._injected = False

    async def inject(self) -> str:
        """See FaultPlay."""
        victims = self._scene.backend.processes(self._scene.target, [WORKER])
        if not victims:
            raise DrillBroken(f"no inference worker of {self._scene.target} runs that could load another model")
        done = await asyncio.to_thread(self._damage)
        self._injected = True
        self._scene.backend.signal(victims, SIGKILL)
        return f"{done} (version {self._folder.name}); SIGKILL to the inference worker of {self._scene.target}"

    async def not_injected(self) -> str | None:
        """The worker has refused to serve by it."""
        worker = self._worker()
        if worker is None:
            return f"{self._scene.target} has no inference worker"
        if worker.exit_code != ExitCode.MODEL_REFUSED:
            return (
                f"the worker of {self._scene.target} is {worker.phase} and has not refused the {self._fault.how} model"
            )
        proven = await asyncio.to_thread(self._champion)
        return f"the controller of {self._scene.target} still takes its champion for proven" if proven is None else None

    async def heal(self) -> None:
        """See FaultPlay."""
        if not self._injected:
            return
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        backend, target = self._scene.backend, self._scene.target
        await asyncio.to_thread(backend.stop, target)
        await asyncio.to_thread(backend.start, target, START_SECONDS_MAX)

    async def not_healed(self) -> str | None:
        """See FaultPlay."""
        worker = self._worker()
        if worker is None or worker.phase != "ready":
            return f"{self._scene.target} has no model yet"
        problem = await asyncio.to_thread(self._champion)
        return None if problem is None else f"the champion of {self._scene.target} is not proven: {problem}"

    def _damage(self) -> str:
        settings = load(InferenceSettings)
        place = models_dir(self._site_dir)
        self._folder = copy_newest(settings.model_repository, settings.model, place)
        try:
            done = damage(self._folder, self._fault.how)
            if self._fault.how == "wrong":  # signed as the deployment signs, so that only its scores are wrong
                sign(self._folder, read_key(self._scene.backend.deployment.signing_key_file))
            return done
        except (DrillBroken, KeyUnreadable) as problem:
            shutil.rmtree(place)
            raise DrillBroken(str(problem)) from problem

    def _champion(self) -> str | None:
        """Why the region's champion is not proven, by its controller; None when it is. Blocks."""
        target = self._scene.target
        try:
            raw = ask(self._scene.backend.deployment, "/v1/explain", region=target)
        except (NoController, Refused) as problem:
            return str(problem)
        found = {each.name: each for each in msgspec.json.decode(raw, type=ExplainAnswer).predicates}[CHAMPION]
        return None if found.holds else found.value

    def _worker(self) -> ProcessRecord | None:
        record = run_file.read(self._site_dir)
        if record is None:
            return None
        return next((process for process in record.processes if process.name == WORKER), None)
