"""Rows to tokens: the chat template rendered once, tokenised once, each token told whether it is supervised, of which
span kinds it is, and what its row weighs (pure NumPy; the tokenizer is handed in).

Supervised are the text and the end-of-turn token of every assistant turn, and nothing else. A turn of weight 0
(``train: false``) is context: it is not supervised. A ``text`` row is supervised whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from . import clause_network, knowledge, spans
from .errors import UserError
from .parallel import several_processes
from .phases import KIND_BITS
from .rows import Message, Row

# Texts go to the tokenizer and the tagger in chunks: both work on all cores inside a chunk, and memory stays bounded.
CHUNK_ROWS = 2048


@dataclass(frozen=True)
class Encoded:
    """A tokenised data set, rows laid end to end; row ``r`` is ``[offsets[r], offsets[r + 1])`` of the flat arrays.

    tokens int32 (T,); supervised bool (T,): is this token a target; kinds uint8 (T,): mask of `KIND_BITS`;
    weights float32 (T,): row weight × message weight; offsets int64 (R+1,); lines int32 (R,): lines of the file.
    ``truncated`` rows were cut at the length limit; ``skipped`` holds the lines left without any supervised token.
    """

    tokens: np.ndarray
    supervised: np.ndarray
    kinds: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    lines: np.ndarray
    truncated: int
    skipped: tuple[int, ...]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 (R,)."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Rendered:
    """A row as the model's prompt text, with the character ranges ``(start, end, body_end, weight)`` of its targets.

    ``[start, body_end)`` is what the assistant says, ``[body_end, end)`` its end-of-turn token.
    """

    text: str
    targets: tuple[tuple[int, int, int, float], ...]


@dataclass(frozen=True)
class Template:
    """A tokenizer's chat template with what is worth finding once: special tokens, and the fixed text by roles."""

    tokenizer: Any
    special_tokens: tuple[str, ...]
    pieces: dict[tuple[str, ...], list[str] | None] = field(default_factory=dict)


def template_of(tokenizer: Any) -> Template:
    """The `Template` of a Hugging Face fast tokenizer; raises UserError when it gives no character offsets."""
    if not getattr(tokenizer, "is_fast", False):
        raise UserError("该模型的分词器没有字符位置信息 (不是fast tokenizer)", "在模型文件夹中放入tokenizer.json后重试")
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return Template(tokenizer, tuple(dict.fromkeys([*tokenizer.all_special_tokens, *added])))


def encode(rows: Sequence[Row], tokenizer: Any, max_seq_length: int, cache_dir: Path | None = None) -> Encoded:
    """Tokenise ``rows`` with a Hugging Face fast tokenizer; rows longer than ``max_seq_length`` tokens are cut.

    With ``cache_dir`` the result is kept there, keyed by rows, tokenizer, template, tables and limit; a damaged cache
    is made anew. Raises UserError when the tokenizer gives no character offsets or its template refuses the rows.
    """
    template = template_of(tokenizer)
    if cache_dir is None:
        return _encode(rows, template, max_seq_length)
    path = cache_dir / f"tokens_{_cache_key(rows, tokenizer, max_seq_length)[:32]}.safetensors"
    cached = _read_cache(path)
    if cached is not None:
        return cached
    encoded = _encode(rows, template, max_seq_length)
    _write_cache(path, encoded)
    return encoded


def render(row: Row, template: Template) -> Rendered:
    """The row as text, and where its targets lie in it. Raises UserError when the chat template refuses the row."""
    tokenizer = template.tokenizer
    if row.text is not None:
        eos = tokenizer.eos_token or ""
        body = len(row.text)
        return Rendered(row.text + eos, ((0, body + len(eos), body, row.weight),))
    text = _apply_template(tokenizer, row.messages, row.line)
    bodies = _content_ranges(text, row.messages, template)
    targets = []
    for index, message in enumerate(row.messages):
        if message.role != "assistant" or message.weight * row.weight == 0:
            continue
        start, end = bodies[index]
        limit = bodies[index + 1][0] if index + 1 < len(bodies) else len(text)
        turn_end = _end_of_turn(text, end, limit, template.special_tokens)
        if turn_end is None and index + 1 == len(bodies) and tokenizer.eos_token:
            # A template without an end-of-turn token: the model must still learn to stop.
            text = text[:end] + tokenizer.eos_token
            turn_end = len(text)
        targets.append((start, end if turn_end is None else turn_end, end, message.weight * row.weight))
    return Rendered(text, tuple(targets))


