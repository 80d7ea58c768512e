"""POST /count: how long a prompt is for a model, asked while it is typed."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, Field
from studio.errors import UnknownModel
from studio.request import MAX_PROMPT_CHARACTERS
from studio.studio import Studio
from studio.token_count import TokenCounter


class Question(BaseModel):
    """A prompt, and by which model it will be read in which way."""

    prompt: str = Field(max_length=MAX_PROMPT_CHARACTERS)
    model: str = Field(max_length=300)
    prompt_syntax: str = Field(max_length=20)


def build_counting_routes(studio: Studio) -> APIRouter:
    """Build the route. It answers null where the model's tokenizer is not on this machine."""
    routes = APIRouter()
    counter = TokenCounter(studio.settings)

    @routes.post("/count")
    def count(question: Question) -> dict[str, int | bool] | None:
        try:
            spec = studio.catalogue.get_model(question.model)
        except UnknownModel:
            return None
        counted = counter.count(question.prompt, spec, question.prompt_syntax)
        return asdict(counted) if counted else None

    return routes
