"""The loss and the update: against plain cross-entropy, by hand, however the step is cut, and on two ranks."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")

import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optim  # noqa: E402
from mlx.utils import tree_unflatten  # noqa: E402

from precision_lora import lora, step  # noqa: E402
from precision_lora.model import checkpoint_layers, flat, split, trainable  # noqa: E402
from precision_lora.phases import phases_for, weight_table  # noqa: E402
from tests import tiny  # noqa: E402

ONES = np.ones(32, np.float32)
ROWS = [[5, 9, 17, 3, 44, 60, 2], [8, 8, 31, 90, 4], [70, 1, 2, 3, 4, 5, 6, 7], [11, 12, 13, 14, 15, 16]]
FIRST = [2, 1, 5, 3]


@pytest.fixture(scope="module", params=["llama", "gemma2", "qwen3_vl_moe"])
def model(request):
    return adapted({"llama": tiny.LLAMA, "gemma2": tiny.GEMMA2, "qwen3_vl_moe": tiny.VL_MOE}[request.param])


def adapted(config, targets="all-linear", dropout=0.0):
    made = tiny.build(config)
    spec = lora.LoraSpec(4, 2.0, dropout, lora.target_modules(made, targets, -1))
    lora.attach_lora(made, spec, seed=1)
    # B away from zero, so that A has a gradient too.
    mx.random.seed(3)
    values = {name: mx.random.normal(p.shape) * 0.1 for name, p in trainable(made).items()}
    made.update(tree_unflatten(list(values.items())))
    return made


def taken(model, cuts, table=ONES, mean=1.0, clip=0.0, lr=1e-3, kinds=None, dropout=False):
    """One step over ``cuts``, lists of rows; returns (state after, result)."""
    take = step.make_step(model, split(model), tiny.VOCABULARY, clip, 0.01, mx.distributed.init(), dropout)
    micros = [tiny.micro([ROWS[i] for i in cut], [FIRST[i] for i in cut], kinds, width=9) for cut in cuts]
    batches = [step.to_device(m, table, mean) for m in micros]
    return take(step.start(model), batches, sum(m.supervised_tokens for m in micros), lr)


def plain_loss(model, rows, first):
    """Mean cross-entropy over the same targets from the whole model's logits, row by row, without padding."""
    total, tokens = mx.array(0.0), 0
    for row, start in zip(rows, first, strict=True):
        logits = model(mx.array([row]))[0, start - 1 : len(row) - 1]
        total = total + nn.losses.cross_entropy(logits, mx.array(row[start:]), reduction="sum")
        tokens += len(row) - start
    return total / tokens


def test_all_weights_one_is_plain_cross_entropy_in_loss_and_gradient(model):
    expected, gradient = nn.value_and_grad(model, lambda: plain_loss(model, ROWS, FIRST))()
    loss = step.make_loss(model, split(model), chunk=5)
    batch = step.to_device(tiny.micro(ROWS, FIRST), ONES, 1.0)
    tokens = sum(len(r) - f for r, f in zip(ROWS, FIRST, strict=True))
    start = trainable(model)
    (got, _), grads = mx.value_and_grad(loss)(start, batch.tokens, batch.positions, batch.targets, batch.weights)
    model.update(tree_unflatten(list(start.items())))
    assert got.item() / tokens == pytest.approx(expected.item(), rel=1e-5)
    expected_grads = flat(gradient)
    assert grads.keys() == expected_grads.keys() and len(grads) >= 8
    for name, g in grads.items():
        wanted = np.array(expected_grads[name])
        np.testing.assert_allclose(np.array(g) / tokens, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max() + 1e-8)


def test_the_cut_model_equals_the_whole_one(model):
    batch = step.to_device(tiny.micro(ROWS, FIRST), ONES, 1.0)
    truth = step.supervised_nll(step.whole(model), batch, tiny.VOCABULARY)

    def error(cut):
        return mx.abs(step.supervised_nll(cut, batch, tiny.VOCABULARY) - truth).max().item()

    assert error(split(model)) < 1e-5
    # A head that forgets the cap or the norm is caught.
    broken = step.SplitModel(split(model).hidden, lambda h: split(model).head(h * 1.1))
    assert error(broken) > 1e-4


def test_whole_model_fallback_gives_the_same_update(model):
    micro = tiny.micro(ROWS, FIRST)
    results = []
    for way in (split(model), step.whole(model)):
        take = step.make_step(model, way, tiny.VOCABULARY, 1.0, 0.01, mx.distributed.init())
        results.append(take(step.start(model), [step.to_device(micro, ONES, 1.0)], micro.supervised_tokens, 1e-3)[1])
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-5)
    assert results[0].grad_norm == pytest.approx(results[1].grad_norm, rel=1e-4)


