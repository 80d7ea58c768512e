"""Says in words why no source of a model would do."""

from __future__ import annotations

from collections.abc import Mapping

from studio.model_files import Unusable
from studio.model_store import page_of, snapshot


def refusal(title: str, failures: Mapping[str, Exception]) -> str:
    """Why no source would do; `failures` is what each raised."""
    from huggingface_hub.errors import GatedRepoError

    causes = "; ".join(f"{source}: {_cause(exc, source)}" for source, exc in failures.items())
    if all(isinstance(exc, GatedRepoError) for exc in failures.values()):
        pages = " or ".join(map(page_of, failures))
        return (
            f"{title} is gated: accept its licence at {pages} with an account of yours, and set "
            f"`CROQUIS_HF_TOKEN` to a token of that account."
        )
    if any(isinstance(exc, Unusable) for exc in failures.values()):
        return f"{title} cannot be used as it is on the Hub. Tried {causes}."
    return (
        f"{title} is not on this machine and could not be downloaded. Either it was removed "
        f"from the Hub, or it is gated (accept its licence there and set `CROQUIS_HF_TOKEN`), or "
        f"there is no connection. Tried {causes}."
    )


def _cause(error: Exception, source: str) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, Unusable):
        return str(error)
    if isinstance(error, GatedRepoError):
        return f"gated, accept its licence at {page_of(source)}"
    if isinstance(error, RepositoryNotFoundError):
        return "removed, or private"
    if isinstance(error, RevisionNotFoundError):
        return "this revision was removed"
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return f"the Hub answered {error.response.status_code}"
    return "only partly on disk, and no connection" if snapshot(source) else "no connection"
