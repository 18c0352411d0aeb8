"""Rows to batches of a few fixed shapes: which rows make an optimizer step, and the arrays of its micro-batches (pure).

The rows of a step depend on (lengths, rows per step, seed, epoch) alone, never on how the step is cut: batch 4×1, 2×2
accumulated and two ranks of 2 see the same rows. Each epoch uses every row once, the remainder included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .dataset import Encoded

# Each shape, with a count of rows and of positions, is one more compiled step; 24 lengths keep the padding of real
# consultation rows under 4 %.
MAX_SHAPES = 24
# Supervised positions are padded to a multiple of this, so that their count, too, takes few values.
POSITION_MULTIPLE = 64
# Logits of one chunk, in bytes of float32. Evaluation runs ahead by some ten arrays of this size; smaller ones cost
# more in products than they save (160 rows of a 49,152 vocabulary: 1.06 of the time of 341 rows, 0.6 of the memory).
LOGIT_CHUNK_BYTES = 32 << 20
# More rows make the products no faster: 128 rows of a 4,096 vocabulary take 0.95 of the CPU time of 1,088 in one piece,
# and the whole backward pass of such a model then peaks at 0.6 of the memory.
CHUNK_POSITIONS = 128


@dataclass(frozen=True)
class MicroBatch:
    """What one forward and backward pass needs; B rows of L tokens, P supervised positions.

    tokens int32 (B, L), padded with ``pad_id`` on the right. positions int32 (P,): flat index ``row * L + t`` of the
    hidden state that predicts ``targets`` int32 (P,) (the token at ``t + 1``). kinds uint8 (P,), row_weights float32
    (P,), valid bool (P,): False marks the filling behind the last real position, whose row weight is 0.
    rows int32 (B,): indices into the data set, -1 for an empty row that keeps the shape.
    """

    tokens: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    kinds: np.ndarray
    row_weights: np.ndarray
    valid: np.ndarray
    rows: np.ndarray

    @property
    def supervised_tokens(self) -> int:
        """Real targets in this micro-batch."""
        return int(self.valid.sum())


def shapes(lengths: np.ndarray, max_shapes: int = MAX_SHAPES) -> tuple[int, ...]:
    """At most ``max_shapes`` padded lengths, ascending, that waste the fewest pad tokens on rows of these ``lengths``.

    ``lengths`` int (R,), tokens. Exact dynamic programming over the distinct lengths; with very many distinct lengths
    neighbours are merged first, so that the cost stays bounded.
    """
    if len(lengths) == 0:
        return ()
    values, counts = np.unique(np.asarray(lengths, dtype=np.int64), return_counts=True)
    if len(values) > 512:  # the programme below is quadratic in this
        grain = int(np.ceil((values[-1] - values[0] + 1) / 512))
        rounded = np.minimum(values[0] + -(-(values - values[0]) // grain) * grain, values[-1])
        values, inverse = np.unique(rounded, return_inverse=True)
        counts = np.bincount(inverse, weights=counts).astype(np.int64)
    total_rows = np.concatenate([[0], np.cumsum(counts)])
    # best[j]: fewest padded tokens for the j shortest values in the shapes used so far; waste against the true length
    # differs from padded size by a constant, so padded size is what is minimised.
    best = np.full(len(values) + 1, np.inf)
    best[0] = 0.0
    choices = []
    for _ in range(min(max_shapes, len(values))):
        # cost[i, j]: values i..j-1 all padded to values[j-1]
        cost = best[:, None] + (total_rows[None, :] - total_rows[:, None]) * np.concatenate([[0], values])[None, :]
        cost[np.tril_indices(len(values) + 1, -1)] = np.inf
        choice = np.argmin(cost, axis=0)
        choices.append(choice)
        best = cost[choice, np.arange(len(values) + 1)]
    chosen, end = [], len(values)
    for choice in reversed(choices):
        if end == 0:
            break
        if choice[end] != end:
            chosen.append(int(values[end - 1]))
        end = int(choice[end])
    return tuple(sorted(chosen))


def plan(lengths: np.ndarray, rows_per_step: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The optimizer steps of one epoch: each an int64 array of at most ``rows_per_step`` row indices.

    Rows of like length share a step, so that little is padded; rows of equal length class are shuffled, and so is the
    order of the steps. Only one step of the epoch can be short. Pure function of its arguments (NumPy PCG64).
    """
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(lengths))
    # A stable sort by shape keeps the shuffled order inside a shape: who shares a step changes every epoch.
    bounds = np.asarray(shapes(lengths))
    order = shuffled[np.argsort(np.searchsorted(bounds, np.asarray(lengths)[shuffled]), kind="stable")]
    # The remainder is taken at a random place in the order of lengths, so that no length is always short.
    remainder = len(order) % rows_per_step
    cut = int(rng.integers(len(order) // rows_per_step + 1)) * rows_per_step
    steps = [order[first : first + rows_per_step] for first in range(0, cut, rows_per_step)]
    if remainder:
        steps.append(order[cut : cut + remainder])
    steps += [order[first : first + rows_per_step] for first in range(cut + remainder, len(order), rows_per_step)]
    return [steps[index] for index in rng.permutation(len(steps))]


def micro_batches(
    encoded: Encoded, rows: np.ndarray, batch_size: int, shape_lengths: Sequence[int], pad_id: int
) -> list[MicroBatch]:
    """Cut one optimizer step's ``rows`` into micro-batches of ``batch_size`` rows each.

    A micro-batch takes the smallest of ``shape_lengths`` (ascending, tokens) that holds its longest row. A last short
    one is filled with empty rows, which have no targets.
    """
    lengths = encoded.lengths
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    batches = []
    for first in range(0, len(ordered), batch_size):
        taken = ordered[first : first + batch_size]
        length = int(shape_lengths[int(np.searchsorted(shape_lengths, lengths[taken].max()))])
        batches.append(_micro_batch(encoded, taken, batch_size, length, pad_id))
    return batches


def rows_at_a_time(rows: int, longest: int, shape_lengths: Sequence[int], max_tokens: int | None) -> int:
    """How many of ``rows`` make a micro-batch, so that its padded tokens fit: a divisor, which needs no empty rows,
    or nearly equal parts where the divisors are too small.

    ``longest``: tokens of the longest row. Without ``max_tokens`` all rows; at least one, however long.
    """
    if max_tokens is None:
        return rows
    fitting = min(rows, max(1, max_tokens // int(shape_lengths[int(np.searchsorted(shape_lengths, longest))])))
    divisor = next(size for size in range(fitting, 0, -1) if rows % size == 0)
    return divisor if 2 * divisor >= fitting else -(-rows // -(-rows // fitting))


def cut_step(
    encoded: Encoded,
    rows: np.ndarray,
    rows_at_most: int,
    shape_lengths: Sequence[int],
    pad_id: int,
    *,
    max_tokens: int | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> list[MicroBatch]:
    """The micro-batches of one optimizer step that are ``rank``'s to compute.

    Ranks share the rows first, in pieces of ``rows_at_most``; each cuts its pieces by its own ``max_tokens``.
    """
    ordered = rows[np.argsort(encoded.lengths[rows], kind="stable")]
    pieces = [ordered[first : first + rows_at_most] for first in range(0, len(ordered), rows_at_most)][rank::ranks]
    return [
        micro
        for piece in pieces
        for micro in micro_batches(
            encoded,
            piece,
            rows_at_a_time(rows_at_most, int(encoded.lengths[piece].max()), shape_lengths, max_tokens),
            shape_lengths,
            pad_id,
        )
    ]


def chunk_positions(vocabulary: int) -> int:
    """Positions per chunk: `CHUNK_POSITIONS`, or as many as keep their float32 logits within `LOGIT_CHUNK_BYTES`."""
    return max(16, min(CHUNK_POSITIONS, LOGIT_CHUNK_BYTES // (4 * vocabulary)))


def padding_share(
    lengths: np.ndarray, steps: Sequence[np.ndarray], batch_size: int, max_tokens: int | None = None
) -> float:
    """Pad tokens over all tokens computed, in [0, 1), when ``steps`` are cut into micro-batches of ``batch_size``, or
    of fewer rows as `rows_at_a_time` says."""
    bounds = shapes(lengths)
    computed = 0
    for rows in steps:
        ordered = np.sort(lengths[rows])
        size = rows_at_a_time(batch_size, int(ordered[-1]), bounds, max_tokens)
        for first in range(0, len(ordered), size):
            longest = ordered[min(first + size, len(ordered)) - 1]
            computed += size * int(bounds[np.searchsorted(bounds, longest)])
    used = sum(int(lengths[rows].sum()) for rows in steps)
    return 1.0 - used / computed if computed else 0.0


def _micro_batch(encoded: Encoded, rows: np.ndarray, batch_size: int, length: int, pad_id: int) -> MicroBatch:
    tokens = np.full((batch_size, length), pad_id, dtype=np.int32)
    positions, targets, kinds, weights = [], [], [], []
    for index, row in enumerate(rows):
        first, end = int(encoded.offsets[row]), int(encoded.offsets[row + 1])
        tokens[index, : end - first] = encoded.tokens[first:end]
        at = np.flatnonzero(encoded.supervised[first:end])
        positions.append(index * length + at - 1)
        targets.append(encoded.tokens[first + at])
        kinds.append(encoded.kinds[first + at])
        weights.append(encoded.weights[first + at])
    count = sum(len(part) for part in positions)
    size = -(-count // POSITION_MULTIPLE) * POSITION_MULTIPLE
    row_indices = np.full(batch_size, -1, dtype=np.int32)
    row_indices[: len(rows)] = rows
    return MicroBatch(
        tokens=tokens,
        positions=_filled(positions, size, np.int32),
        targets=_filled(targets, size, np.int32),
        kinds=_filled(kinds, size, np.uint8),
        row_weights=_filled(weights, size, np.float32),
        valid=np.arange(size) < count,
        rows=row_indices,
    )


def _filled(parts: Sequence[np.ndarray], size: int, dtype: type[np.generic]) -> np.ndarray:
    flat = np.zeros(size, dtype=dtype)
    joined = np.concatenate(parts)
    flat[: len(joined)] = joined
    return flat
