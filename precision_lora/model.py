"""Base models: finding, checking, loading, and cutting them before the output head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.utils import load_model, load_tokenizer

from precision_lora.base_folder import read_base
from precision_lora.errors import UserError
from precision_lora.memory import CAST_SHARE, DEQUANTISE_SHARE, available_memory

LINEAR_TYPES = (nn.Linear, nn.QuantizedLinear)
SWITCH_TYPES = (SwitchLinear, QuantizedSwitchLinear)


@dataclass(frozen=True)
class Base:
    """A loaded base model: the module tree, the Hugging Face fast tokenizer, its config.json and its folder."""

    model: nn.Module
    tokenizer: Any
    config: dict[str, Any]
    path: Path


@dataclass(frozen=True)
class SplitModel:
    """A model cut before its output head.

    ``hidden``: tokens int32 (B, L) → hidden states (B, L, D). ``head``: hidden states (P, D) → logits (P, V), with
    whatever caps and scaling the architecture applies.
    """

    hidden: Callable[[mx.array], mx.array]
    head: Callable[[mx.array], mx.array]


# --------------------------------------------------------------------------------------------------------------------
# Loading


def resolve_base(name: str) -> Path:
    """The folder of a base model: a local one as it is, a hub id from the Hugging Face cache or downloaded.

    Raises:
        UserError: neither a folder nor a model that can be had.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    looks_like_id = name.count("/") == 1 and not name.startswith((".", "~", "/")) and not path.exists()
    reason = ""
    if looks_like_id:
        from huggingface_hub import snapshot_download

        try:
            patterns = ["*.json", "model*.safetensors", "tokenizer.model", "*.txt", "*.jinja"]
            return Path(snapshot_download(name, allow_patterns=patterns))
        except Exception as error:  # network, authentication, unknown repository: the text says which
            reason = f"（Hugging Face: {str(error).splitlines()[0][:160]}）"
    raise UserError(
        f"基础模型不存在: {path}{reason}",
        "方案1: 使用原始基础模型",
        "   python train_v3_precision.py \\",
        "     --base-model ~/.lmstudio/models/lmstudio-community/Qwen3-VL-30B-Medical-Finetuned \\",
        "     --adapter-path adapters_v2",
        "方案2: 先融合V2模型",
        "   python fuse_v3_model.py --base-model 原始基础模型 --adapter-path adapters_v2 \\",
        "     --output ~/.lmstudio/models/local/Qwen3-VL-30B-Medical-V2-Fused",
        "没有30B模型时可以先试: ./run_v3_training.sh --demo",
    )


def load_base(name: str) -> Base:
    """Load a base model lazily: arrays are read from disk when first evaluated.

    On the CPU, where quantised and 16-bit products run at a hundredth of the speed of float32 ones, linear weights
    become float32 if they fit into memory.

    Raises:
        UserError: no such model, files missing or damaged, or an architecture that mlx-lm does not know.
    """
    path = resolve_base(name)
    folder = read_base(path)
    if "model_type" not in folder.config:
        raise UserError(f"基础模型的 config.json 里没有 model_type: {path}", "换用 MLX 格式的语言模型")
    try:
        model, config = load_model(path, lazy=True)
        wrapper = load_tokenizer(path)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        fix = "pip install -U mlx-lm，或换用 mlx-lm 支持的模型"
        raise UserError(f"基础模型无法加载: {path}（{first}）", fix) from None
    model.freeze()
    if mx.default_device() == mx.cpu:
        _to_float32(model)
    return Base(model, wrapper._tokenizer, config, path)


