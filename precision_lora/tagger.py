"""A linear tagger over hashed n-grams: what clauses do, and where medical nouns begin and end (pure).

`spans` asks it what lists and rules cannot know. Its weights are fitted by span_model/fit.py on annotated texts and lie
in span_model.npz beside this file: one row for each hash bucket, a column for each answer. Everything is NumPy over
whole texts at once; a text costs some twenty array operations, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

BUCKET_BITS = 19
CLAUSE_KINDS = ("diagnosis", "treatment", "empathy")
# Answers for a character: outside of a term, its beginning, its inside.
OUTSIDE, BEGIN, INSIDE = range(3)
WEIGHTS = Path(__file__).parent / "span_model.npz"

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
_LONGEST_GRAM = 4
_START = 1  # code in front of every clause
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Model:
    """Fitted weights, float32.

    - ``clause`` (2^BUCKET_BITS, 9): what an n-gram says of its own clause, of the next one and of the one before.
    - ``clause_bias`` (3,).
    - ``term`` (2^BUCKET_BITS, 3), ``term_bias`` (3,).
    """

    clause: np.ndarray
    clause_bias: np.ndarray
    term: np.ndarray
    term_bias: np.ndarray


@cache
def model() -> Model:
    """The fitted weights that the package carries."""
    with np.load(WEIGHTS) as stored:
        return Model(**{name: stored[name].astype(np.float32) for name in stored.files})


def codes(text: str) -> np.ndarray:
    """Code points, uint64 (L,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)


def buckets(parts: Sequence[np.ndarray], salt: np.ndarray | np.uint64) -> np.ndarray:
    """Hash buckets int64 of code arrays (…, L) that belong together, in order, under ``salt`` (a number or (…, 1))."""
    mixed = (parts[0] ^ (salt << np.uint64(40))) * _MULTIPLIER
    mixed ^= mixed >> np.uint64(29)
    for part in parts[1:]:
        mixed = (mixed ^ part) * _MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)


# --------------------------------------------------------------------------------------------------------------------
# Clauses


def clause_features(texts: Sequence[str], clauses: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(bucket, clause index) int64 of every n-gram of 1 to 4 characters in the clauses.

    Args:
        texts: the same text in several alphabets, character for character (as written, and as its shadow).
        clauses: (start, end) in order, punctuation at the end included.
    """
    starts = np.array([start for start, _ in clauses])
    clause_of = np.repeat(np.arange(len(clauses)), [end - start for start, end in clauses])
    found, owners = [], []
    for alphabet, text in enumerate(texts):
        stream, owned, firsts = codes(text), clause_of, starts
        if alphabet:  # a run of one class letter counts once, however long the word
            keep = np.ones(len(stream), dtype=bool)
            keep[1:] = (stream[1:] != stream[:-1]) | (stream[1:] < 0xE000) | (stream[1:] > 0xE0FF)
            keep[starts] = True
            firsts = np.cumsum(keep)[starts] - 1
            stream, owned = stream[keep], owned[keep]
        stream = np.insert(stream, firsts, _START)
        owned = np.insert(owned, firsts, np.arange(len(clauses)))
        for size in range(1, min(_LONGEST_GRAM, len(stream)) + 1):
            count = len(stream) - size + 1
            inside = owned[:count] == owned[size - 1 :]
            grams = buckets([stream[i : count + i] for i in range(size)], np.uint64(100 * alphabet + size))
            found.append(grams[inside])
            owners.append(owned[:count][inside])
    return np.concatenate(found), np.concatenate(owners)


def clause_logits(
    weights: Model, alphabets: Sequence[Sequence[str]], clauses: Sequence[Sequence[tuple[int, int]]]
) -> list[np.ndarray]:
    """Logits float32 (clauses, 3) of each text, columns as `CLAUSE_KINDS`.

    Args:
        alphabets: for every alphabet the texts in it. clauses: of each text, covering it without gaps.
    """
    counts = [len(own) for own in clauses]
    total = sum(counts)
    if total == 0:
        return [np.zeros((0, 3), np.float32) for _ in clauses]
    joined, offset = [], 0
    for text, own in zip(alphabets[0], clauses, strict=True):
        joined += [(start + offset, end + offset) for start, end in own]
        offset += len(text)
    found, owners = clause_features(["".join(texts) for texts in alphabets], joined)
    rows = np.take(weights.clause, found, axis=0)
    sums = np.stack([np.bincount(owners, rows[:, i], total) for i in range(9)], axis=1).astype(np.float32)
    ends = np.cumsum(counts)
    inner = np.ones((total, 1), np.float32)  # 0 at the first clause of a text, which has none before it
    inner[[end - count for end, count in zip(ends, counts, strict=True) if count]] = 0
    logits: np.ndarray = sums[:, :3] + weights.clause_bias
    logits[1:] += sums[:-1, 3:6] * inner[1:]
    logits[:-1] += sums[1:, 6:9] * inner[1:]
    return np.split(logits, ends[:-1])


# --------------------------------------------------------------------------------------------------------------------
# Terms


def term_features(text: str, tags: np.ndarray) -> np.ndarray:
    """Buckets int64 (features, L) of every character: ``text`` and entity ``tags`` (uint64 (L,)) around it."""
    letters, marks = np.pad(codes(text), _REACH), np.pad(tags, _REACH)
    # Row r: the letter r - 3 characters away; row r + 7: the tag there.
    around = np.stack([source[i : i + len(text)] for source in (letters, marks) for i in range(2 * _REACH + 1)])
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


def terms(weights: Model, texts: Sequence[str], tags: Sequence[np.ndarray]) -> list[list[tuple[int, int]]]:
    """(start, end) of the medical nouns of each text: a character that begins one, and those inside that follow it."""
    gap = np.zeros(_REACH, dtype=np.uint64)
    joined = ("\0" * _REACH).join(texts)
    marks = np.concatenate([part for own in tags for part in (own, gap)])[: len(joined)]
    if not joined:
        return [[] for _ in texts]
    features = term_features(joined, marks)
    scores = np.take(weights.term, features, axis=0).sum(axis=0) + weights.term_bias
    answers = scores.argmax(axis=1)
    found, first = [], 0
    for text in texts:
        found.append(_runs(answers[first : first + len(text)]))
        first += len(text) + _REACH
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
