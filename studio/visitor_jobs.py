"""The visitor's jobs: what is asked for, how far it is, how it is stopped."""

from __future__ import annotations

import secrets
from dataclasses import replace

from studio.errors import InvalidRequest, NotFound
from studio.jobs import ENLARGED_BY, Enlargement, Job
from studio.parts import StudioParts, check_owner
from studio.progress import Progress, progress_of
from studio.request import MAX_SEED, RANDOM_SEED, GenerationRequest, check_kept_size


class VisitorJobs(StudioParts):
    """What a visitor does with jobs."""

    def submit(self, request: GenerationRequest, owner: str) -> Job:
        """Accept a request; the job is on disk when this returns.

        Raises:
            InvalidRequest: the model cannot do it (see `Catalogue.check`).
            NotFound: it names a picture that this visitor has not.
            QueueFull: too many jobs wait; says how many and how long.
            StorageFailed: the job could not be stored.
            ModelUnavailable: this machine cannot hold the model.
        """
        check_owner(owner)
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
        check_owner(owner)
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

    def seconds(self, request: GenerationRequest) -> float | None:
        """How long a request will take, from runs measured here; None until there were some."""
        return self._estimates.total_s(request)
