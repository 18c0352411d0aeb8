"""One optimizer step: weighted loss on supervised positions, accumulation by sums, finite check, AdamW update.

The loss of a step is Σ (w / w̄) · ce / N over its N supervised tokens, all micro-batches and ranks together. Sums are
accumulated and divided once, so how the step is cut changes nothing but the rounding (and dropout's masks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from precision_lora import cpu_kernels
from precision_lora.batching import MicroBatch, chunk_positions
from precision_lora.engine import StepResult, mean_nll
from precision_lora.model import SplitModel, trainable

Arrays = dict[str, mx.array]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class TrainState:
    """What training changes: adapter tensors and AdamW moments (float32, by tensor name), and the updates so far."""

    parameters: Arrays
    first: Arrays
    second: Arrays
    updates: int


@dataclass(frozen=True)
class Batch:
    """A micro-batch on the device: tokens int32 (B, L); positions and targets int32, weights and valid float32 (P,)."""

    tokens: mx.array
    positions: mx.array
    targets: mx.array
    weights: mx.array
    valid: mx.array


def start(model: nn.Module) -> TrainState:
    """The state before the first update: the model's adapter tensors and zero moments."""
    parameters = trainable(model)
    return TrainState(
        parameters,
        {name: mx.zeros_like(p) for name, p in parameters.items()},
        {name: mx.zeros_like(p) for name, p in parameters.items()},
        0,
    )


def to_device(micro: MicroBatch, table: np.ndarray, mean_weight: float) -> Batch:
    """Look the weights up and divide them by w̄; filling positions weigh 0.

    Args:
        table: float32 (32,), weight of each kind mask in the current phase.
        mean_weight: w̄, mean weight over the training set in that phase.
    """
    weights = (table[micro.kinds] * micro.row_weights * micro.valid / mean_weight).astype(np.float32)
    valid = micro.valid.astype(np.float32)
    return Batch(*(mx.array(a) for a in (micro.tokens, micro.positions, micro.targets, weights, valid)))


# --------------------------------------------------------------------------------------------------------------------
# Loss


