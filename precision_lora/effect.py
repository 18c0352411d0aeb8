"""What fusing keeps of an adapter's effect, measured on logits, with one decoder layer in memory at a time.

All variants (base, base + adapter, each stored form) go through the model together: every layer is read once, run for
each variant with that variant's weights, and dropped. Activations are float32, so that differences of a thousandth of
the adapter's effect can be seen.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map

from precision_lora import packing as mlx_packing
from precision_lora.adapters import AdapterLayer
from precision_lora.base_folder import canonical
from precision_lora.errors import UserError
from precision_lora.fusing import Form, FusePlan
from precision_lora.model import SWITCH_TYPES, decoder_layers, load_model, load_tokenizer
from precision_lora.safetensors_io import Tensor, from_float32, read_float32, to_float32

BASE, ADAPTER = "base", "adapter"
# The largest part of the adapter's effect that `auto` lets rounding take away or add.
REMAINING_LIMIT = 0.05
# Logits of one token take 0.6 MB at a vocabulary of 150,000, for each variant.
MAX_PROMPT_TOKENS = 40
PROMPTS = (
    "我的血压140/90需要担心吗？",
    "我的空腹血糖是7.2 mmol/L，这个值高吗？",
    "刚确诊高血压，很担心以后怎么办，需要马上吃药吗？",
)

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Prompts:
    """``tokens`` int32 (B, L), padded at the right; ``valid`` bool (B, L)."""

    tokens: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Touch:
    """An adapted module: its LoRA, and the stored form that it has in each precision to be measured."""

    layer: AdapterLayer
    forms: Mapping[str, Form]


def make_prompts(folder: Path, texts: Sequence[str] = PROMPTS) -> Prompts:
    """The consultation questions in the model's own chat format, cut to the same largest length.

    Raises: UserError where the folder has no usable tokenizer, or its chat template refuses a question.
    """
    try:
        tokenizer = load_tokenizer(folder)
        rows = [_encode(tokenizer, text)[-MAX_PROMPT_TOKENS:] for text in texts]
    except (ValueError, KeyError, TypeError, OSError, AttributeError) as error:
        raise UserError(f"模型的分词器无法加载: {folder}（{error}）", "重新复制完整的模型文件夹") from None
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
    valid = np.zeros(tokens.shape, bool)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
        valid[row, : len(ids)] = True
    return Prompts(tokens, valid)


def _encode(tokenizer: Any, text: str) -> list[int]:
    if not getattr(tokenizer, "chat_template", None):
        return list(tokenizer.encode(text))
    try:
        return list(tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True))
    except Exception as error:  # jinja raises its own kinds, and templates raise through it
        raise UserError(
            f"模型的聊天模板不接受这段对话: {error}", "换用带聊天模板的模型", "或加 --no-model-check，融合时不测量"
        ) from None


def touches(plans: Mapping[str, FusePlan]) -> dict[str, Touch]:
    """The adapted modules by canonical path, with their forms under each plan's name."""
    found: dict[str, tuple[AdapterLayer, dict[str, Form]]] = {}
    for precision, plan in plans.items():
        for site in plan.sites:
            for update in site.updates:
                entry = found.setdefault(canonical(update.layer.module), (update.layer, {}))
                entry[1][precision] = plan.forms[site.weight.name]
    return {path: Touch(layer, forms) for path, (layer, forms) in found.items()}


def measure(
    folder: Path,
    prompts: Prompts,
    touched: Mapping[str, Touch],
    variants: Sequence[str],
    progress: Progress = lambda _: None,
) -> dict[str, np.ndarray]:
    """Logits of a model folder in float32 for each variant: (valid positions, vocabulary).

    ``variants``: ``base``, ``adapter`` and precisions that ``touched`` has forms for. ``progress`` is told each
    finished layer. The folder is loaded strictly by mlx-lm.

    Raises: UserError where mlx-lm cannot load the folder.
    """
    try:
        model, _ = load_model(folder, lazy=True, strict=True)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"mlx-lm 无法加载模型: {folder}（{first}）", "pip install -U mlx-lm 后重试") from None
    paths = decoder_layers(model)
    modules = dict(model.named_modules())
    runner = _Runner(touched, tuple(variants), progress)
    for container in {path.rpartition(".")[0] for path in paths}:
        owner_path, _, attribute = container.rpartition(".")
        owner = modules[owner_path]
        owner[attribute] = [
            _Streamed(layer, f"{container}.{index}", runner) for index, layer in enumerate(owner[attribute])
        ]
    _replace_outside(modules, paths, runner)
    tokens = mx.array(np.tile(prompts.tokens, (len(variants), 1)))
    logits = model(tokens)
    mx.eval(logits)
    array = np.array(logits.astype(mx.float32)).reshape(len(variants), *prompts.tokens.shape, -1)
    return {variant: array[index][prompts.valid] for index, variant in enumerate(variants)}


