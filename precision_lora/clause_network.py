"""What the clauses of a medical text do: a small convolutional network over characters, in NumPy (pure).

Convolutions of several widths over the characters of a clause, their maxima and (nearly) means over the clause, two
more convolutions over the clauses of the text (Kim 2014, "Convolutional Neural Networks for Sentence Classification",
with context). Its weights are fitted by span_model/fit.py on annotated texts and lie in span_model.npz beside this
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

CLAUSE_KINDS = ("diagnosis", "treatment", "empathy")
WIDTHS = (1, 3, 5)
CONTEXT_WIDTH = 3
TAGS = 64  # entity tags are smaller than this
# Rows of the letter table that stand for no character, and for one that the fitted texts did not have.
NOTHING, UNKNOWN, FIRST_KNOWN = 0, 1, 2
WEIGHTS = Path(__file__).parent / "span_model.npz"


@dataclass(frozen=True)
class Network:
    """Fitted weights, float32 but for ``characters``.

    - ``characters`` uint32 (V,): known code points, ascending; ``letters`` (V + 2, E); ``tags`` (TAGS, G).
    - ``kernel_1`` … (width, E + G, H) with ``bias_1`` … (H,), one for each of `WIDTHS`.
    - ``projection`` (2 · H · widths, C), ``projection_bias`` (C,).
    - ``context_1``, ``context_2`` (3, C, C) with their biases (C,).
    - ``output`` (2 · C, 3), ``output_bias`` (3,): columns as `CLAUSE_KINDS`.
    """

    characters: np.ndarray
    letters: np.ndarray
    tags: np.ndarray
    kernel_1: np.ndarray
    kernel_3: np.ndarray
    kernel_5: np.ndarray
    bias_1: np.ndarray
    bias_3: np.ndarray
    bias_5: np.ndarray
    projection: np.ndarray
    projection_bias: np.ndarray
    context_1: np.ndarray
    context_1_bias: np.ndarray
    context_2: np.ndarray
    context_2_bias: np.ndarray
    output: np.ndarray
    output_bias: np.ndarray


@cache
def network() -> Network:
    """The fitted weights that the package carries."""
    with np.load(WEIGHTS) as stored:
        arrays = {name: stored[f"clause_{name}"] for name in Network.__dataclass_fields__}
    return Network(**{n: a if n == "characters" else a.astype(np.float32) for n, a in arrays.items()})


def letter_rows(characters: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Rows int64 (L,) of the letter table for code points (L,)."""
    at = np.minimum(np.searchsorted(characters, codes), len(characters) - 1)
    return np.where(characters[at] == codes, at + FIRST_KNOWN, UNKNOWN)


def logits(
    net: Network,
    codes: Sequence[np.ndarray],
    tags: Sequence[np.ndarray],
    clauses: Sequence[Sequence[tuple[int, int]]],
) -> list[np.ndarray]:
    """Logits float32 (clauses, 3) of each text, columns as `CLAUSE_KINDS`; above 0 the clause is of the kind.

    Args:
        codes: code points (L,) of each text. tags: entity tags (L,) of each. clauses: (start, end) of each, covering it
            without gaps.
    """
    counts = np.array([len(own) for own in clauses])
    if counts.sum() == 0:
        return [np.zeros((0, 3), np.float32) for _ in clauses]
    lengths = np.array([end - start for own in clauses for start, end in own])
    said = _clause_vectors(net, np.concatenate(codes), np.concatenate(tags), lengths)
    context = said
    for kernel, bias in ((net.context_1, net.context_1_bias), (net.context_2, net.context_2_bias)):
        context = _relu(_convolved(context, np.arange(len(context)), counts[counts > 0], kernel) + bias)
    found = np.concatenate([said, context], axis=1) @ net.output + net.output_bias
    return np.split(found, np.cumsum(counts)[:-1])


def _clause_vectors(net: Network, codes: np.ndarray, tags: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """What each clause says, float32 (clauses, C)."""
    # A letter with its tag stands in many places: it is multiplied once.
    pairs, which = np.unique(letter_rows(net.characters, codes) * TAGS + tags.astype(np.int64), return_inverse=True)
    kinds = np.concatenate([net.letters[pairs // TAGS], net.tags[pairs % TAGS]], axis=1)
    firsts = np.cumsum(lengths) - lengths
    pooled = []
    for kernel, bias in ((net.kernel_1, net.bias_1), (net.kernel_3, net.bias_3), (net.kernel_5, net.bias_5)):
        h = _relu(_convolved(kinds, which, lengths, kernel) + bias)
        # + 1: a mean over one or two characters says little.
        pooled += [np.maximum.reduceat(h, firsts), np.add.reduceat(h, firsts) / (lengths + 1)[:, None]]
    return _relu(np.concatenate(pooled, axis=1, dtype=np.float32) @ net.projection + net.projection_bias)


def _convolved(rows: np.ndarray, which: np.ndarray, lengths: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Sequences of ``lengths`` made of ``rows[which]`` (N, D), convolved with ``kernel`` (width, D, H)."""
    reach = len(kernel) // 2
    place = np.arange(len(which)) + reach * np.repeat(np.arange(1, len(lengths) + 1), lengths)
    apart = np.full(len(which) + reach * (len(lengths) + 1), len(rows))  # the row of zeros, where nothing stands
    apart[place] = which
    total: np.ndarray | None = None
    for offset, weights in enumerate(kernel):
        products = np.concatenate([rows @ weights, np.zeros((1, weights.shape[1]), np.float32)])
        part = products[apart[place + offset - reach]]
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0, out=x)
