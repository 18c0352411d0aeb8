"""The words of the training script: plan, data, banners, the end, and its own errors (pure)."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from precision_lora.batching import padding_share, plan
from precision_lora.config import ADAPTER_DIR, CHECKPOINT_DIR, LOG_DIR, MODEL_DIR, TrainConfig
from precision_lora.dataset import Encoded
from precision_lora.engine import Loaded
from precision_lora.errors import UserError
from precision_lora.folders import gigabytes
from precision_lora.journal import Journal, duration, width
from precision_lora.labels import KIND_NAMES
from precision_lora.outputs import CURVES, disk_needed
from precision_lora.phases import Phase
from precision_lora.preflight import Preflight

# ANSI styles; a terminal that wants none gets none.
BOLD, YELLOW, GREEN = "1", "33", "32"
RULE_COLUMNS = 72
BAR_COLUMNS = 20

SIMULATION = "模拟模式适合测试流程，但不会真正训练"
INSTALL_MLX = "pip install mlx mlx-lm（Apple Silicon 的 Mac；Linux: pip install -r requirements.txt）"
NO_MLX = ("MLX未安装，自动使用模拟模式", f"安装MLX: {INSTALL_MLX}")
ASKED_FOR = ("参数 --simulate: 使用模拟模式",)


def paint(text: str, style: str) -> str:
    """``text`` in an ANSI style where the terminal shows one (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"


def rule(title: str, style: str = BOLD) -> str:
    """A line across the terminal with a title in it."""
    columns = min(RULE_COLUMNS, shutil.get_terminal_size().columns)
    return paint(f"── {title} " + "─" * max(0, columns - 4 - width(title)), style)


# --------------------------------------------------------------------------------------------------------------------
# Before the run


def show_plan(journal: Journal, settings: TrainConfig, loaded: Loaded, train_rows: int, valid_rows: int) -> None:
    journal.say(rule("🎯 V3精准度强化训练"))
    show_simulation(journal, loaded)
    for remark in loaded.remarks:
        journal.say(paint(remark, YELLOW) if remark.startswith("⚠️") else f"   {remark}")
    journal.say(f"   基础模型: {settings.base_model}")
    journal.say(f"   数据: {settings.data}（训练 {train_rows} 条，验证 {valid_rows} 条）")
    journal.say(
        f"   步数: {settings.steps}，批次 {settings.batch_size}"
        + (f" × 累积 {settings.grad_accumulation}" if settings.grad_accumulation > 1 else "")
        + f"，学习率 {settings.lr:g}（预热 {settings.warmup} 步，{settings.lr_schedule}）"
    )
    journal.say(f"   精准度权重: {settings.precision_weight:g}，人情味权重: {settings.empathy_weight:g}")
    journal.say(f"   {loaded.summary}")
    for module in loaded.modules:
        journal.note(f"训练 {module}")
    if settings.adapter_path:
        journal.say(f"   起点: {settings.adapter_path}")
    needed = gigabytes(disk_needed(settings, loaded.parameters))
    journal.say(f"   输出: {settings.output.resolve()}（检查点最多占 {needed}）")


def show_memory(journal: Journal, seen: Preflight | None, warnings: Sequence[str]) -> None:
    """What the run will need beside what there is, and the advice where that is close."""
    if seen is not None:
        limit = seen.machine.limit
        there = "" if limit is None else f"（{seen.machine.source} {gigabytes(limit)}）"
        journal.say(f"   内存: 估计 {gigabytes(seen.estimate().peak)}{there}，逐项见 --preflight")
    for line in warnings[:1]:
        journal.warn(line)
    for line in warnings[1:]:
        journal.say(f"      {line}")


def show_simulation(journal: Journal, loaded: Loaded) -> None:
    """The banner of a simulated run, at its start and at its end."""
    if loaded.simulated:
        journal.say(paint(f"🧪 {SIMULATION}", YELLOW))


def confirmed(settings: TrainConfig, rank: int) -> bool:
    """Ask before starting, where someone is there to answer."""
    if settings.yes or rank != 0 or not sys.stdin.isatty():
        return True
    try:
        return input("\n开始训练？[Y/n] ").strip().lower() in ("", "y", "yes", "是")
    except EOFError:
        return False


def show_data(
    journal: Journal,
    settings: TrainConfig,
    data: Encoded,
    held_out: Encoded | None,
    bounds: Sequence[int],
    rows_per_step: int,
    rows_per_micro: int,
    max_tokens: int | None,
) -> None:
    steps = plan(data.lengths, rows_per_step, settings.seed, 0)
    padding = padding_share(data.lengths, steps, rows_per_micro, max_tokens)
    journal.say(
        f"📚 学习 {int(data.supervised.sum()):,} 个 token（全文 {len(data.tokens):,}），"
        f"{len(bounds)} 种长度，填充 {padding:.1%}"
    )
    for name, part in (("train.jsonl", data), ("valid.jsonl", held_out)):
        if part is not None and part.truncated:
            journal.warn(f"{name}: {part.truncated} 条超过 {settings.max_seq_length} 个 token，被截短")
        if part is not None and part.skipped:
            shown = "、".join(map(str, part.skipped[:5])) + ("……" if len(part.skipped) > 5 else "")
            journal.warn(f"{name}: {len(part.skipped)} 条没有可学的回答，跳过（第 {shown} 行）")


# --------------------------------------------------------------------------------------------------------------------
# During the run


def show_phase(journal: Journal, phase: Phase, settings: TrainConfig) -> None:
    focus = "、".join(KIND_NAMES[kind] for kind in phase.focus)
    journal.say()
    journal.say(rule(f"阶段{phase.index} {phase.name}"))
    journal.say(
        f"   第 {phase.start + 1}–{phase.end} 步 · 精准度权重 {settings.precision_weight * phase.precision_factor:g}"
        f" · 人情味权重 {settings.empathy_weight * phase.empathy_factor:g}"
    )
    journal.say(f"   重点: {focus}")


def show_valid(
    journal: Journal, when: str, measured: Mapping[str, float], before: Mapping[str, float] | None = None
) -> None:
    """A validation: the loss with its change since the start, then each kind."""
    change = f"（{measured['loss'] - before['loss']:+.3f}）" if before else ""
    journal.say(f"🔎 {when}的验证: loss {measured['loss']:.4f}{change}")
    journal.say(
        "   " + " · ".join(f"{name} {measured[key]:.2f}" for key, name in KIND_NAMES.items() if key in measured)
    )


def live_fields(phase: Phase, loss: float, tokens_per_second: float, peak_memory: int | None) -> list[str]:
    """What the live line shows of one step."""
    fields = [f"阶段{phase.index}", f"loss {loss:.4f}", f"{tokens_per_second:.0f} token/s"]
    return fields if peak_memory is None else [*fields, gigabytes(peak_memory)]


# --------------------------------------------------------------------------------------------------------------------
# After the run


def bars(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Per kind, and for all tokens: negative log-likelihood before → after, a bar of it, and the change.

    A full block is what is left, a light one what was gained, ``▒`` what was lost.
    """
    names = {"loss": "全部"} | KIND_NAMES
    kinds = [kind for kind in names if kind in before and kind in after]
    longest = max((max(before[k], after[k]) for k in kinds), default=1.0) or 1.0
    lines = []
    for kind in kinds:
        old, new = before[kind], after[kind]
        common, top = (round(BAR_COLUMNS * x / longest) for x in (min(old, new), max(old, new)))
        drawn = "█" * common + ("░" if new <= old else "▒") * (top - common)
        name = names[kind] + " " * (6 - width(names[kind]))
        share = f"{round(100 * (new - old) / old):+d}%".replace("+0%", "0%") if old > 0 else ""
        lines.append(f"   {name} {old:6.3f} → {new:6.3f}  {drawn:<{BAR_COLUMNS}} {share:>5}")
    return lines


def show_end(
    journal: Journal, settings: TrainConfig, loaded: Loaded, record: Mapping[str, Any], seconds: float
) -> None:
    """How it went, where the files are, what comes next."""
    result = record["result"]
    journal.say()
    journal.say(rule("✅ 模拟完成" if loaded.simulated else "✅ 训练完成", GREEN))
    show_simulation(journal, loaded)
    loss = "" if result["final_loss"] is None else f"，最终 loss {result['final_loss']:.4f}"
    journal.say(f"   {settings.steps} 步，用时 {duration(seconds)}{loss}")
    if result["best"]:
        journal.say(f"   验证最好: 第 {result['best']['step']} 步，loss {result['best']['loss']:.4f}")
    if result["skipped_steps"]:
        journal.warn(f"有 {result['skipped_steps']} 步没有更新，行号在日志里")
    if result["valid_before"] and result["valid_after"]:
        journal.say("\n   验证集: 每个 token 的负对数似然，训练前 → 训练后，越低越好")
        for line in bars(result["valid_before"], result["valid_after"]):
            journal.say(line)
    journal.say(f"\n文件（在 {settings.output.resolve()}）:")
    curves = "、训练曲线" if (settings.output / MODEL_DIR / CURVES).exists() else ""
    rows = [(ADAPTER_DIR, f"adapter（第 {result['adapter_step']} 步）"), (MODEL_DIR, f"指标、配置、说明{curves}")]
    rows += [(CHECKPOINT_DIR, "检查点")]
    rows += [(f"{LOG_DIR}/{journal.path.name}", "日志")] if journal.path is not None else []
    for name, what in rows:
        journal.say(f"   {name:<46} {what}")
    journal.say("\n接下来:")
    if loaded.simulated:
        journal.say("   模拟的 adapter 不能用来对话，评估和融合也会拒绝它。真正训练:")
        journal.say(f"   1. {INSTALL_MLX}")
        journal.say(f"   2. {real_command()}")
        return
    demo = " --demo" if settings.demo else ""
    base, place = (shlex.quote(str(path)) for path in (loaded.path, settings.output / ADAPTER_DIR))
    journal.say(f"   试一句  mlx_lm.generate --model {base} --adapter-path {place} \\")
    journal.say('             --prompt "我的血压140/90需要担心吗？" --max-tokens 300')
    journal.say(f"   评估    python evaluate_v3_model.py{demo}")
    journal.say(f"   融合    python fuse_v3_model.py{demo}")


def show_stopped(journal: Journal, step: int, saved: Path) -> None:
    journal.say(f"\n⏸️  已停在第 {step} 步，进度保存在 {saved}")
    journal.say(f"   继续训练: {resume_command()}")


def resume_command() -> str:
    """The command line that goes on with this run."""
    return _command({"--overwrite", "--resume"}, "--resume")


def real_command() -> str:
    """The command line that trains what this run simulated, in its place."""
    return _command({"--overwrite", "--resume", "--simulate"}, "--overwrite")


def _command(without: set[str], *more: str) -> str:
    # `--resume` may be followed by its folder, in a word of its own.
    words = [
        word
        for word, before in zip(sys.argv, ["", *sys.argv], strict=False)
        if word.split("=")[0] not in without and (before != "--resume" or word.startswith("--"))
    ]
    return shlex.join(["python", *words, *more])


# --------------------------------------------------------------------------------------------------------------------
# Errors


def broken_mlx(error: Exception) -> UserError:
    """MLX is there and cannot be used: never simulated over, because the person expects real training."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    missing = getattr(error, "name", None)
    what = "MLX已安装，但缺少mlx-lm" if missing == "mlx_lm" else "MLX已安装，但无法加载"
    return UserError(
        f"{what}: {reason}",
        "重新安装: pip install --force-reinstall -r requirements.txt",
        "只想测试流程: 加 --simulate（不会真正训练）",
    )


def looks_like_memory(error: Exception) -> bool:
    words = ("malloc", "out of memory", "allocate", "insufficient memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def base_not_finite() -> UserError:
    return UserError(
        "基础模型在验证集上的损失不是有限的数，没有开始训练",
        "模型权重里有 NaN: 重新下载基础模型",
        "验证数据太长: 把 --max-seq-length 调小",
    )


def diverged(skipped: int, saved: Path) -> UserError:
    return UserError(
        f"连续 {skipped} 步的损失或梯度不是有限的数，训练停止（状态在 {saved}）",
        "学习率太高: 把 --lr 减到十分之一，另开一次训练",
        "数据有问题: 查看日志里写出的行",
        "模型权重里有 NaN: 重新下载基础模型",
    )