def remaining(fused: np.ndarray, logits: Mapping[str, np.ndarray]) -> float:
    """|fused - adapter| / |adapter - base| of the logits; 0 where the adapter changes nothing and fused neither."""
    effect = float(np.linalg.norm(logits[ADAPTER] - logits[BASE]))
    error = float(np.linalg.norm(fused - logits[ADAPTER]))
    if effect == 0:
        return 0.0 if error == 0 else float("inf")
    return error / effect


def relative_effect(logits: Mapping[str, np.ndarray]) -> float:
    """|adapter - base| / |base| of the logits: how much the adapter changes at all."""
    return float(np.linalg.norm(logits[ADAPTER] - logits[BASE]) / np.linalg.norm(logits[BASE]))


class _Runner:
    """Runs one layer for every variant; the batch holds the variants one after the other."""

    def __init__(self, touched: Mapping[str, Touch], variants: tuple[str, ...], progress: Progress) -> None:
        self.touched, self.variants, self.progress = touched, variants, progress

    def run(self, layer: nn.Module, path: str, x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        sources: dict[str, nn.Module] = {}
        replaced: list[nn.Module] = []
        for name, module in layer.named_modules():
            key = canonical(f"{path}.{name}")
            if key in self.touched:
                sources[name] = module
            if _is_weighted(module) and (key in self.touched or _prefers_plain()):
                _set_module(layer, name, _plain(module))
                replaced.append(module)
        plain = dict(layer.named_modules())
        outputs = []
        base_weights = {name: plain[name].weight for name in sources}
        for variant, part in zip(self.variants, _split(x, len(self.variants)), strict=True):
            for name, source in sources.items():
                touch = self.touched[canonical(f"{path}.{name}")]
                plain[name].weight = _weight(source, base_weights[name], touch, variant)
            outputs.append(layer(part, *args, **kwargs))
            mx.eval(outputs[-1])
        # The replaced modules as well: what they have read would stay in memory with them.
        for module in (*replaced, layer):
            module.update(tree_map(lambda _: mx.zeros((0,)), module.parameters()))
        mx.clear_cache()
        self.progress(1)
        return mx.concatenate(outputs)


class _Streamed:
    """Stands in for a decoder layer that is read, run for every variant and dropped."""

    def __init__(self, layer: nn.Module, path: str, runner: _Runner) -> None:
        self._layer, self._path, self._runner = layer, path, runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        return self._runner.run(self._layer, self._path, x.astype(mx.float32), *args, **kwargs)


class _PerVariant:
    """Stands in for an adapted embedding or output head, outside the decoder layers."""

    def __init__(self, source: nn.Module, touch: Touch, variants: tuple[str, ...]) -> None:
        self._plain, self._variants = _plain(source), variants
        base = self._plain.weight
        self._weights = [_weight(source, base, touch, variant) for variant in variants]

    def _each(self, method: str, x: mx.array) -> mx.array:
        outputs = []
        for weight, part in zip(self._weights, _split(x, len(self._variants)), strict=True):
            self._plain.weight = weight
            outputs.append(getattr(self._plain, method)(part))
            mx.eval(outputs[-1])
        return mx.concatenate(outputs)

    def __call__(self, x: mx.array) -> mx.array:
        return self._each("__call__", x)

    def as_linear(self, x: mx.array) -> mx.array:
        return self._each("as_linear", x)


def _replace_outside(modules: Mapping[str, nn.Module], layers: Sequence[str], runner: _Runner) -> None:
    inside = tuple(f"{path}." for path in layers)
    for name, module in modules.items():
        if name.startswith(inside) or not _is_weighted(module):
            continue
        owner, _, attribute = name.rpartition(".")
        if canonical(name) in runner.touched:
            modules[owner][attribute] = _PerVariant(module, runner.touched[canonical(name)], runner.variants)
        elif _prefers_plain() and hasattr(module, "scales"):
            modules[owner][attribute] = _plain(module)


def _prefers_plain() -> bool:
    """MLX's CPU multiplies float32 a hundred times faster than anything else; a GPU takes weights as they are."""
    return mx.default_device() == mx.cpu


def _split(x: mx.array, parts: int) -> list[mx.array]:
    return list(mx.split(x, parts)) if parts > 1 else [x]


def _set_module(root: nn.Module, path: str, module: nn.Module) -> None:
    owner: Any = root
    *parents, last = path.split(".")
    for part in parents:
        owner = owner[int(part)] if isinstance(owner, list) else owner[part]
    if isinstance(owner, list):
        owner[int(last)] = module
    else:
        owner[last] = module


def _is_weighted(module: nn.Module) -> bool:
    kinds = (nn.Linear, nn.QuantizedLinear, nn.Embedding, nn.QuantizedEmbedding, *SWITCH_TYPES)
    return isinstance(module, kinds)


def _plain(module: nn.Module) -> nn.Module:
    """The same layer with a plain float32 weight; dequantised in float32, where scales of 16 bits would round it."""
    if hasattr(module, "scales"):
        affine = module.get("biases") is not None
        weight = mx.dequantize(
            module.weight,
            module.scales.astype(mx.float32) if affine else module.scales,
            module.biases.astype(mx.float32) if affine else None,
            group_size=module.group_size,
            bits=module.bits,
            mode=module.mode,
        )
    else:
        weight = module.weight
    bias = "bias" in module
    shell: nn.Module
    if isinstance(module, SWITCH_TYPES):
        shell = SWITCH_TYPES[0](1, 1, 1, bias=bias)
    elif isinstance(module, (nn.Embedding, nn.QuantizedEmbedding)):
        shell = nn.Embedding(1, 1)
    else:
        shell = nn.Linear(1, 1, bias=bias)
    shell.weight = weight.astype(mx.float32)
    if bias:
        shell.bias = module.bias.astype(mx.float32)
    return shell


def _weight(source: nn.Module, base: mx.array, touch: Touch, variant: str) -> mx.array:
    """The weight of an adapted module in float32 under ``variant``."""
    if variant == BASE:
        return base
    exact = base + _change(touch.layer, source, base.shape)
    if variant == ADAPTER:
        return exact
    form = touch.forms[variant]
    mx.eval(exact)
    if form.packing is None:
        values = np.array(exact)
        return mx.array(to_float32(from_float32(values, form.dtype), form.dtype))
    rows = np.array(exact).reshape(-1, base.shape[-1])
    own_grid = None
    if _same_packing(source, form) and form.packing.mode == "affine":
        scales, biases = (np.array(source[key].astype(mx.float32)) for key in ("scales", "biases"))
        own_grid = scales.reshape(len(rows), -1), biases.reshape(len(rows), -1)
    parts = mlx_packing.pack(rows, form.packing, form.dtype, own_grid)
    grid = [to_float32(part, form.dtype) for part in parts[1:]] if form.packing.mode == "affine" else parts[1:]
    values = mlx_packing.unpack(parts[0], grid[0], grid[1] if len(grid) > 1 else None, form.packing)
    return mx.array(values.reshape(base.shape))


def _same_packing(source: nn.Module, form: Form) -> bool:
    packing = form.packing
    if packing is None or not hasattr(source, "scales"):
        return False
    return (source.mode, source.bits, source.group_size) == (packing.mode, packing.bits, packing.group_size)


def _change(layer: AdapterLayer, source: nn.Module, shape: tuple[int, ...]) -> mx.array:
    """The adapter's change of a module's weight, from whole tensors, as the loaders' LoRA layers compute it."""
    a, b = _whole(layer.a), _whole(layer.b)
    if len(shape) == 3:
        return layer.scale * (b @ a.reshape(shape[0], -1, shape[2]))
    if isinstance(source, (nn.Embedding, nn.QuantizedEmbedding)):
        return layer.scale * (a @ b)
    return layer.scale * (a @ b).T


def _whole(tensor: Tensor) -> mx.array:
    return mx.array(read_float32(tensor).reshape(tensor.shape))


def check_fused(fused: np.ndarray, precision: str, logits: Mapping[str, np.ndarray]) -> None:
    """Hold a written folder's logits against those expected of its precision.

    Float32 noise is allowed: a hundredth of the adapter's effect, or a ten-thousandth of the logits.

    Raises: UserError where they differ by more, or are not finite.
    """
    if fused.shape != logits[precision].shape or not np.isfinite(fused).all():
        raise UserError("融合后的模型输出不是有限的数", "检查 adapter 的训练日志，用更早的检查点重新融合")
    allowed = max(
        0.01 * np.linalg.norm(logits[ADAPTER] - logits[BASE]),
        1e-4 * np.linalg.norm(logits[BASE]),
    )
    if np.linalg.norm(fused - logits[precision]) > allowed:
        raise UserError("融合后的模型与基础模型+adapter 的输出不符", "重新运行；若再次出现，请报告问题")


def load_in_mlx_vlm(folder: Path) -> bool | None:
    """Load a folder strictly in mlx-vlm, LM Studio's loader for vision models; None where it is not installed.

    Raises: UserError where mlx-vlm refuses the folder.
    """
    if importlib.util.find_spec("mlx_vlm") is None:
        return None
    from mlx_vlm.utils import load_model as load_vision_model

    try:
        load_vision_model(folder, lazy=True)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        raise UserError(f"mlx-vlm 无法加载融合后的模型: {error}", "pip install -U mlx-vlm 后重试") from None
    return True
