"""The facade: all that the page, the API and the engine ask of the studio."""

from __future__ import annotations

from dataclasses import replace

from studio.added_models import look_up, make_row
from studio.catalogue import Availability, Catalogue
from studio.engine_side import EngineSide
from studio.errors import InvalidRequest
from studio.live import LiveDrawing
from studio.model_shelf import ModelShelf
from studio.settings import Settings
from studio.visitor_jobs import VisitorJobs
from studio.visitor_pictures import VisitorPictures


class Studio(VisitorJobs, VisitorPictures, EngineSide):
    """Jobs and pictures of all visitors. Thread-safe; call `start` before anything else.

    Visitors are told apart by `owner`, a string of at most 64 letters, digits, - and _. What
    belongs to another owner is NotFound, as if it did not exist.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        super().__init__(settings, catalogue)
        self.live = LiveDrawing(self)
        self.shelf = ModelShelf(self)

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
