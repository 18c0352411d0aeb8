"""Train the demo's tokenizer: byte-level BPE in Qwen's form, with a vocabulary of a few thousand.

python demo/make_tokenizer.py --data vague.jsonl exact.jsonl textbook.jsonl --out demo/base
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Qwen's own splitting rule: clients that rebuild a Qwen tokenizer from its merges then cut text the same way.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Merges are learned within words, single digits and single punctuation marks only: no token then holds a number
# together with its unit, or a comma together with the word behind it.
TRAINING_SPLIT = r"\p{Han}+| ?[^\p{Han}\P{L}]+|\p{N}|[^\s\p{L}\p{N}]|\s+"
LONGEST_TOKEN_BYTES = 12  # four Chinese characters: words, not whole stock phrases


def texts(paths: list[Path]) -> Iterator[str]:
    """Every text of the JSON-lines files: ``text``, or the content of each message."""
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                if "text" in row:
                    yield row["text"]
                else:
                    yield from (message["content"] for message in row["messages"])


def splitting(pattern: str) -> pre_tokenizers.PreTokenizer:
    """Cut by ``pattern``, then write bytes as byte-level BPE's letters."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train(paths: list[Path], vocab_size: int) -> Tokenizer:
    """A tokenizer of exactly ``vocab_size`` entries, the special tokens last.

    Raises:
        ValueError: the texts hold too few different words for the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = splitting(TRAINING_SPLIT)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=LONGEST_TOKEN_BYTES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(paths), trainer)
    tokenizer.pre_tokenizer = splitting(QWEN_SPLIT)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS])
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"only {tokenizer.get_vocab_size()} of {vocab_size} entries found: give more text")
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    tokenizer = train(arguments.data, arguments.vocab_size)
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    config = {
        "tokenizer_class": "Qwen2TokenizerFast",
        "processor_class": "Qwen3VLProcessor",
        "model_max_length": 4096,
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "split_special_tokens": False,
        "additional_special_tokens": [t for t in SPECIAL_TOKENS if t != "<|endoftext|>"],
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(t)): {
                "content": t,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for t in SPECIAL_TOKENS
        },
    }
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (arguments.out / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    sample = [t for _, t in zip(range(2000), texts(arguments.data), strict=False)]
    tokens = sum(len(e.ids) for e in tokenizer.encode_batch(sample))
    print(f"{tokenizer.get_vocab_size()} entries, {sum(map(len, sample)) / tokens:.2f} characters a token")


if __name__ == "__main__":
    main()
