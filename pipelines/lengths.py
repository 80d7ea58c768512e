"""What of its prompts a model never sees, for the visitor to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.prompts import is_weighed
from studio.prompt_syntax import parse_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pipelines.loader import LoadedModel
    from studio.request import GenerationRequest

SHOWN_CHARACTERS = 200
CLIP_TOKENIZERS = ("tokenizer", "tokenizer_2", "prior_tokenizer")
LONG_TOKENIZERS = ("tokenizer_3", "tokenizer_2", "tokenizer")
"""Names of the component that reads most; beside a T5 there may be a CLIP that reads less."""
CHATTING = ("Flux2KleinPipeline", "ZImagePipeline")
"""Classes for which a prompt is a turn of a chat: the words before it count too."""
INSTRUCTED = ("SanaPipeline", "SanaSprintPipeline")
"""Classes that put an instruction before the prompt, and leave two places of the length to it."""


def notes_on_prompts(loaded: LoadedModel, request: GenerationRequest) -> tuple[str, ...]:
    """What the visitor should know about how the model reads the two prompts."""
    texts = {"prompt": request.prompt, "negative prompt": request.negative_prompt}
    if not is_weighed(loaded.spec, request):
        return _notes_on_length(loaded, texts)
    is_changing = any(parse_prompt(text).is_changing for text in texts.values())
    if is_changing and loaded.spec.callback != "new":
        return ("This model keeps the words that it begins with: [from:to:when] needs another.",)
    return ()


def _notes_on_length(loaded: LoadedModel, texts: dict[str, str]) -> tuple[str, ...]:
    """One note for each prompt of which something is left out."""
    tokenizer = longest_tokenizer(loaded)
    if tokenizer is None:
        return ()
    limit = read_length(loaded, tokenizer)
    cuts = {name: cut_text(tokenizer, text, limit) for name, text in texts.items()}
    return tuple(
        f"The {name} is longer than the {limit} tokens that this model reads. Left out: "
        f"{_quote(cut)}"
        for name, cut in cuts.items()
        if cut
    )


def longest_tokenizer(loaded: LoadedModel) -> PreTrainedTokenizerBase | None:
    """The one that reads most of a prompt."""
    parts = getattr(loaded.pipeline, "components", {})
    names = CLIP_TOKENIZERS if loaded.spec.prompt_encoder == "clip" else LONG_TOKENIZERS
    return next((parts[name] for name in names if parts.get(name) is not None), None)


def read_length(loaded: LoadedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens of words the model reads: a CLIP says so itself, others are told."""
    is_clip = loaded.spec.prompt_encoder == "clip"
    limit = tokenizer.model_max_length if is_clip else loaded.spec.max_tokens
    return int(limit) - _tokens_beside(loaded.spec.pipeline_class, tokenizer)


def _tokens_beside(pipeline_class: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens that are no words of the prompt take a place within the length."""
    if pipeline_class in CHATTING:
        turn = tokenizer.apply_chat_template([{"role": "user", "content": "@"}], tokenize=False)
        return len(tokenizer(turn.partition("@")[0], add_special_tokens=False).input_ids)
    return 2 if pipeline_class in INSTRUCTED else int(tokenizer.num_special_tokens_to_add())


def cut_text(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> str:
    """Return the end of `text` that is beyond its first `limit` tokens, or ""."""
    places = {"return_offsets_mapping": True} if tokenizer.is_fast else {}
    said = tokenizer(text, add_special_tokens=False, verbose=False, **places)
    if len(said.input_ids) <= limit:
        return ""
    if not tokenizer.is_fast:
        return str(tokenizer.decode(said.input_ids[limit:])).strip()
    return text[said["offset_mapping"][limit][0] :].strip()


def _quote(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return f"“{text}”"
    hidden = len(text) - SHOWN_CHARACTERS
    return f"“{text[:SHOWN_CHARACTERS]}…” and {hidden:,} more characters"
