"""The facade: all that the page, the API and the engine ask of the studio."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from PIL import Image

from studio.adapter_files import AdapterFiles, KeptAdapter
from studio.added_models import look_up, make_row
from studio.attachments import NO_ATTACHMENTS
from studio.catalogue import Availability, Catalogue
from studio.controls import CONTROLS_TOML, ControlMaker, Controls
from studio.database import Database
from studio.dispatcher import Dispatcher
from studio.downloads import Downloads
from studio.errors import InvalidRequest, ModelUnavailable, NotFound
from studio.estimates import Estimates
from studio.folder import Folder
from studio.inputs import PREFIX, Inputs
from studio.job_store import JobStore
from studio.jobs import ENLARGED_BY, Enlargement, Job, JobState
from studio.keeper import Keeper
from studio.library import Library
from studio.live import LiveDrawing
from studio.model_shelf import ModelShelf
from studio.pictures import Picture
from studio.plans import Machine, Plan, pick_plan
from studio.progress import Progress, ProgressBoard, progress_of
from studio.readback import ReadRecipe, read_recipe
from studio.recipes import drawn_recipe
from studio.request import MAX_SEED, RANDOM_SEED, GenerationRequest, check_kept_size
from studio.settings import Settings
from studio.sketches import Sketches

ModelState = Literal["loading", "loaded", "unloaded"]

_OWNER = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""It names a folder, so it must be no path."""


