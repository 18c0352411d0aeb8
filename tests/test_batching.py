"""Batches: every row once, few shapes, little padding, and no dependence on how a step is cut."""

import itertools

import numpy as np
import pytest

from precision_lora.batching import cut_step, micro_batches, padding_share, plan, rows_at_a_time, shapes
from precision_lora.dataset import Encoded


def encoded_of(lengths, seed=0):
    """A data set of random tokens; the first half of each row is prompt, the second half supervised."""
    rng = np.random.default_rng(seed)
    total = int(np.sum(lengths))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    supervised = np.zeros(total, dtype=bool)
    for first, end in itertools.pairwise(offsets):
        supervised[first + max(1, (end - first) // 2) : end] = True
    return Encoded(
        tokens=rng.integers(1, 1000, total).astype(np.int32),
        supervised=supervised,
        kinds=rng.integers(0, 32, total).astype(np.uint8),
        weights=rng.random(total).astype(np.float32),
        offsets=offsets,
        lines=np.arange(1, len(lengths) + 1, dtype=np.int32),
        truncated=0,
        skipped=(),
    )


@pytest.mark.parametrize(("count", "rows_per_step"), [(10, 3), (8, 4), (1, 4), (101, 8), (64, 1)])
def test_every_row_is_used_once_an_epoch_with_one_short_step_at_most(count, rows_per_step):
    lengths = np.random.default_rng(1).integers(20, 300, count)
    steps = plan(lengths, rows_per_step, seed=7, epoch=3)
    assert sorted(np.concatenate(steps)) == list(range(count))
    assert sorted(len(s) for s in steps)[1:] == [rows_per_step] * (len(steps) - 1)


def test_order_is_a_pure_function_of_seed_and_epoch():
    lengths = np.random.default_rng(1).integers(20, 300, 200)

    def flat(seed, epoch):
        return [tuple(step) for step in plan(lengths, 4, seed, epoch)]

    assert flat(0, 0) == flat(0, 0)
    assert flat(0, 0) != flat(0, 1)
    assert flat(0, 0) != flat(1, 0)
    assert flat(0, 1) != flat(1, 0)


def test_shapes_are_optimal_against_brute_force():
    lengths = np.array([3, 3, 5, 8, 9, 9, 9, 20])

    def padded(bounds):
        return sum(min(b for b in bounds if b >= n) for n in lengths)

    values = sorted(set(lengths.tolist()))
    for count in (1, 2, 3):
        best = min(padded(c) for c in itertools.combinations(values, count) if max(c) == 20)
        assert padded(shapes(lengths, count)) == best
        assert len(shapes(lengths, count)) <= count
    assert shapes(lengths, 50) == tuple(values)
    assert shapes(np.array([], dtype=int)) == ()


def test_padding_stays_under_four_percent_on_lengths_like_the_data_set():
    lengths = np.random.default_rng(2).normal(230, 70, 4000).clip(60, 600).astype(int)
    for batch_size in (2, 4, 8):
        assert padding_share(lengths, plan(lengths, batch_size, 0, 0), batch_size) < 0.04
    assert len(shapes(lengths)) <= 24


def test_shapes_of_very_many_lengths_still_hold_the_longest():
    lengths = np.arange(10, 5000)
    bounds = shapes(lengths)
    assert bounds[-1] == 4999 and len(bounds) <= 24


def test_micro_batch_by_hand():
    encoded = Encoded(
        tokens=np.array([10, 11, 12, 13, 20, 21, 22], dtype=np.int32),
        supervised=np.array([0, 0, 1, 1, 0, 1, 0], dtype=bool),
        kinds=np.array([0, 0, 1, 2, 0, 16, 0], dtype=np.uint8),
        weights=np.array([1, 1, 1, 1, 0.5, 0.5, 0.5], dtype=np.float32),
        offsets=np.array([0, 4, 7]),
        lines=np.array([1, 2], dtype=np.int32),
        truncated=0,
        skipped=(),
    )
    (batch,) = micro_batches(encoded, np.array([0, 1]), 2, (4,), pad_id=99)
    assert batch.tokens.tolist() == [[20, 21, 22, 99], [10, 11, 12, 13]]  # ordered by length
    assert batch.supervised_tokens == 3
    # Row 0 (tokens 20 21 22) predicts 21 from t=0; row 1 predicts 12 from t=1 and 13 from t=2.
    assert batch.positions[:3].tolist() == [0, 4 + 1, 4 + 2]
    assert batch.targets[:3].tolist() == [21, 12, 13]
    assert batch.kinds[:3].tolist() == [16, 1, 2]
    assert batch.row_weights[:3].tolist() == [0.5, 1, 1]
    assert not batch.valid[3:].any() and not batch.row_weights[3:].any()
    assert batch.rows.tolist() == [1, 0]


def test_cutting_a_step_differently_keeps_its_targets():
    encoded = encoded_of(np.random.default_rng(3).integers(10, 90, 40))
    bounds = shapes(encoded.lengths)
    for rows in plan(encoded.lengths, 4, 0, 0):
        cuts = [micro_batches(encoded, rows, size, bounds, 0) for size in (4, 2, 1)]
        collected = [
            sorted(
                (int(t), int(k), float(w))
                for batch in cut
                for t, k, w, v in zip(batch.targets, batch.kinds, batch.row_weights, batch.valid, strict=True)
                if v
            )
            for cut in cuts
        ]
        assert collected[0] == collected[1] == collected[2]


def test_no_target_is_a_pad_and_each_position_precedes_its_target():
    encoded = encoded_of([5, 9, 33, 47, 12])
    for rows in plan(encoded.lengths, 2, 0, 0):
        for batch in micro_batches(encoded, rows, 2, shapes(encoded.lengths), pad_id=-7):
            flat = batch.tokens.reshape(-1)
            real = batch.valid
            assert (flat[batch.positions[real] + 1] == batch.targets[real]).all()
            assert (batch.targets[real] != -7).all()


def test_short_step_is_filled_with_empty_rows():
    encoded = encoded_of([30, 31, 32])
    (batch,) = micro_batches(encoded, np.array([2]), 2, (32,), 0)
    assert batch.tokens.shape == (2, 32)
    assert batch.rows.tolist() == [2, -1]
    assert batch.supervised_tokens == 16


@pytest.mark.parametrize(
    ("rows", "longest", "max_tokens", "expected"),
    [
        (8, 100, None, 8),
        (8, 100, 512, 4),  # padded to 128: four rows are 512 tokens
        (8, 129, 512, 2),  # padded to 200
        (8, 129, 700, 2),  # three would fit; two divide 8 and need no empty row
        (6, 129, 700, 3),
        (7, 100, 512, 4),  # the divisor 1 is too small: two parts, one empty row
        (2, 900, 512, 1),  # one row at least
    ],
)
def test_rows_of_a_micro_batch_by_hand(rows, longest, max_tokens, expected):
    assert rows_at_a_time(rows, longest, (64, 128, 200, 1000), max_tokens) == expected


def test_smaller_micro_batches_pad_no_more():
    lengths = np.random.default_rng(2).normal(230, 70, 400).clip(60, 600).astype(int)
    steps = plan(lengths, 8, 0, 0)
    assert padding_share(lengths, steps, 8, 512) <= padding_share(lengths, steps, 8)


def test_ranks_with_limits_of_their_own_share_every_row_once():
    """Each rank used to cut before sharing: with other limits rows were taken twice or not at all."""
    encoded = encoded_of([30, 31, 32, 60, 61, 62, 63])
    rows, bounds = np.arange(7), shapes(encoded.lengths)
    taken = [
        row
        for rank, limit in ((0, None), (1, 64))
        for micro in cut_step(encoded, rows, 4, bounds, 0, max_tokens=limit, rank=rank, ranks=2)
        for row in micro.rows.tolist()
        if row >= 0
    ]
    assert sorted(taken) == rows.tolist()