def kind_masks(texts: Sequence[str]) -> list[np.ndarray]:
    """Which span kinds each character of each text lies in: uint8 (length,), bits of `KIND_BITS`."""
    masks = [np.zeros(len(text), dtype=np.uint8) for text in texts]
    for mask, found in zip(masks, spans.find_all(texts), strict=True):
        for span in found:
            mask[span.start : span.end] |= KIND_BITS[span.kind]
    return masks


def _encode(rows: Sequence[Row], template: Template, max_seq_length: int) -> Encoded:
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    lines: list[int] = []
    skipped: list[int] = []
    truncated = 0
    for row, rendered, masks, encoding in _tokenised(rows, template):
        tokens = np.asarray(encoding.ids, dtype=np.int32)
        supervised, kinds, weights = _label(
            rendered, masks, np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        )
        if len(tokens) > max_seq_length:
            truncated += 1
        cut = slice(max_seq_length)
        if supervised[cut].any():
            parts.append((tokens[cut], supervised[cut], kinds[cut], weights[cut]))
            lines.append(row.line)
        else:
            skipped.append(row.line)
    offsets = np.concatenate([[0], np.cumsum([len(part[0]) for part in parts])]).astype(np.int64)
    return Encoded(
        tokens=_joined([part[0] for part in parts], np.int32),
        supervised=_joined([part[1] for part in parts], np.bool_),
        kinds=_joined([part[2] for part in parts], np.uint8),
        weights=_joined([part[3] for part in parts], np.float32),
        offsets=offsets,
        lines=np.asarray(lines, dtype=np.int32),
        truncated=truncated,
        skipped=tuple(skipped),
    )