class Studio:
    """Jobs and pictures of all visitors. Thread-safe; call `start` before anything else.

    Visitors are told apart by `owner`, a string of at most 64 letters, digits, - and _. What
    belongs to another owner is NotFound, as if it did not exist.
    """

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
        self.live = LiveDrawing(self)
        self.downloads = Downloads()
        self.shelf = ModelShelf(self)
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

    # The visitor's side

    def default_request(self, model: str, prompt: str) -> GenerationRequest:
        """A request with the defaults of the model."""
        return self.catalogue.default_request(model, prompt)

    def submit(self, request: GenerationRequest, owner: str) -> Job:
        """Accept a request; the job is on disk when this returns.

        Raises:
            InvalidRequest: the model cannot do it (see `Catalogue.check`).
            NotFound: it names a picture that this visitor has not.
            QueueFull: too many jobs wait; says how many and how long.
            StorageFailed: the job could not be stored.
            ModelUnavailable: this machine cannot hold the model.
        """
        _check_owner(owner)
        self.catalogue.check(request)
        spec = self.catalogue.get_model(request.model)
        self.controls.check(spec, request)
        self.adapter_files.check(spec, request, owner)
        self._check_room(request.model)
        for picture_id in request.pictures:
            self.find_image(picture_id, owner)
        if request.seed == RANDOM_SEED:
            request = request.with_seed(secrets.randbelow(MAX_SEED + 1))
        return self._dispatcher.accept(request, owner)

    def check_drawable(self, request: GenerationRequest, owner: str) -> None:
        """Refuse a sketch from words as `submit` refuses a job; raises what that does."""
        _check_owner(owner)
        self.catalogue.check(request)
        self._check_room(request.model)
        self._dispatcher.check_limits(owner)

    def enlarge(self, picture_id: str, owner: str) -> Job:
        """Accept a kept picture to be enlarged four times, as a job like any other.

        Raises:
            NotFound: there is no such picture.
            InvalidRequest: the result would be too large.
            QueueFull, StorageFailed: as `submit`.
        """
        picture = self._library.find(picture_id, owner)
        check_kept_size(ENLARGED_BY * picture.width, ENLARGED_BY * picture.height)
        wanted = Enlargement(picture_id=picture.id, width=picture.width, height=picture.height)
        return self._dispatcher.accept(picture.recipe.request, owner, wanted)

    def job(self, job_id: str, owner: str) -> Job:
        """One job; raises NotFound."""
        newer = self._dispatcher.in_memory(job_id)
        job = self._store.find(job_id, owner)
        if job is None:
            raise NotFound("There is no such job.")
        return replace(newer, picture_ids=job.picture_ids) if newer else job

    def jobs(self, owner: str, active_only: bool = False, limit: int | None = 50) -> list[Job]:
        """Jobs, newest first; a limit of None is all of them."""
        newer = self._dispatcher.all_in_memory()
        found = [
            replace(newer[job.id], picture_ids=job.picture_ids) if job.id in newer else job
            for job in self._store.newest(owner, active_only, limit)
        ]
        return [job for job in found if job.is_active or not active_only]

    def cancel(self, job_id: str, owner: str) -> Job:
        """Stop a job: at once if it waits, within one step if it runs. Raises NotFound."""
        self.job(job_id, owner)
        self._dispatcher.cancel(job_id)
        return self.job(job_id, owner)

    def retry(self, job_id: str, owner: str) -> Job:
        """Submit the request of a finished job again, seed included."""
        job = self.job(job_id, owner)
        if job.is_active:
            raise InvalidRequest("This job is not finished yet, so it cannot be tried again.")
        if job.enlargement is not None:
            return self.enlarge(job.enlargement.picture_id, owner)
        return self.submit(job.request, owner)

    def progress(self, job_id: str, owner: str) -> Progress:
        """How far a job is, finished ones included; raises NotFound."""
        live = self._dispatcher.live(job_id)
        if live is not None and live.owner == owner:
            progress = self._board.get(job_id)
            if progress is not None:
                return self._with_eta(progress)
        return progress_of(self.job(job_id, owner))

    def look(self, job_id: str, owner: str) -> Progress:
        """The same for somebody who shows the previews: they are drawn only then."""
        return self.wait_for_change(job_id, owner, after_version=-1, timeout_s=0)

    def wait_for_change(
        self, job_id: str, owner: str, after_version: int, timeout_s: float
    ) -> Progress:
        """Block until a job's progress differs from `after_version`, or time is up.

        A finished job is told at once. Raises NotFound.
        """
        live = self._dispatcher.live(job_id)
        if live is not None and live.owner == owner:
            progress = self._board.wait_for_change(job_id, after_version, timeout_s)
            if progress is not None:
                return self._with_eta(progress)
        return progress_of(self.job(job_id, owner))

    def _with_eta(self, progress: Progress) -> Progress:
        return replace(progress, eta_s=self._dispatcher.eta_s(progress))

    def pictures(self, owner: str, limit: int = 60, offset: int = 0) -> list[Picture]:
        """Kept pictures, newest first."""
        return self._library.newest(owner, limit, offset)

    def picture(self, picture_id: str, owner: str) -> Picture:
        """One kept picture; raises NotFound."""
        return self._library.find(picture_id, owner)

    def delete_picture(self, picture_id: str, owner: str) -> None:
        """Hide a picture; `restore_picture` undoes it for a day. Raises NotFound."""
        self._library.delete(picture_id, owner)

    def restore_picture(self, picture_id: str, owner: str) -> Picture:
        """Undo `delete_picture`; raises NotFound."""
        self._library.restore(picture_id, owner)
        return self._library.find(picture_id, owner)

    def keep_input(self, picture: bytes | Path | Image.Image, owner: str) -> str:
        """Keep a picture that a visitor brings, for requests to name; return its id.

        Raises:
            InvalidRequest: it is no picture, or too large.
            StorageFailed: the disk did not take it.
        """
        _check_owner(owner)
        return self._inputs.keep(picture, owner)

    def input_path(self, picture_id: str, owner: str) -> Path | None:
        """The PNG of a picture that this visitor brought; None if there is none."""
        return self._inputs.path(picture_id, owner)

    def keep_adapter(self, file: Path, name: str, owner: str) -> KeptAdapter:
        """Keep a LoRA or an embedding that a visitor brings, for requests to name.

        Raises:
            InvalidRequest: it is none, damaged, a pickle, or too much.
            StorageFailed: the disk did not take it.
        """
        _check_owner(owner)
        return self.adapter_files.keep(file, name, owner)

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

    def read_settings(self, file: Path | bytes) -> ReadRecipe:
        """The settings that a PNG of Croquis or of another program carries.

        Raises:
            InvalidRequest: it is no PNG, or it is too large or broken.
        """
        return read_recipe(file, self.catalogue)

    def availability(self, model: str) -> Availability:
        """Where a model stands: loaded, on disk, to be downloaded; how it is held, how fast."""
        stands = self.catalogue.availability(model, self._model_states)
        plan, said = self.plan(model), []
        if plan is not None and plan.label:
            said.append(plan.label)
        seconds = self._estimates.total_s(self.default_request(model, "any"))
        if seconds is not None:
            said.append(f"about {seconds:.1f} s a picture here")
        return replace(stands, note="; ".join(said))

    def add_model(self, typed: str) -> str:
        """Know a model by its Hub id or its folder; return its key. Takes seconds.

        Raises:
            InvalidRequest: what was typed is neither, or visitors may not add models here.
            ModelUnavailable: there is no such model, or Croquis cannot draw with it.
            StorageFailed: it could not be remembered.
        """
        self.shelf.check_open()
        if not isinstance(typed, str):
            raise InvalidRequest("Type a model as owner/name, or the whole path of a folder.")
        here = [row for row in self.catalogue.models.values() if row.backend != "hosted"]
        for row in here:
            if typed.strip() in row.also_called:  # its former home on the Hub is empty
                return row.key
        source, card = look_up(typed, self.settings)
        for row in here:
            if source in (*row.sources, row.folder):
                return row.key
        row = make_row(source, card, self.catalogue.models)
        self.catalogue.add(row)
        return row.key

    def seconds(self, request: GenerationRequest) -> float | None:
        """How long a request will take, from runs measured here; None until there were some."""
        return self._estimates.total_s(request)

    def plan(self, model: str) -> Plan | None:
        """How this machine would hold a model; None until the engine has told what it has."""
        spec = self.catalogue.get_model(model)
        if self._machine is None or model in self.settings.model_paths:
            return None  # a folder of the host's holds what it holds: the loader counts that
        return pick_plan(spec, self._machine)

    # The engine's side

    def take(
        self, timeout_s: float, may_take: Callable[[Job], bool] = lambda job: True
    ) -> Job | None:
        """Wait for the next job; None when time is up. Several may be under way.

        `may_take` is asked about those that wait, in their order; it must not wait itself.

        Raises:
            StorageFailed: that it was taken could not be stored; it still waits.
        """
        job = self._dispatcher.take(timeout_s, may_take)
        if job is not None:
            self._estimates.begin(job.id, job.work)
        return job

    def is_cancelled(self, job_id: str) -> bool:
        """Whether to stop drawing: the visitor said so, or keeping a picture has failed."""
        return self._dispatcher.is_stopped(job_id)

    def is_watched(self, job_id: str) -> bool:
        """Whether somebody follows the job now: nobody else needs previews."""
        return self._board.is_watched(job_id)

    def kept_indices(self, job_id: str) -> set[int]:
        """Pictures that need not be drawn again."""
        return self._library.kept_indices(job_id)

    def set_control_maker(self, maker: ControlMaker) -> None:
        """Learn how control pictures are made, to show one before it is followed."""
        self.control_maker = maker

    def set_machine(self, machine: Machine) -> None:
        """Note what there is to hold models in."""
        self._machine = machine

    def set_model_state(self, model: str, state: ModelState) -> None:
        """Note whether the engine holds a model, and learn how long loading takes."""
        self._model_states[model] = state
        self._estimates.on_model_state(model, state)

    def report_loading(self, job_id: str, message: str) -> None:
        """Show why the job does not draw yet."""
        self._estimates.on_loading(job_id)
        self._publish(job_id, message=message)

    def report_step(
        self,
        job_id: str,
        step: int,
        total_steps: int,
        image_index: int,
        preview: bytes | None,
        batch: int = 1,
    ) -> None:
        """Show a step of the `batch` pictures from `image_index` on.

        A preview of None leaves the last one of this picture standing.
        """
        self._estimates.on_step(job_id, step, image_index, batch)
        self._dispatcher.mark_running(job_id)
        before = self._board.get(job_id)
        if preview is None and before is not None and before.image_index == image_index:
            preview = before.preview
        self._publish(
            job_id,
            step=step,
            total_steps=total_steps,
            image_index=image_index,
            batch=batch,
            part=0,
            parts=0,
            preview=preview,
            message="",
        )

    def report_enlarging(
        self, job_id: str, part: int, parts: int, image_index: int, preview: bytes
    ) -> None:
        """Show how many parts of a drawn picture are enlarged; its steps stand at the last one."""
        if before := self._board.get(job_id):
            batch = max(1, before.image_index + before.batch - image_index)
            place = {"image_index": image_index, "batch": batch, "step": before.total_steps}
            self._publish(job_id, part=part, parts=parts, preview=preview, **place)

    def add_note(self, job_id: str, text: str) -> None:
        """Leave the visitor a word about the job, such as what was cut from the prompt."""
        self._dispatcher.add_note(job_id, text)

    def keep(
        self,
        job_id: str,
        index: int,
        image: Image.Image,
        revision: str,
        versions: Mapping[str, str],
        attachments: Mapping[str, bytes] = NO_ATTACHMENTS,
    ) -> None:
        """Encode and store a picture soon, on another thread; a failure fails the job.

        `attachments` are files that are kept beside it, by suffix.
        """
        if job := self._dispatcher.live(job_id):
            recipe = drawn_recipe(self.catalogue, job, index, revision, versions)
            self._keeper.keep(job, image, recipe, attachments)

    def images_of(self, job: Job) -> dict[str, Image.Image]:
        """The pictures that a job's request names, by their ids there.

        Raises:
            NotFound: one was deleted since.
        """
        try:
            return {name: self.image(name, job.owner) for name in job.request.pictures}
        except NotFound as exc:
            raise NotFound("A picture that this starts from was deleted before its turn.") from exc

    def parent(self, job: Job) -> Picture:
        """The picture that a job enlarges; raises NotFound if it was deleted since."""
        try:
            return self._library.find(
                job.enlargement.picture_id if job.enlargement else "", job.owner
            )
        except NotFound as exc:
            raise NotFound("The picture was deleted before it could be enlarged.") from exc

    def keep_enlarged(self, job_id: str, image: Image.Image) -> None:
        """Like `keep`, for the one picture of an enlargement; raises NotFound as `parent` does."""
        if job := self._dispatcher.live(job_id):
            parent = self.parent(job)
            self._keeper.keep(job, image, parent.recipe.enlarged_from(parent.id))

    def finish(self, job_id: str) -> None:
        """All pictures of the job were handed to `keep`."""
        self._keeper.settle(job_id, JobState.DONE)

    def cancelled(self, job_id: str) -> None:
        """The engine stopped the job because `is_cancelled`."""
        self._keeper.settle(job_id, JobState.CANCELLED)

    def fail(self, job_id: str, error: Exception) -> None:
        """The engine could not do it; what is no CroquisError is a bug and is logged."""
        self._keeper.fail(job_id, error)

    def _check_room(self, model: str) -> None:
        plan = self.plan(model)
        if plan is not None and plan.holding == "none":
            title = self.catalogue.get_model(model).title
            raise ModelUnavailable(f"{title} is {plan.label}. Choose a smaller model.")

    def _publish(self, job_id: str, **changes: object) -> None:
        if job := self._dispatcher.live(job_id):
            before = self._board.get(job_id) or progress_of(job)
            self._board.publish(replace(before, state=job.state, **changes))  # type: ignore[arg-type]


def _check_owner(owner: str) -> None:
    if not _OWNER.fullmatch(owner):
        raise InvalidRequest("`owner` must be 1 to 64 letters, digits, - or _.")
