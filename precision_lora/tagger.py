"""A linear tagger over hashed n-grams: where medical nouns begin and end (pure).

`spans` asks it what lists and rules cannot know. Its weights are fitted by span_model/fit.py on annotated texts and lie
in span_model.npz beside this file: one row for each hash bucket, a column for each answer. Everything is NumPy over
whole texts at once; a text costs some twenty array operations, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from precision_lora.clause_network import WEIGHTS

BUCKET_BITS = 19
# Answers for a character: outside of a term, its beginning, its inside.
OUTSIDE, BEGIN, INSIDE = range(3)

# Characters (c) and entity tags (s) at these distances make one feature of a character.
_CHARACTER_WINDOWS = (
    (0,), (-1,), (1,), (-2,), (2,), (-1, 0), (0, 1), (-2, -1), (1, 2), (-2, -1, 0), (-1, 0, 1), (0, 1, 2),
    (-3, -2, -1, 0), (-2, -1, 0, 1), (-1, 0, 1, 2), (0, 1, 2, 3),
)  # fmt: skip
_TAG_WINDOWS = ((0,), (-1,), (1,), (-1, 0), (0, 1), (-2, -1, 0), (-1, 0, 1), (0, 1, 2))
_MIXED_WINDOWS = (
    ((0,), (0,)), ((-1,), (0,)), ((1,), (0,)), ((0, 1), (0,)), ((-1, 0), (0,)), ((0,), (-1,)), ((0,), (1,)),
)  # fmt: skip
_REACH = 3  # the farthest of them
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Model:
    """Fitted weights, float32: ``table`` (2^BUCKET_BITS, 3), ``bias`` (3,)."""

    table: np.ndarray
    bias: np.ndarray


@cache
def model() -> Model:
    """The fitted weights that the package carries."""
    with np.load(WEIGHTS) as stored:
        return Model(stored["term_table"].astype(np.float32), stored["term_bias"].astype(np.float32))


def buckets(parts: Sequence[np.ndarray], salt: np.ndarray | np.uint64) -> np.ndarray:
    """Hash buckets int64 of code arrays (…, L) that belong together, in order, under ``salt`` (a number or (…, 1))."""
    mixed = (parts[0] ^ (salt << np.uint64(40))) * _MULTIPLIER
    mixed ^= mixed >> np.uint64(29)
    for part in parts[1:]:
        mixed = (mixed ^ part) * _MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)


def term_features(codes: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Buckets int64 (features, L) of every character: code points and entity tags (uint64 (L,) both) around it."""
    letters, marks = np.pad(codes, _REACH), np.pad(tags, _REACH)
    # Row r: the letter r - 3 characters away; row r + 7: the tag there.
    around = np.stack([source[i : i + len(codes)] for source in (letters, marks) for i in range(2 * _REACH + 1)])
    return np.concatenate([buckets([around[row] for row in rows], salts) for rows, salts in _WINDOWS])


def _by_size(windows: Sequence[tuple[int, ...]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows of a size side by side: rows (size, windows) of ``around``, and a salt (windows, 1) for each."""
    sizes = sorted({len(window) for window in windows})
    numbers = [[i for i, window in enumerate(windows) if len(window) == size] for size in sizes]
    return [
        (np.array([windows[i] for i in same]).T, np.array([[300 + i] for i in same], dtype=np.uint64))
        for same in numbers
    ]


_WINDOWS = _by_size(
    [tuple(_REACH + offset for offset in window) for window in _CHARACTER_WINDOWS]
    + [tuple(3 * _REACH + 1 + offset for offset in window) for window in _TAG_WINDOWS]
    + [(*(_REACH + o for o in c), *(3 * _REACH + 1 + o for o in t)) for c, t in _MIXED_WINDOWS]
)


def terms(weights: Model, codes: Sequence[np.ndarray], tags: Sequence[np.ndarray]) -> list[list[tuple[int, int]]]:
    """(start, end) of the medical nouns of each text: a character that begins one, and those inside that follow it."""
    gap = np.zeros(_REACH, dtype=np.uint64)
    letters, marks = (np.concatenate([part for own in rows for part in (own, gap)]) for rows in (codes, tags))
    scores = np.take(weights.table, term_features(letters, marks), axis=0).sum(axis=0) + weights.bias
    answers = scores.argmax(axis=1)
    found, first = [], 0
    for own in codes:
        found.append(_runs(answers[first : first + len(own)]))
        first += len(own) + _REACH
    return found


def _runs(answers: np.ndarray) -> list[tuple[int, int]]:
    outside = answers == OUTSIDE
    if outside.all():
        return []
    after_outside = np.concatenate([[True], outside[:-1]])
    begins = np.flatnonzero((answers == BEGIN) | (~outside & after_outside))  # an inside without a beginning begins
    ends = np.flatnonzero(np.concatenate([outside, [True]]))
    last = np.minimum(ends[np.searchsorted(ends, begins)], [*begins[1:], len(answers)])
    return list(zip(begins.tolist(), last.tolist(), strict=True))