def _to_float32(model: nn.Module) -> None:
    """In place and lazily: 16-bit floats to float32, quantised layers to plain ones, if memory has room for it."""
    quantised = [(k, m) for k, m in model.named_modules() if hasattr(m, "scales") and hasattr(m, "bits")]
    wanted = sum(_elements(m) * 4 for _, m in quantised) + sum(v.size * 4 for v in flat(model.parameters()).values())
    free = available_memory()
    if quantised and (free is None or wanted < DEQUANTISE_SHARE * free):
        plain = [(key, _dequantised(module)) for key, module in quantised]
        model.update_modules(tree_unflatten([(k, m) for k, m in plain if m is not None]))
    if free is None or wanted < CAST_SHARE * free:
        floats = (mx.float16, mx.bfloat16)
        cast = [(k, v.astype(mx.float32)) for k, v in flat(model.parameters()).items() if v.dtype in floats]
        model.update(tree_unflatten(cast))
    model.freeze()


def _elements(module: nn.Module) -> int:
    return int(module.weight.size * 32 // module.bits)


def _dequantised(module: nn.Module) -> nn.Module | None:
    """A plain layer with the same values in float32; None for a kind that is not known here."""
    if type(module) not in (nn.QuantizedLinear, nn.QuantizedEmbedding, QuantizedSwitchLinear):
        return None
    if module.get("global_scale") is not None:
        return None
    # Products with scales of 16 bits would be rounded to 16 bits; only affine scales are floats.
    affine = module.mode == "affine"
    weight = mx.dequantize(
        module.weight,
        module.scales.astype(mx.float32) if affine else module.scales,
        module.biases.astype(mx.float32) if affine else None,
        group_size=module.group_size,
        bits=module.bits,
        mode=module.mode,
    ).astype(mx.float32)
    has_bias = "bias" in module
    plain: nn.Module
    if isinstance(module, QuantizedSwitchLinear):
        plain = SwitchLinear(weight.shape[2], weight.shape[1], weight.shape[0], bias=has_bias)
    elif isinstance(module, nn.QuantizedLinear):
        plain = nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias)
    else:
        plain = nn.Embedding(weight.shape[0], weight.shape[1])
    plain.weight = weight
    if has_bias:
        plain.bias = module.bias.astype(mx.float32)
    return plain


# --------------------------------------------------------------------------------------------------------------------
# Looking inside


def decoder_layers(model: nn.Module) -> list[str]:
    """Module paths of the decoder layers, first to last."""
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(layer)] for layer in model.layers if id(layer) in names]


def dimensions(module: nn.Module) -> tuple[int, int]:
    """(input, output) dimensions of a linear-like layer, quantised or not."""
    if isinstance(module, SWITCH_TYPES):
        return module.input_dims, module.output_dims
    out, inner = module.weight.shape
    return (inner * 32 // module.bits if isinstance(module, nn.QuantizedLinear) else inner), out


def flat(parameters: Any) -> dict[str, mx.array]:
    """A parameter tree as a dictionary by dotted name."""
    return tree_flatten(parameters, destination={})  # type: ignore[return-value]


def trainable(model: nn.Module) -> dict[str, mx.array]:
    """The adapter's tensors by full name, sorted: ``….q_proj.lora_a`` float32 (in, rank) and so on."""
    return dict(sorted(flat(model.trainable_parameters()).items()))


def count(arrays: Iterable[mx.array]) -> int:
    return sum(array.size for array in arrays)


def set_trainable(model: nn.Module, arrays: dict[str, mx.array]) -> None:
    """Put adapter tensors, all of them, back into the model; a difference in names or shapes is a ValueError."""
    now = trainable(model)
    if now.keys() != arrays.keys() or any(now[name].shape != arrays[name].shape for name in now):
        raise ValueError("adapter tensors do not fit the attached modules")
    model.load_weights(list(arrays.items()), strict=False)


# --------------------------------------------------------------------------------------------------------------------
# Forward passes


class _HeadOnly:
    """Stands in for a language model whose inner stack has already run.

    The architecture's own ``__call__`` runs on it, so caps, scaling and tied embeddings of the head are the model's.
    """

    def __init__(self, outer: nn.Module, inner_name: str, hidden: mx.array) -> None:
        self._outer, self._inner_name, self._hidden = outer, inner_name, hidden

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._outer, name)
        return _InnerDone(value, self._hidden) if name == self._inner_name else value


