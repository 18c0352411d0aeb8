"""Before a run: will it fit into memory and onto the disk, and what helps where it does not (pure)."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from precision_lora.adapters import read_adapter
from precision_lora.base_folder import read_base
from precision_lora.batching import POSITION_MULTIPLE
from precision_lora.config import CHECKPOINT_DIR, TrainConfig
from precision_lora.dataset import encode
from precision_lora.errors import UserError
from precision_lora.folders import existing_parent, gigabytes
from precision_lora.layout import Layout, Place, place_of, read_layout
from precision_lora.memory import CPU_MAX_TOKENS, TOLERANCE, Estimate, Machine, Work, estimate, lora_parameters
from precision_lora.outputs import disk_needed
from precision_lora.rows import Row

# What a chat template puts around a conversation and around a turn, in tokens: a bound for when it cannot be asked.
TEMPLATE_TOKENS, TURN_TOKENS = 32, 8
# Rows that are tokenised to find the longest: the order by bytes is not quite that by tokens.
CANDIDATES = 24
# 4-bit weights with a scale and a bias of 16 bits for each 64.
FOUR_BIT_BYTES = 4.5 / 8
# Below these, less rank or length costs more of the result than it saves memory.
SMALL_RANK, SMALL_LENGTH = 64, 1024


@dataclass(frozen=True)
class RowSizes:
    """The largest numbers of tokens in a row, descending, and of supervised tokens; not ``exact``: upper bounds."""

    lengths: tuple[int, ...]
    supervised: tuple[int, ...]
    exact: bool


@dataclass(frozen=True)
class Remedy:
    """Flags that need less memory: ``words`` as typed, ``estimate`` with them."""

    words: str
    estimate: Estimate


@dataclass(frozen=True)
class Preflight:
    """What is known of a run before it starts.

    ``ranks``: machines that share its batches. ``also``: layers that an earlier adapter adds to the wanted ones.
    """

    settings: TrainConfig
    layout: Layout
    sizes: RowSizes
    machine: Machine
    ranks: int = 1
    also: frozenset[Place] = frozenset()

    @property
    def parameters(self) -> int:
        return lora_parameters(self.layout, self.work(self.settings))

    def work(self, settings: TrainConfig) -> Work:
        """The sizes of a run with ``settings``, which may differ from the given ones in what takes memory."""
        in_step = math.ceil(settings.batch_size / self.ranks)
        longest = min(self.sizes.lengths[0], settings.max_seq_length)
        rows, length = in_step, longest
        if self.machine.device == "cpu":  # more of shorter rows may hold more tokens than fewer of the longest
            cuts = [(r, longest if r == 1 else min(longest, CPU_MAX_TOKENS // r)) for r in range(1, in_step + 1)]
            rows, length = max(cuts, key=lambda cut: cut[0] * cut[1])
        supervised = [min(count, settings.max_seq_length) for count in self.sizes.supervised[:rows]]
        # With fewer rows than a batch holds, empty ones fill it.
        return Work(
            rows=rows,
            length=length,
            supervised=math.ceil(sum(supervised) / POSITION_MULTIPLE) * POSITION_MULTIPLE,
            rank=settings.lora_rank,
            targets=settings.lora_targets,
            num_layers=settings.num_layers,
            also=self.also,
            grad_checkpoint=settings.grad_checkpoint,
            accumulated=settings.grad_accumulation > 1 or rows < in_step,
        )

    def estimate(self, settings: TrainConfig | None = None) -> Estimate:
        return estimate(self.layout, self.work(settings or self.settings), self.machine)


def look(settings: TrainConfig, base: Path, sizes: RowSizes, machine: Machine, ranks: int = 1) -> Preflight:
    """Read the headers of ``base``, and of an earlier adapter where the run starts from one; nothing is loaded.

    Raises:
        UserError: base or adapter is missing, damaged or of an unknown kind; more layers wanted than there are.
    """
    layout = read_layout(read_base(base))
    if settings.num_layers > layout.layers:
        raise UserError(
            f"--num-layers {settings.num_layers}: 该模型只有 {layout.layers} 层", "--num-layers -1 训练全部层"
        )
    also: frozenset[Place] = frozenset()
    if settings.adapter_path:
        old = read_adapter(Path(settings.adapter_path).expanduser(), "接着训练")
        also = frozenset(place for layer in old.layers if (place := place_of(layer.module)) is not None)
    return Preflight(settings, layout, sizes, machine, ranks, also)


def row_sizes(rows: Sequence[Row], tokenizer: Any | None, settings: TrainConfig) -> RowSizes:
    """Sizes of the longest usable ``rows``, tokenised; without a tokenizer bounded by their bytes.

    Only the longest by bytes are looked at, so that the cost hardly grows with the data.

    Raises:
        UserError: no row has a supervised token within the limit, or the chat template refuses one.
    """
    ordered = sorted(rows, key=_bytes, reverse=True)
    count = max(CANDIDATES, 4 * settings.batch_size)
    if tokenizer is None:
        # A byte-level tokenizer never makes more than one token of a byte.
        bounds = tuple(min(settings.max_seq_length, _bytes(row) + _template_tokens(row)) for row in ordered[:count])
        return RowSizes(bounds, bounds, exact=False)
    for first in range(0, len(ordered), count):
        encoded = encode(ordered[first : first + count], tokenizer, settings.max_seq_length)
        if len(encoded.lines):
            supervised = np.add.reduceat(encoded.supervised, encoded.offsets[:-1], dtype=np.int64)
            return RowSizes(_descending(encoded.lengths), _descending(supervised), exact=True)
    raise UserError("训练数据里没有一条可用", "把 --max-seq-length 调大，或检查数据里的 assistant 回答")


def _descending(counts: np.ndarray) -> tuple[int, ...]:
    return tuple(sorted(map(int, counts), reverse=True))


def _bytes(row: Row) -> int:
    return len((row.text or "").encode()) + sum(len(message.content.encode()) for message in row.messages)


def _template_tokens(row: Row) -> int:
    return TEMPLATE_TOKENS + TURN_TOKENS * len(row.messages)


# --------------------------------------------------------------------------------------------------------------------
# What helps


def options(preflight: Preflight) -> dict[str, dict[str, Any]]:
    """Flags that may help, as typed, with the settings that they change; first those that cost the result least."""
    settings, length = preflight.settings, preflight.work(preflight.settings).length
    found: dict[str, dict[str, Any]] = {}
    if not settings.grad_checkpoint:
        found["--grad-checkpoint"] = {"grad_checkpoint": True}
    if settings.batch_size > preflight.ranks:
        found[f"--batch-size {preflight.ranks}"] = {"batch_size": preflight.ranks}
    rank = SMALL_RANK if settings.lora_rank > SMALL_RANK else settings.lora_rank // 2
    if rank >= 8:
        found[f"--lora-rank {rank}"] = {"lora_rank": rank}
    shorter = SMALL_LENGTH if length > SMALL_LENGTH else length // 2 // 64 * 64
    if shorter >= 64:
        found[f"--max-seq-length {shorter}"] = {"max_seq_length": shorter}
    return found


def remedies(preflight: Preflight) -> list[Remedy]:
    """Each flag that needs less memory, the strongest first."""
    now = preflight.estimate().peak
    found = [_with(preflight, flag) for flag in options(preflight).items()]
    return sorted((r for r in found if r.estimate.peak < now), key=lambda r: r.estimate.peak)


def enough(preflight: Preflight) -> Remedy | None:
    """The fewest flags that together make the run fit; None when not even all of them do."""
    flags = options(preflight).items()
    for count in range(1, len(flags) + 1):
        for chosen in itertools.combinations(flags, count):
            remedy = _with(preflight, *chosen)
            if _over(preflight, remedy.estimate.peak) <= 0:
                return remedy
    return None


def _with(preflight: Preflight, *flags: tuple[str, dict[str, Any]]) -> Remedy:
    changes = {name: value for _, changed in flags for name, value in changed.items()}
    return Remedy(" ".join(words for words, _ in flags), preflight.estimate(replace(preflight.settings, **changes)))


def advice(preflight: Preflight) -> list[str]:
    """What each flag saves, and where the run does not fit the fewest that make it fit, for the person."""
    now = preflight.estimate()
    found = remedies(preflight)
    columns = max((len(remedy.words) for remedy in found), default=0)
    lines = [
        f"{remedy.words:<{columns}}  少用 {gigabytes(now.peak - remedy.estimate.peak):>8}，"
        f"共 {gigabytes(remedy.estimate.peak):>8}"
        for remedy in found
    ]
    if _over(preflight, now.peak) <= 0:
        return lines
    together = enough(preflight)
    if together is None:
        four_bits = round(FOUR_BIT_BYTES * preflight.layout.weights)
        smaller = f"（4-bit 的权重约 {gigabytes(four_bits)}）" if four_bits < now.weights else ""
        lines.append(f"以上全用也放不下: 换用更小或量化的基础模型{smaller}，或内存更大的机器")
    else:
        lines.append(f"这样放得下: {together.words}，共 {gigabytes(together.estimate.peak)}")
    return lines


def _over(preflight: Preflight, peak: int) -> float:
    """By which share of the limit ``peak`` is over it; negative when it fits."""
    limit = preflight.machine.limit
    return -1.0 if limit is None else peak / max(limit, 1) - 1


def check(preflight: Preflight) -> list[str]:
    """Lines of warning where the run may not fit.

    Raises:
        UserError: it will not fit, by more than the estimate may be wrong.
    """
    peak = preflight.estimate().peak
    over = _over(preflight, peak)
    if over <= 0:
        return []
    machine = preflight.machine
    need = f"这次训练约需 {gigabytes(peak)}，{machine.source} {gigabytes(machine.limit or 0)}"
    lines = advice(preflight)
    if machine.device == "cpu":
        lines.append("关闭别的程序，可用内存会多一些")
    if preflight.settings.resume:
        lines.append("接着训练时不能改这些设置，换设置要另开一次: --output-dir 文件夹")
    if over > TOLERANCE:
        raise UserError(f"内存不足: {need}", *lines, "查看每一项: --preflight")
    return [f"内存可能不够: {need}", *lines]


def out_of_memory(preflight: Preflight | None, saved: Path | None) -> UserError:
    """Memory ran out while training: the same advice; ``saved`` is the checkpoint that holds the progress."""
    kept = f"，进度保存在 {saved}（换设置要另开一次训练: --output-dir 文件夹）" if saved else ""
    lines = advice(preflight) if preflight is not None else []
    if not lines:
        lines = ["关闭别的程序", "换用更小或量化的基础模型，或内存更大的机器"]
    return UserError(f"内存不足{kept}", *lines)


# --------------------------------------------------------------------------------------------------------------------
# The report


def render(preflight: Preflight) -> str:
    """``--preflight``: every term, what helps, the disk."""
    settings, layout, now = preflight.settings, preflight.layout, preflight.estimate()
    work = preflight.work(settings)
    other = preflight.estimate(replace(settings, grad_checkpoint=not settings.grad_checkpoint))
    with_word, other_word = ("有", "无") if settings.grad_checkpoint else ("无", "有")
    bound = "" if preflight.sizes.exact else "（没有分词器，按字节数取的上限）"
    lines = [
        "🧮 训练前估算（只读文件头，不加载模型）",
        f"   基础模型: {layout.weights:,} 个参数，{layout.layers} 层，磁盘上 {gigabytes(layout.folder_bytes)}",
        f"   批次: {work.rows} 条 × 最长 {work.length} 个词元，其中学习 {work.supervised} 个{bound}",
        f"   LoRA: 秩 {work.rank}，{preflight.parameters:,} 个参数",
        "",
        "   内存",
    ]
    terms = [
        ("模型权重", now.weights, ""),
        ("LoRA", now.adapter, ""),
        ("AdamW 动量", now.moments, ""),
        ("梯度", now.gradients + now.carried, ""),
        (
            "激活值",
            now.activations,
            f"{with_word} --grad-checkpoint；{other_word}则为 {gigabytes(other.activations)}",
        ),
        ("运算中的临时数组", now.ahead, ""),
        ("输出层（分块）", now.logits, ""),
        ("更新时的新值", now.updated, ""),
    ]
    if now.process:
        terms.append(("Python 与程序库", now.process, ""))
    for name, count, note in terms:
        lines.append(f"     {gigabytes(count):>10}  {name}" + (f"（{note}）" if note else ""))
    machine = preflight.machine
    limit = f"{machine.source} {gigabytes(machine.limit)}" if machine.limit is not None else "这台机器的上限未知"
    lines += [f"     {gigabytes(now.peak):>10}  峰值（各项不全在同一时刻）；{limit}", "", "   省内存的办法"]
    lines += [f"     {line}" for line in advice(preflight)]
    parent = existing_parent(settings.output / CHECKPOINT_DIR)
    free = shutil.disk_usage(parent).free
    lines += [
        "",
        "   磁盘",
        f"     {gigabytes(disk_needed(settings, preflight.parameters)):>10}  adapter 与检查点，最多",
        f"     {gigabytes(layout.folder_bytes):>10}  以后融合出的模型（同一个 APFS 磁盘上只占改动的部分）",
        f"     {gigabytes(free):>10}  剩余（{parent.resolve()}）",
        "",
        "   时间: 训练开始后按前几步的速度显示剩余时间",
    ]
    return "\n".join(lines)
