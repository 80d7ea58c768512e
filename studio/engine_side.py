"""The engine's side of the studio: which job comes next, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PIL import Image

from studio.attachments import NO_ATTACHMENTS
from studio.controls import ControlMaker
from studio.errors import NotFound
from studio.jobs import Job, JobState
from studio.parts import ModelState, StudioParts
from studio.pictures import Picture
from studio.plans import Machine
from studio.recipes import drawn_recipe


class EngineSide(StudioParts):
    """What the engine asks and tells; nothing of it is for visitors."""

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
