"""A model folder's tokenizer without its model: what the checks and the simulation need (no MLX)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .errors import UserError


def load(base_model: str) -> Any | None:
    """The Hugging Face fast tokenizer of a local model folder, with its chat template; None when there is no folder.

    Raises UserError when the folder's tokenizer cannot be read.
    """
    folder = Path(base_model).expanduser()
    if not (folder / "tokenizer.json").is_file():
        return None
    # Without PyTorch, which nothing here needs, transformers would say so on every start.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a bad tokenizer.json
        raise UserError(f"分词器无法读取: {folder} ({error})", "重新下载或复制完整的模型") from None
    template = folder / "chat_template.jinja"
    if tokenizer.chat_template is None and template.is_file():
        tokenizer.chat_template = template.read_text(encoding="utf-8")
    return tokenizer
