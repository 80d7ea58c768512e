"""What the studio is made of, and how it starts and ends."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from PIL import Image

from studio.adapter_files import AdapterFiles
from studio.catalogue import Catalogue
from studio.controls import CONTROLS_TOML, ControlMaker, Controls
from studio.database import Database
from studio.dispatcher import Dispatcher
from studio.downloads import Downloads
from studio.errors import InvalidRequest, ModelUnavailable
from studio.estimates import Estimates
from studio.folder import Folder
from studio.inputs import PREFIX, Inputs
from studio.job_store import JobStore
from studio.keeper import Keeper
from studio.library import Library
from studio.plans import Machine, Plan, pick_plan
from studio.progress import ProgressBoard, progress_of
from studio.request import GenerationRequest
from studio.settings import Settings
from studio.sketches import Sketches

ModelState = Literal["loading", "loaded", "unloaded"]

_OWNER = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""It names a folder, so it must be no path."""


class StudioParts:
    """Holds the parts, and what both sides ask of them."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self._folder = Folder(settings.data_dir)
        self._database = Database(settings.database_url or self._folder.database_url)
        self._store = JobStore(self._database)
        self._library = Library(self._database, self._folder.pictures)
        self._inputs = Inputs(self._folder.inputs)
        self.adapter_files = AdapterFiles(self._folder.adapters)
        self.controls = Controls.load(CONTROLS_TOML, settings)
        self.control_maker: ControlMaker | None = None
        self._board = ProgressBoard()
        self._estimates = Estimates(self._database, catalogue.schedulers)
        self._dispatcher = Dispatcher(settings, self._store, self._board, self._estimates)
        self._keeper = Keeper(self._library, self._dispatcher, self._estimates)
        self._model_states: dict[str, ModelState] = {}
        self.sketches = Sketches(settings.queue_limit, self._dispatcher.wake)
        self.downloads = Downloads()
        self._machine: Machine | None = None

    def start(self) -> None:
        """Recover from the last end, whatever it was, and begin to accept jobs.

        Raises:
            StorageFailed: the data folder cannot be used, or another server uses it.
        """
        self._folder.lock()
        self._library.sweep([job for job, _ in self._store.interrupted() if job.started_at])
        self._inputs.sweep(self._store.named_inputs())
        self._estimates.load()
        self._dispatcher.recover()
        self._keeper.start()

    def close(self) -> None:
        """Keep what was drawn, then let go of threads and files. Close the engine before."""
        self.sketches.close()
        self._dispatcher.close()
        self._keeper.close()
        self._dispatcher.release()
        self._database.close()
        self._folder.release()

    def default_request(self, model: str, prompt: str) -> GenerationRequest:
        """A request with the defaults of the model."""
        return self.catalogue.default_request(model, prompt)

    def image(self, picture_id: str, owner: str) -> Image.Image:
        """A picture that a request of this visitor may name, kept or brought; raises NotFound."""
        if picture_id.startswith(PREFIX):
            return self._inputs.open(picture_id, owner)
        with Image.open(self.find_image(picture_id, owner)) as image:
            return image.convert("RGB")

    def find_image(self, picture_id: str, owner: str) -> Path:
        """The file of a picture that a request may name, unopened; raises NotFound."""
        if picture_id.startswith(PREFIX):
            return self._inputs.find(picture_id, owner)
        return self._library.find(picture_id, owner).path

    def plan(self, model: str) -> Plan | None:
        """How this machine would hold a model; None until the engine has told what it has."""
        spec = self.catalogue.get_model(model)
        if self._machine is None or model in self.settings.model_paths:
            return None  # a folder of the host's holds what it holds: the loader counts that
        return pick_plan(spec, self._machine)

    def _check_room(self, model: str) -> None:
        plan = self.plan(model)
        if plan is not None and plan.holding == "none":
            title = self.catalogue.get_model(model).title
            raise ModelUnavailable(f"{title} is {plan.label}. Choose a smaller model.")

    def _publish(self, job_id: str, **changes: object) -> None:
        if job := self._dispatcher.live(job_id):
            before = self._board.get(job_id) or progress_of(job)
            self._board.publish(replace(before, state=job.state, **changes))  # type: ignore[arg-type]


def check_owner(owner: str) -> None:
    """Raise InvalidRequest if it is none."""
    if not _OWNER.fullmatch(owner):
        raise InvalidRequest("`owner` must be 1 to 64 letters, digits, - or _.")