class _InnerDone:
    def __init__(self, inner: nn.Module, hidden: mx.array) -> None:
        self._inner, self._hidden = inner, hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, *_: Any, **__: Any) -> mx.array:
        return self._hidden


def split(model: nn.Module) -> SplitModel | None:
    """Cut ``model`` before its output head; None when its shape is not known or its head is being trained.

    Whether the parts compute what the whole does must be checked on a real batch: `step.check_split`.
    """
    outer = model
    while isinstance(outer.get("language_model"), nn.Module):
        outer = outer["language_model"]
    inner_name = next((n for n in ("model", "transformer", "backbone") if isinstance(outer.get(n), nn.Module)), None)
    if inner_name is None:
        return None
    prefixes = tuple(decoder_layers(model))
    if not all(name.startswith(prefixes) for name in trainable(model)):
        return None
    inner = outer[inner_name]

    def head(hidden: mx.array) -> mx.array:
        view = _HeadOnly(outer, inner_name, hidden[None])
        # The inputs are never looked at: the inner stack that would embed them has already run.
        return type(outer).__call__(view, mx.zeros((1, 1), mx.int32))[0]

    return SplitModel(lambda tokens: inner(tokens), head)


def checkpoint_layers(model: nn.Module, dropout: bool) -> None:
    """Recompute each decoder layer in the backward pass instead of keeping its activations; its input alone is kept.

    Not `mx.checkpoint`: MLX evaluates the gradients of A and B last, as nothing waits for them, and keeps what they
    are computed from until then: most activations of all layers (30 layers, all-linear: five times the memory of this).
    Here a layer's gradients come before those of the layer below it. With ``dropout`` the random numbers of the first
    pass are drawn again; such a step cannot be compiled, as they are looked up outside of the graph.
    """
    for kind in {type(layer) for layer in model.layers}:
        plain = kind.__call__

        def recomputed(layer: nn.Module, *args: Any, _plain: Any = plain, **kwargs: Any) -> Any:
            names = list(trained := trainable(layer))
            inputs = [leaf for leaf in flat([args, kwargs]).values() if _is_float(leaf)]
            state = _random_state() if dropout else None

            def run(*values: mx.array) -> Any:
                layer.update(tree_unflatten(list(zip(names, values[len(inputs) :], strict=True))))
                inner, named = _with_floats([args, kwargs], values[: len(inputs)])
                return _plain(layer, *inner, **named)

            kept = mx.custom_function(run)

            @kept.vjp
            def backward(primals: Any, cotangents: Any, _: Any) -> tuple[mx.array, ...]:
                flows = [cotangents] if isinstance(cotangents, mx.array) else list(cotangents)
                after = _random_state() if dropout else None
                if state is not None:
                    mx.random.seed(state)
                gradients = mx.vjp(run, mx.depends(list(primals), flows), flows)[1]
                if after is not None:
                    mx.random.seed(after)
                below, own = gradients[: len(inputs)], gradients[len(inputs) :]
                return (*(mx.depends(below, own) if own else below), *own)

            return kept(*inputs, *trained.values())

        kind.__call__ = recomputed


def _with_floats(tree: Any, values: Iterable[mx.array]) -> Any:
    """``tree`` with its floating arrays replaced, in their order."""
    following = iter(values)
    return tree_map(lambda leaf: next(following) if _is_float(leaf) else leaf, tree)


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, mx.array) and mx.issubdtype(leaf.dtype, mx.floating)


def _random_state() -> int:
    """Where MLX's random numbers stand, as the seed that brings them back there."""
    state: Any = mx.random.state
    high, low = state[0].tolist()
    return int(high) << 32 | int(low)


def versions() -> dict[str, str]:
    """Versions of what a run's numbers depend on."""
    import platform
    from importlib.metadata import version

    names = ("mlx", "mlx-lm", "numpy", "safetensors", "transformers")
    return {"python": platform.python_version(), "platform": platform.platform()} | {n: version(n) for n in names}
