"""Tokenizers and text encoders of tiny transformer checkpoints: T5, Qwen and Gemma.

The tokenizers are those of the Hub's repositories with a vocabulary of bytes, or of a few pieces.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

HIDDEN = 16
"""Numbers per token of each of these text encoders."""
T5_PIECES = 60
SPIECE_MODEL = "spiece.model"

INSTRUCTED_WORDS = (
    "system|Describe| the| image| by| detailing| color| shape| size| texture| quantity| text"
    "| spatial| relationships| of| objects| and| background|user|assistant"
)
"""Words around each prompt of Qwen-Image. It leaves out the 34 tokens before the prompt, so each
of these is one token here too."""

TEXTS = (
    "a red fox in the snow beside a blue chair",
    "the quick brown dog jumps over many lazy cats",
    "blurry, ugly; 0123456789. vw xyz!",
)
"""What the pieces of T5's tokenizer are learnt from."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
"""The part of Qwen3's chat template that prompts meet."""


def t5_tokenizer(folder: Path) -> T5TokenizerFast:
    """T5's tokenizer, read from the `spiece.model` that this leaves in `folder`.

    PixArt's repository has that file alone: it takes both `sentencepiece` and `protobuf` to read.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=T5_PIECES,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPIECE_MODEL).write_bytes(model.getvalue())
    return T5TokenizerFast.from_pretrained(folder, extra_ids=0, model_max_length=512)


def t5_encoder() -> T5EncoderModel:
    """T5's encoder of two layers; its activation is that of version 1.1."""
    config = T5Config(
        vocab_size=T5_PIECES + 4,
        d_model=HIDDEN,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    return T5EncoderModel(config).eval()


def qwen_tokenizer() -> Qwen2Tokenizer:
    """One token for each byte, the marks of a chat, and its words; pads at its right end."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    made = Qwen2Tokenizer(vocab=vocabulary, model_max_length=2048, padding_side="right")
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.add_tokens(INSTRUCTED_WORDS.split("|"))
    made.chat_template = CHATML
    return made


def qwen3(layers: int = 3) -> Qwen3Model:
    """Qwen3 without a head, as Z-Image has it."""
    return Qwen3Model(_qwen3_config(layers)).eval()


def qwen3_for_texts() -> Qwen3ForCausalLM:
    """Qwen3 with a head; FLUX.2 klein looks into its layers 9, 18 and 27."""
    return Qwen3ForCausalLM(_qwen3_config(layers=27)).eval()


def _qwen3_config(layers: int) -> Qwen3Config:
    return Qwen3Config(**_sizes(), num_hidden_layers=layers, tie_word_embeddings=True)


def qwen_that_sees() -> Qwen2_5_VLForConditionalGeneration:
    """Qwen2.5-VL, whose eyes Qwen-Image does not use for texts."""
    config = Qwen2_5_VLConfig(
        text_config={
            **_sizes(),
            "num_hidden_layers": 2,
            "bos_token_id": None,
            "eos_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [1, 1, 2],
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": HIDDEN,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": HIDDEN,
            "fullatt_block_indexes": [0],
        },
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def _sizes() -> dict[str, Any]:
    return {
        "vocab_size": 288,
        "hidden_size": HIDDEN,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 2048,
    }


def gemma_tokenizer() -> GemmaTokenizer:
    """Gemma's marks, and a token for each byte, which it falls back to where a word is unknown."""
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    words = [*marks, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    return GemmaTokenizer(vocab={word: index for index, word in enumerate(words)})


def gemma2() -> Gemma2Model:
    """Gemma 2 of two layers."""
    return Gemma2Model(Gemma2Config(**_sizes(), num_hidden_layers=2)).eval()
