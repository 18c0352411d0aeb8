"""Answers from a model, many at a time, and the switch that turns an adapter off and on in one loaded base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import BatchGenerator
from mlx_lm.sample_utils import make_sampler

from .errors import UserError
from .model import Base

Turns = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Decoding:
    """How answers are decoded; temperature 0 is greedy, otherwise ``seed`` fixes the draw."""

    max_tokens: int = 300
    temperature: float = 0.0
    seed: int = 0
    batch_size: int = 8


def generate(
    base: Base,
    conversations: Sequence[Turns],
    decoding: Decoding,
    on_finished: Callable[[], None] = lambda: None,
) -> list[str]:
    """One answer for each conversation (turns ``{"role", "content"}``, the last from the user), in order.

    ``on_finished`` is called once an answer. Raises UserError when the chat template refuses a conversation.
    """
    if not conversations:
        return []
    prompts = [_prompt(base.tokenizer, turns) for turns in conversations]
    mx.random.seed(decoding.seed)
    generator = BatchGenerator(
        base.model,
        stop_tokens=[[token] for token in sorted(_stop_tokens(base))],
        sampler=make_sampler(decoding.temperature),
        completion_batch_size=decoding.batch_size,
        prefill_batch_size=decoding.batch_size,
    )
    try:
        order = generator.insert(prompts, [decoding.max_tokens] * len(prompts))
        tokens: dict[int, list[int]] = {uid: [] for uid in order}
        while responses := generator.next_generated():
            for response in responses:
                if response.finish_reason != "stop":
                    tokens[response.uid].append(response.token)
                if response.finish_reason is not None:
                    on_finished()
    finally:
        generator.close()
    return [base.tokenizer.decode(tokens[uid], skip_special_tokens=True).strip() for uid in order]


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Inside the block ``model`` answers as its base does: every LoRA module's scale is 0."""
    modules = [m for _, m in model.named_modules() if "lora_a" in m and "lora_b" in m]
    scales = [m.scale for m in modules]
    for module in modules:
        module.scale = 0.0
    try:
        yield
    finally:
        for module, scale in zip(modules, scales, strict=True):
            module.scale = scale


def adapter_is_zero(model: nn.Module) -> bool:
    """True when the attached adapter changes nothing, i.e. every lora_b (or every lora_a) is all zeros."""
    return all(
        not mx.any(module.lora_b).item() or not mx.any(module.lora_a).item()
        for _, module in model.named_modules()
        if "lora_a" in module and "lora_b" in module
    )


def _prompt(tokenizer: Any, turns: Turns) -> list[int]:
    try:
        # Models that can think aloud are asked not to; templates without that switch ignore it.
        text = tokenizer.apply_chat_template(
            list(turns), add_generation_prompt=True, tokenize=False, enable_thinking=False
        )
    except Exception as error:  # jinja raises its own kinds, and templates raise through it
        raise UserError(f"模型的聊天模板不接受这段对话: {error}", "换用带聊天模板的模型") from None
    return tokenizer.encode(text, add_special_tokens=False)


def _stop_tokens(base: Base) -> set[int]:
    eos = base.config.get("eos_token_id", [])
    found = set(eos if isinstance(eos, list) else [eos]) | {base.tokenizer.eos_token_id}
    return {token for token in found if token is not None}