def test_three_tokens_and_two_kinds_by_hand():
    # Uniform logits over two words: each cross-entropy is ln 2. A number weighs 3, warmth 0.8, the third token 1.
    table = weight_table(phases_for(5200)[0], 2.0, 1.0)
    mean = (3.0 + 0.8 + 1.0) / 3
    micro = tiny.micro([[0, 1, 1, 0]], [1], {(0, 1): "number", (0, 2): "empathy"})
    batch = step.to_device(micro, table, mean)
    np.testing.assert_allclose(np.array(batch.weights)[:3], [3.0 / 1.6, 0.8 / 1.6, 1 / 1.6], rtol=1e-6)
    assert np.array(batch.weights)[3:].tolist() == [0.0] * 5
    hidden = mx.zeros((8, 2))
    total, ce = step.position_losses(hidden, batch.targets, batch.weights, lambda h: h @ mx.eye(2), chunk=2)
    assert total.item() == pytest.approx(math.log(2) * 3, rel=1e-6)  # the weights' mean is 1
    np.testing.assert_allclose(np.array(ce), math.log(2), rtol=1e-6)

    def weighted(h):
        return step.position_losses(h, batch.targets, batch.weights, lambda x: x @ mx.eye(2), chunk=2)[0]

    gradient = np.array(mx.grad(weighted)(hidden))
    # p - onehot is (0.5, -0.5) for target 1 and (-0.5, 0.5) for target 0, times the weight; padding has none.
    np.testing.assert_allclose(gradient[:3], [[0.9375, -0.9375], [0.25, -0.25], [-0.3125, 0.3125]], rtol=1e-5)
    assert not gradient[3:].any()


def test_padding_never_counts(model):
    narrow, wide = (tiny.micro(ROWS[:2], FIRST[:2], width=w) for w in (7, 24))
    results = []
    for micro in (narrow, wide):
        take = step.make_step(model, split(model), tiny.VOCABULARY, 0.0, 0.0, mx.distributed.init())
        results.append(take(step.start(model), [step.to_device(micro, ONES, 1.0)], micro.supervised_tokens, 1e-3)[1])
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-5)
    assert results[0].grad_norm == pytest.approx(results[1].grad_norm, rel=1e-4)
    assert results[0].supervised_tokens == results[1].supervised_tokens == 9


def test_scaling_every_weight_changes_nothing():
    llama = adapted(tiny.LLAMA)
    once = taken(llama, [[0, 1]], ONES, 1.0)
    seven = taken(llama, [[0, 1]], 7 * ONES, 7.0)
    assert once[1].loss == pytest.approx(seven[1].loss, rel=1e-6)


def test_cutting_the_step_changes_only_rounding(model):
    reference, result = taken(model, [[0, 1, 2, 3]])
    for cuts in ([[0, 1], [2, 3]], [[0], [1], [2], [3]], [[0, 1, 2], [3]]):
        state, other = taken(model, cuts)
        assert other.supervised_tokens == result.supervised_tokens
        assert other.loss == pytest.approx(result.loss, rel=1e-5)
        for name, moment in state.first.items():  # the moments are the gradient; the update divides it by its size
            wanted = np.array(reference.first[name])
            np.testing.assert_allclose(np.array(moment), wanted, atol=2e-5 * np.abs(wanted).max() + 1e-9)


def test_two_ranks_equal_one(tmp_path):
    launch = Path(sys.executable).with_name("mlx.launch")
    if not launch.is_file():
        pytest.skip("mlx.launch is not installed beside python")
    root = Path(__file__).resolve().parent.parent
    (tmp_path / "ranks.py").write_text(
        "import sys, json\n"
        f"sys.path.insert(0, {str(root)!r})\n"
        "import mlx.core as mx, numpy as np\n"
        "from tests import tiny, test_step as t\n"
        "from precision_lora import step\n"
        "group = mx.distributed.init()\n"
        "model = t.adapted(tiny.LLAMA)\n"
        "take = step.make_step(model, t.split(model), tiny.VOCABULARY, 0.0, 0.01, group)\n"
        "mine = [[0, 1], [2, 3]][group.rank()] if group.size() == 2 else sys.exit(9)\n"
        "m = tiny.micro([t.ROWS[i] for i in mine], [t.FIRST[i] for i in mine], width=9)\n"
        "state, r = take(step.start(model), [step.to_device(m, t.ONES, 1.0)], m.supervised_tokens, 1e-3)\n"
        "sums = {k: float(np.abs(np.array(v)).sum()) for k, v in state.first.items()}\n"
        "open(f'out{group.rank()}.json', 'w').write(json.dumps([r.loss, r.supervised_tokens, sums]))\n"
    )
    # Ring all-reduce can stop now and then (mlx #4475): the wait is bounded, and one more try is allowed.
    for attempt in range(2):
        try:
            subprocess.run(
                [str(launch), "-n", "2", "--python", sys.executable, "ranks.py"],
                cwd=tmp_path,
                timeout=60,
                check=True,
                capture_output=True,
            )
            break
        except subprocess.TimeoutExpired:
            if attempt:
                raise
    state, result = taken(adapted(tiny.LLAMA), [[0, 1, 2, 3]])
    for rank in range(2):
        loss, tokens, sums = json.loads((tmp_path / f"out{rank}.json").read_text())
        assert tokens == result.supervised_tokens
        assert loss == pytest.approx(result.loss, rel=1e-5)
        for name, moment in state.first.items():
            assert sums[name] == pytest.approx(float(np.abs(np.array(moment)).sum()), rel=1e-4)