def position_losses(
    hidden: mx.array, targets: mx.array, weights: mx.array, head: Callable[[mx.array], mx.array], chunk: int
) -> tuple[mx.array, mx.array]:
    """Weighted sum of cross-entropies, and each of them, from hidden states.

    The head is frozen, so the gradient of a chunk of positions with respect to its hidden states is computed with the
    forward pass and kept instead of the logits: (P, D) numbers in place of (P, V).

    Args:
        hidden: (P, D). targets: int32 (P,). weights: float32 (P,). chunk: positions whose logits are alive at a time.

    Returns:
        Σ w·ce, float32 scalar with a gradient for ``hidden``; ce, float32 (P,), without one.
    """

    exponentials = cpu_kernels.exponentials if on_cpu() else plain_exponentials

    def chunk_gradient(h: mx.array, t: mx.array) -> tuple[mx.array, mx.array]:
        """Cross-entropies (C,) of a chunk and the gradient (C, D) of their sum."""
        logits = head(h)
        e, total, top = exponentials(logits.astype(mx.float32))
        index = t[:, None]
        at_target = mx.take_along_axis(logits, index, axis=-1).astype(mx.float32)
        # Rows stay times their total until they are D wide instead of V wide: softmax - onehot = (e - total * onehot)
        # / total, and the head's transpose is linear.
        d_logits = mx.put_along_axis(e, index, mx.take_along_axis(e, index, axis=-1) - total, axis=-1)
        # `vjp` lays a second forward pass into the graph; a head that is one product never evaluates it.
        (d_hidden,) = mx.vjp(head, [h], [d_logits.astype(logits.dtype)])[1]
        ce = (top + mx.log(total) - at_target)[:, 0]
        return ce, d_hidden * (1 / total).astype(d_hidden.dtype)

    @mx.custom_function
    def losses(hidden: mx.array, targets: mx.array, weights: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        parts, gradients = [], []
        previous: mx.array | None = None
        for first in range(0, hidden.shape[0], chunk):
            h, t = hidden[first : first + chunk], targets[first : first + chunk]
            if previous is not None:
                # One chunk after the other: side by side their logits would all be alive at once.
                h = mx.depends(h, previous)
            ce, gradient = chunk_gradient(h, t)
            parts.append(ce)
            gradients.append(gradient)
            previous = gradient
        ce = mx.concatenate(parts)
        # A row of the gradient is linear in the weight of its position.
        gradient = mx.concatenate(gradients) * weights[:, None].astype(hidden.dtype)
        return (weights * ce).sum(), ce, gradient

    @losses.vjp
    def losses_vjp(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, mx.array, mx.array]:
        _, targets, weights = primals
        return outputs[2] * cotangents[0].astype(outputs[2].dtype), mx.zeros_like(targets), mx.zeros_like(weights)

    outputs: Any = losses(hidden, targets, mx.stop_gradient(weights))
    return outputs[0], mx.stop_gradient(outputs[1])


def on_cpu() -> bool:
    return mx.default_device() == mx.cpu


def plain_exponentials(logits: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """exp(logits - top) (P, V), its sums (P, 1) and the largest logits (P, 1), from float32 logits (P, V)."""
    top = logits.max(axis=-1, keepdims=True)
    e = mx.exp(logits - top)
    return e, e.sum(axis=-1, keepdims=True), top


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """Cross-entropy in float32 (P,) of logits (P, V) and targets int32 (P,)."""
    logits = logits.astype(mx.float32)
    if on_cpu():
        _, total, top = cpu_kernels.exponentials(logits)
        lse = (top + mx.log(total))[:, 0]
    else:
        lse = mx.logsumexp(logits, axis=-1)
    return lse - mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]


def position_nll(hidden: mx.array, targets: mx.array, head: Callable[[mx.array], mx.array], chunk: int) -> mx.array:
    """Cross-entropies float32 (P,) alone, evaluated chunk by chunk: for validation, where nothing has a gradient."""
    parts = []
    for first in range(0, hidden.shape[0], chunk):
        parts.append(cross_entropy(head(hidden[first : first + chunk]), targets[first : first + chunk]))
        mx.eval(parts[-1])
    return mx.concatenate(parts)


def select(hidden: mx.array, positions: mx.array) -> mx.array:
    """Rows ``positions`` (P,) of hidden states (B, L, D), flattened over B and L: (P, D)."""
    return hidden.reshape(-1, hidden.shape[-1])[positions]


def make_loss(model: nn.Module, split: SplitModel, chunk: int) -> Callable[..., tuple[mx.array, mx.array]]:
    """``loss(parameters, tokens, positions, targets, weights)`` → (Σ w·ce, ce (P,))."""

    def loss(
        parameters: Arrays, tokens: mx.array, positions: mx.array, targets: mx.array, weights: mx.array
    ) -> tuple[mx.array, mx.array]:
        model.update(tree_unflatten(list(parameters.items())))
        return position_losses(select(split.hidden(tokens), positions), targets, weights, split.head, chunk)

    return loss


def make_gradient(
    model: nn.Module, split: SplitModel, chunk: int, dropout: bool
) -> Callable[[Arrays, Batch], tuple[Any, Arrays]]:
    """``gradient(parameters, batch)`` → ((Σ w·ce, ce (P,)), gradient by name).

    Compiled once for each shape: on a CPU elementwise operations are then computed together, in 0.8 of the time. With
    ``dropout`` it is not: a compiled function would use the random numbers of its first call again and again.
    """
    compute: Any = mx.value_and_grad(make_loss(model, split, chunk))
    if not dropout:
        compute = mx.compile(compute)

    def gradient(parameters: Arrays, batch: Batch) -> tuple[Any, Arrays]:
        result: tuple[Any, Arrays] = compute(parameters, batch.tokens, batch.positions, batch.targets, batch.weights)
        # Compiling leaves its placeholders in the model.
        model.update(tree_unflatten(list(parameters.items())))
        return result

    return gradient


def whole(model: nn.Module) -> SplitModel:
    """No cut at all: logits of every position, for models whose head cannot be taken apart."""
    return SplitModel(hidden=lambda tokens: model(tokens), head=lambda logits: logits)


def supervised_nll(split: SplitModel, batch: Batch, vocabulary: int) -> mx.array:
    """Cross-entropy of each supervised position, float32 (P,), evaluated."""
    hidden = select(split.hidden(batch.tokens), batch.positions)
    return position_nll(hidden, batch.targets, split.head, chunk_positions(vocabulary))


def number(scalar: mx.array) -> float:
    """A real scalar array as a Python float."""
    return float(scalar.item())  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------------------------
# Update


def adamw(
    state: TrainState, gradients: Arrays, learning_rate: float, weight_decay: float, factor: mx.array
) -> TrainState:
    """AdamW with bias correction (Loshchilov & Hutter, ICLR 2019) on ``factor * gradients``; lazy."""
    updates = state.updates + 1
    correction1, correction2 = 1 - BETA1**updates, 1 - BETA2**updates
    scalars = mx.array([learning_rate / correction1, 1 / correction2, learning_rate * weight_decay], mx.float32)
    parameters, first, second = {}, {}, {}
    for name, gradient in gradients.items():
        parameters[name], first[name], second[name] = _adamw_one(
            state.parameters[name], gradient, state.first[name], state.second[name], factor, scalars
        )
    return TrainState(parameters, first, second, updates)


def row_major(arrays: Arrays) -> Arrays:
    return {name: mx.contiguous(array) for name, array in arrays.items()}


@mx.compile
def _adamw_one(
    parameter: mx.array, gradient: mx.array, first: mx.array, second: mx.array, factor: mx.array, scalars: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    gradient = gradient * factor
    first = BETA1 * first + (1 - BETA1) * gradient
    second = BETA2 * second + (1 - BETA2) * gradient * gradient
    denominator = mx.sqrt(second * scalars[1]) + EPSILON
    return parameter * (1 - scalars[2]) - scalars[0] * first / denominator, first, second


def make_step(
    model: nn.Module,
    split: SplitModel,
    vocabulary: int,
    clip: float,
    weight_decay: float,
    group: mx.distributed.Group,
    dropout: bool = False,
) -> Callable[[TrainState, Sequence[Batch], int, float], tuple[TrainState, StepResult]]:
    """A function that takes one optimizer step.

    Args:
        clip: largest gradient norm, 0 for no limit.
        group: all ranks; each brings its own micro-batches, sums are exchanged once a step in one array.
        dropout: the model draws random numbers.

    Returns:
        ``step(state, batches, supervised_tokens, learning_rate)``: ``supervised_tokens`` is this rank's count.
    """
    gradient_of = make_gradient(model, split, chunk_positions(vocabulary), dropout)
    model.train()

    def step(
        state: TrainState, batches: Sequence[Batch], supervised_tokens: int, learning_rate: float
    ) -> tuple[TrainState, StepResult]:
        gradients: Arrays | None = None
        loss, nll = mx.array(0.0), mx.array(0.0)
        for batch in batches:
            (weighted, ce), grads = gradient_of(state.parameters, batch)
            loss, nll = loss + weighted, nll + (ce * batch.valid).sum()
            gradients = grads if gradients is None else {name: gradients[name] + g for name, g in grads.items()}
            mx.eval(loss, nll, gradients)
        if gradients is None:  # this rank has no row in the step
            gradients = {name: mx.zeros_like(p) for name, p in state.parameters.items()}
        gradients, loss, nll, tokens = sum_over_ranks(gradients, loss, nll, supervised_tokens, group)
        norm = mx.sqrt(sum((g.square().sum() for g in gradients.values()), mx.array(0.0))) / tokens
        factor = (mx.minimum(1.0, clip / (norm + 1e-6)) if clip > 0 else mx.array(1.0)) / tokens
        updated = adamw(state, gradients, learning_rate, weight_decay, factor)
        mx.eval(loss, nll, norm)
        result = StepResult(number(loss) / tokens, number(nll) / tokens, number(norm), tokens, applied=True)
        if not all(map(math.isfinite, (result.loss, result.nll, result.grad_norm))):
            return state, replace(result, applied=False)
        # Row-major, as a checkpoint gives them back: matrix products round differently for a transposed layout, and
        # a resumed run has to repeat this one to the bit.
        updated = replace(
            updated,
            parameters=row_major(updated.parameters),
            first=row_major(updated.first),
            second=row_major(updated.second),
        )
        mx.eval(updated.parameters, updated.first, updated.second)
        return updated, result

    return step


def sum_over_ranks(
    gradients: Arrays, loss: mx.array, nll: mx.array, tokens: int, group: mx.distributed.Group
) -> tuple[Arrays, mx.array, mx.array, int]:
    """Totals over all ranks, exchanged as one flat float32 array; with one rank the arguments as they are."""
    if group.size() == 1:
        return gradients, loss, nll, tokens
    names = sorted(gradients)
    # Token counts stay exact in float32 up to 2^24.
    flat_parts = [gradients[name].reshape(-1) for name in names]
    total = mx.distributed.all_sum(mx.concatenate([*flat_parts, mx.stack([loss, nll, mx.array(float(tokens))])]))
    mx.eval(total)
    summed, first = {}, 0
    for name in names:
        size = gradients[name].size
        summed[name] = total[first : first + size].reshape(gradients[name].shape)
        first += size
    return summed, total[first], total[first + 1], round(number(total[first + 2]))


# --------------------------------------------------------------------------------------------------------------------
# Validation


def make_validation(
    model: nn.Module, split: SplitModel, vocabulary: int
) -> Callable[[Arrays, Sequence[MicroBatch]], dict[str, float]]:
    """A function that measures mean negative log-likelihood on the real targets of micro-batches, as `mean_nll`."""
    chunk = chunk_positions(vocabulary)

    def validate(parameters: Arrays, micros: Sequence[MicroBatch]) -> dict[str, float]:
        model.eval()  # no dropout here
        model.update(tree_unflatten(list(parameters.items())))
        parts = []
        for micro in micros:
            hidden = select(split.hidden(mx.array(micro.tokens)), mx.array(micro.positions))
            ce = position_nll(hidden, mx.array(micro.targets), split.head, chunk)
            parts.append((np.array(ce, dtype=np.float64)[micro.valid], micro.kinds[micro.valid]))
        model.train()
        return mean_nll(parts)

    return validate


# --------------------------------------------------------------------------------------------------------------------
# Going on


def restored(
    adapter: Mapping[str, np.ndarray],
    first: Mapping[str, np.ndarray],
    second: Mapping[str, np.ndarray],
    updates: int,
) -> TrainState:
    """The state that a checkpoint holds."""

    def arrays(part: Mapping[str, np.ndarray]) -> Arrays:
        return {name: mx.array(values) for name, values in sorted(part.items())}

    return TrainState(arrays(adapter), arrays(first), arrays(second), updates)


def share(state: TrainState, done: int, group: mx.distributed.Group) -> tuple[TrainState, int]:
    """Rank 0's state and steps done, on every rank: only rank 0 reads checkpoints, others may run on other machines."""
    if group.size() == 1:
        return state, done
    own = 1.0 if group.rank() == 0 else 0.0

    def spread(arrays: Arrays) -> Arrays:
        shared = {name: mx.distributed.all_sum(arrays[name] * own) for name in sorted(arrays)}
        mx.eval(shared)
        return shared

    counts = mx.distributed.all_sum(mx.array([state.updates, done]) * int(own))
    updates, steps = (int(n) for n in np.array(counts))
    return TrainState(spread(state.parameters), spread(state.first), spread(state.second), updates), steps