def _joined(parts: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _tokenised(rows: Sequence[Row], template: Template) -> Iterator[tuple[Row, Rendered, Sequence[np.ndarray], Any]]:
    """Each row with its text, the kind masks of its targets, and its encoding."""
    with several_processes(len(rows)) as start:
        for first in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[first : first + CHUNK_ROWS]
            rendered = [render(row, template) for row in chunk]
            finish = start(kind_masks, [r.text[begin:end] for r in rendered for begin, _, end, _ in r.targets])
            encodings = template.tokenizer.backend_tokenizer.encode_batch(
                [r.text for r in rendered], add_special_tokens=False
            )
            masks = iter(finish())
            of_row = [list(islice(masks, len(r.targets))) for r in rendered]
            yield from zip(chunk, rendered, of_row, encodings, strict=True)


def _label(
    rendered: Rendered, masks: Sequence[np.ndarray], offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per-token supervised bool, kinds uint8 and weights float32 from character offsets int64 (T, 2)."""
    starts, ends = offsets[:, 0], offsets[:, 1]
    characters = np.zeros(len(rendered.text) + 1, dtype=np.uint8)
    supervised = np.zeros(len(offsets), dtype=np.bool_)
    weights = np.ones(len(offsets), dtype=np.float32)
    for mask, (start, end, body_end, weight) in zip(masks, rendered.targets, strict=True):
        characters[start:body_end] = mask
        inside = (ends > start) & (starts < end)
        supervised |= inside
        weights[inside] = weight
    kinds = np.zeros(len(offsets), dtype=np.uint8)
    wide = np.flatnonzero(ends > starts)  # some tokenizers give empty ranges to added tokens
    if len(wide):
        edges = np.stack([starts[wide], ends[wide]], axis=1).reshape(-1)
        kinds[wide] = np.bitwise_or.reduceat(characters, edges)[::2]
    supervised[:1] = False  # nothing comes before the first token to predict it from
    return supervised, np.where(supervised, kinds, 0).astype(np.uint8), weights


def _apply_template(tokenizer: Any, messages: Sequence[Message], line: int) -> str:
    try:
        return tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in messages], tokenize=False
        )
    except Exception as error:  # jinja raises its own kinds, and templates raise through it
        raise UserError(
            f"模型的聊天模板不接受第{line}行: {error}",
            "检查该行的角色顺序 (user、assistant交替)，或换用带聊天模板的模型",
        ) from None


def _content_ranges(text: str, messages: Sequence[Message], template: Template) -> list[tuple[int, int]]:
    """Where each message's content lies in the rendered ``text``.

    A render of placeholders shows the fixed text between contents, which places them exactly even when a content
    equals a role name. A template that edits contents falls back to searching them in order.
    """
    roles = tuple(message.role for message in messages)
    if roles not in template.pieces:
        template.pieces[roles] = _template_pieces(roles, template.tokenizer)
    pieces = template.pieces[roles]
    for contents in ([m.content for m in messages], [m.content.strip() for m in messages]):
        if pieces is None:
            break
        joined = pieces[0] + "".join(c + piece for c, piece in zip(contents, pieces[1:], strict=True))
        if joined == text:
            ranges, cursor = [], len(pieces[0])
            for content, piece in zip(contents, pieces[1:], strict=True):
                ranges.append((cursor, cursor + len(content)))
                cursor += len(content) + len(piece)
            return ranges
    ranges, cursor = [], 0
    for message in messages:
        content = message.content.strip()
        found = text.find(content, cursor)
        if found < 0:  # the template dropped it: an empty range is never a target
            ranges.append((cursor, cursor))
            continue
        cursor = found + len(content)
        ranges.append((found, cursor))
    return ranges


def _template_pieces(roles: tuple[str, ...], tokenizer: Any) -> list[str] | None:
    """The fixed text before, between and behind the contents of messages with these roles; None when one is dropped."""
    marks = [f"\ue000{index}\ue001" for index in range(len(roles))]
    try:
        text = _apply_template(tokenizer, [Message(r, m) for r, m in zip(roles, marks, strict=True)], 0)
    except UserError:
        return None
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            return None
        pieces.append(before)
    return [*pieces, text]


def _end_of_turn(text: str, start: int, limit: int, special_tokens: Sequence[str]) -> int | None:
    """End of the first special token in ``text[start:limit]``, or None."""
    found = [(at, at + len(token)) for token in special_tokens if (at := text.find(token, start, limit)) >= 0]
    return min(found)[1] if found else None


def _cache_key(rows: Sequence[Row], tokenizer: Any, max_seq_length: int) -> str:
    digest = hashlib.sha256()
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    digest.update(f"\0{tokenizer.chat_template}\0{tokenizer.eos_token}\0{max_seq_length}\0".encode())
    digest.update(knowledge.tables_digest().encode())
    # The code that marks spans is a part of what the cache was made from; which files that are is not kept by hand.
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    digest.update(clause_network.WEIGHTS.read_bytes())
    for row in rows:
        digest.update(f"{row.line}\0{row.weight}\0{row.text}\0".encode())
        for message in row.messages:
            digest.update(f"{message.role}\0{message.weight}\0{message.content}\0".encode())
    return digest.hexdigest()


def _arrays(encoded: Encoded) -> dict[str, np.ndarray]:
    return {
        "tokens": encoded.tokens,
        "supervised": encoded.supervised,
        "kinds": encoded.kinds,
        "weights": encoded.weights,
        "offsets": encoded.offsets,
        "lines": encoded.lines,
    }


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _write_cache(path: Path, encoded: Encoded) -> None:
    arrays = _arrays(encoded)
    metadata = {
        "sha256": _digest(arrays),
        "truncated": str(encoded.truncated),
        "skipped": json.dumps(encoded.skipped),
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, temporary, metadata=metadata)
        temporary.replace(path)
    except (OSError, SafetensorError):  # a cache is a convenience: a full or read-only disk costs the next start only
        temporary.unlink(missing_ok=True)


def _read_cache(path: Path) -> Encoded | None:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if metadata["sha256"] != _digest(arrays):
            return None
        return Encoded(**arrays, truncated=int(metadata["truncated"]), skipped=tuple(json.loads(metadata["skipped"])))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