def test_a_step_that_is_not_finite_is_not_applied():
    model = adapted(tiny.LLAMA)
    start = step.start(model)
    broken = dict(start.parameters)
    name = next(iter(broken))
    broken[name] = broken[name] * math.nan
    state = step.TrainState(broken, start.first, start.second, 4)
    micro = tiny.micro(ROWS, FIRST)
    take = step.make_step(model, split(model), tiny.VOCABULARY, 1.0, 0.0, mx.distributed.init())
    after, result = take(state, [step.to_device(micro, ONES, 1.0)], micro.supervised_tokens, 1e-3)
    assert not result.applied and after is state and math.isnan(result.loss)


def test_clipping_limits_the_gradient():
    model = adapted(tiny.LLAMA)
    free, result = taken(model, [[0, 1]], clip=0.0)
    clipped, same = taken(model, [[0, 1]], clip=result.grad_norm / 4)
    assert same.grad_norm == pytest.approx(result.grad_norm, rel=1e-5)  # reported before clipping
    name = next(iter(free.first))
    np.testing.assert_allclose(np.array(clipped.first[name]), np.array(free.first[name]) / 4, rtol=1e-3, atol=1e-9)


def test_adamw_equals_mlx_adamw_over_three_updates():
    mx.random.seed(0)
    parameters = {"a": mx.random.normal((4, 3)), "b": mx.random.normal((5,))}
    reference = optim.AdamW(learning_rate=1e-2, weight_decay=0.1, bias_correction=True)
    state = step.TrainState(
        parameters,
        {k: mx.zeros_like(v) for k, v in parameters.items()},
        {k: mx.zeros_like(v) for k, v in parameters.items()},
        0,
    )
    for _ in range(3):
        gradients = {k: mx.random.normal(v.shape) for k, v in parameters.items()}
        parameters = reference.apply_gradients(gradients, parameters)
        state = step.adamw(state, gradients, 1e-2, 0.1, mx.array(1.0))
    assert state.updates == 3
    for name, wanted in parameters.items():
        np.testing.assert_allclose(np.array(state.parameters[name]), np.array(wanted), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("config", [tiny.LLAMA, tiny.VL_MOE])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_recomputing_layers_gives_the_same_gradient(config, dropout):
    results = []
    for recompute in (False, True):
        model = adapted(config, dropout=dropout)
        mx.random.seed(7)
        before = type(model.layers[0]).__call__
        try:
            if recompute:
                checkpoint_layers(model, dropout > 0)
            results.append(taken(model, [[0, 1, 2, 3]], dropout=dropout > 0))
        finally:
            type(model.layers[0]).__call__ = before
    (plain, a), (again, b) = results
    assert a.loss == b.loss
    for name, moment in plain.first.items():
        np.testing.assert_allclose(np.array(again.first[name]), np.array(moment), rtol=1e-4, atol=1e-8)


def test_dropout_differs_from_step_to_step_and_repeats_with_the_seed():
    model = adapted(tiny.LLAMA, dropout=0.5)
    take = step.make_step(model, split(model), tiny.VOCABULARY, 0.0, 0.0, mx.distributed.init(), dropout=True)
    micro = tiny.micro(ROWS, FIRST)
    batch, state = step.to_device(micro, ONES, 1.0), step.start(model)

    def loss(seed):
        mx.random.seed(seed)
        return take(state, [batch], micro.supervised_tokens, 0.0)[1].loss

    assert loss(1) != loss(2) and loss(1) == loss(1)


@pytest.mark.parametrize("config", [tiny.LLAMA, tiny.VL_MOE])
def test_a_compiled_step_computes_the_same(config):
    model = adapted(config)
    compiled, a = taken(model, [[0, 1], [2, 3]])
    plain, b = taken(model, [[0, 1], [2, 3]], dropout=True)  # not compiled; the rate of this model is 0
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    for name, moment in plain.first.items():
        np.testing.assert_allclose(np.array(compiled.first[name]), np.array(moment), rtol=1e-4, atol=1e-8)
    # What tracing left in the model would fail here.
    mx.eval(model.parameters())


def test_validation_by_kind_by_hand(model):
    validate = step.make_validation(model, split(model), tiny.VOCABULARY)
    kinds = {(0, 2): "number", (0, 3): "number", (1, 4): "empathy"}
    micro = tiny.micro(ROWS[:2], FIRST[:2], kinds)
    measured = validate(trainable(model), [micro])
    expected = plain_loss(model, ROWS[:2], FIRST[:2]).item()
    assert measured["loss"] == pytest.approx(expected, rel=1e-5)
    logits = model(mx.array([ROWS[0]]))[0, 1:3]
    two = nn.losses.cross_entropy(logits, mx.array(ROWS[0][2:4]), reduction="mean").item()
    assert measured["number"] == pytest.approx(two, rel=1e-5)
    assert measured["tokens"] == 9 and "term" not in measured and "other" in measured
