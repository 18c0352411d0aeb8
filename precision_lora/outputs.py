"""The folders that a run leaves, and what may already lie in them (pure)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from precision_lora.checkpoint import (
    ADAPTER,
    ADAPTER_CONFIG,
    checkpoints,
    clean_leftovers,
    history_text,
    to_text,
    write_text,
)
from precision_lora.config import ADAPTER_DIR, CHECKPOINT_DIR, LOG_DIR, MODEL_DIR, TrainConfig
from precision_lora.errors import UserError
from precision_lora.folders import copy_file, existing_parent, gigabytes
from precision_lora.labels import KIND_NAMES

METRICS, RUN_RECORD, MODEL_CARD = "metrics_history.json", "training_config.json", "README.md"
CURVES = "training_curves.png"
SIMULATED = "**这是模拟: 流程走完了，模型没有训练。下面的数字来自代用的小模型，adapter 不能使用。**"
# Logs, tables and the file system's own needs.
SPARE_BYTES = 64 << 20


def existing_run(output: Path) -> Path | None:
    """Something that an earlier run left in ``output`` and a new one would overwrite."""
    for path in (output / ADAPTER_DIR / ADAPTER, output / MODEL_DIR / RUN_RECORD):
        if path.exists():
            return path
    return next(iter(checkpoints(output / CHECKPOINT_DIR)), None)


def check_output(settings: TrainConfig, simulated: bool) -> None:
    """Raises UserError when a new run would overwrite an earlier one, or the folder cannot be one.

    A simulation never takes the place of a run that really trained, not even with ``--overwrite``.
    """
    output = settings.output
    for path in (output, *(output / name for name in (ADAPTER_DIR, MODEL_DIR, CHECKPOINT_DIR, LOG_DIR))):
        nearest = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
        if not nearest.is_dir():
            raise UserError(f"输出文件夹是一个文件: {nearest}", "换一个: --output-dir 文件夹")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise UserError(f"输出文件夹不能写入: {nearest}（没有权限）", "换一个: --output-dir 文件夹")
    found = existing_run(output)
    if found is not None and not settings.resume and not settings.overwrite:
        raise UserError(
            f"输出文件夹里已有训练结果: {found}",
            "继续那次训练: 加 --resume",
            "删除它重新开始: 加 --overwrite",
            "保留它，另存一处: 加 --output-dir 文件夹",
        )
    if found is not None and simulated and not is_simulated(output):
        raise UserError(
            f"输出文件夹里是真正训练的结果，模拟不会覆盖它: {found}",
            "模拟另存一处: 加 --output-dir 文件夹",
            "要继续真正的训练，先安装MLX: pip install mlx mlx-lm",
        )


def is_simulated(output: Path) -> bool:
    """Whether all that an earlier run left in ``output`` says that it was simulated."""
    files = [output / ADAPTER_DIR / ADAPTER_CONFIG, output / MODEL_DIR / RUN_RECORD]
    files += [path / ADAPTER_CONFIG for path in checkpoints(output / CHECKPOINT_DIR)]
    return all(_has_mark(path) for path in files if path.exists())


def _has_mark(path: Path) -> bool:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.get("simulated") is True


def disk_needed(settings: TrainConfig, parameters: int) -> int:
    """Bytes that a run of ``parameters`` adapter numbers leaves, with the checkpoint in the making (pessimistic)."""
    saves = -(-settings.steps // settings.save_every)
    full = min(saves, settings.keep_checkpoints) + 1
    best = (settings.keep_checkpoints + 1) if settings.keep_best else 0
    # Adapter, first and second moment are float32 alike.
    return 4 * parameters * (3 * full + max(0, saves - full + 1) + best + 1) + SPARE_BYTES


def check_disk(settings: TrainConfig, parameters: int) -> None:
    """Raises UserError when the disk of the output folder cannot hold what the run will write."""
    needed, parent = disk_needed(settings, parameters), existing_parent(settings.output / CHECKPOINT_DIR)
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise UserError(
            f"磁盘空间不足: {parent.resolve()} 剩余 {gigabytes(free)}，这次训练要写 {gigabytes(needed)}",
            f"少存几个检查点: --save-every {max(settings.save_every * 4, 1000)}",
            "减小 LoRA: --lora-rank 64",
            "换一个磁盘: --output-dir 文件夹",
        )


def prepare(settings: TrainConfig, simulated: bool) -> None:
    """Make the folders, drop what an interrupted save left, and with ``--overwrite`` an earlier run (under the lock).

    Raises:
        UserError: not writable, or a run that came first since `check_output` looked.
    """
    check_output(settings, simulated)
    output = settings.output
    folder = output / CHECKPOINT_DIR
    try:
        clean_leftovers(folder)
        if settings.overwrite:
            for path in [*checkpoints(folder), *folder.glob("best_step_*"), output / ADAPTER_DIR, output / MODEL_DIR]:
                if path.exists():
                    shutil.rmtree(path)
        for name in (ADAPTER_DIR, MODEL_DIR):
            (output / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"输出文件夹不能写入: {output}（{error.strerror}）", "换一个: --output-dir 文件夹") from None


def publish(output: Path, adapter: Path, history: list[dict[str, Any]]) -> None:
    """Put the adapter of checkpoint folder ``adapter`` and the metrics where the person looks for them.

    Raises:
        UserError: the disk is full or not writable.
    """
    try:
        for name in (ADAPTER_CONFIG, ADAPTER):
            temporary = output / ADAPTER_DIR / f".{name}.tmp"
            copy_file(adapter / name, temporary, lambda _: None)
            temporary.replace(output / ADAPTER_DIR / name)
        write_text(output / MODEL_DIR / METRICS, history_text(history))
    except OSError as error:
        raise UserError(
            f"训练结果没有写全: {output}（{error.strerror or error}），检查点 {adapter} 是完好的",
            "腾出磁盘空间，然后在原来的命令后加 --resume",
        ) from error


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(
            f"文件没有写成: {path}（{error.strerror or error}），已保存的检查点是完好的",
            "腾出磁盘空间，然后在原来的命令后加 --resume",
        ) from error


def write_record(output: Path, record: Mapping[str, Any]) -> None:
    """training_config.json: resolved settings, versions, digests, counts, and once it is there the result."""
    _write(output / MODEL_DIR / RUN_RECORD, to_text(record))


def draw_curves(
    output: Path,
    history: list[dict[str, Any]],
    steps: int,
    before: Mapping[str, float] | None,
    simulated: bool,
) -> str | None:
    """Draw training_curves.png anew. A picture is never worth a run: what went wrong with it comes back as a line."""
    try:
        from precision_lora.plots import plot_training

        plot_training(history, steps, output / MODEL_DIR / CURVES, before=before, simulated=simulated)
    except ImportError:
        return "没有 matplotlib，不画训练曲线。安装: pip install matplotlib"
    except Exception as error:  # fonts, caches and back ends fail in ways of their own
        return f"训练曲线没有画成: {str(error).strip()[:200] or type(error).__name__}"
    return None


def write_card(output: Path, settings: TrainConfig, record: Mapping[str, Any]) -> None:
    """README.md beside the record: what this adapter is, and how to use it."""
    result, base = record["result"], record["base"]["path"]
    adapter = output / ADAPTER_DIR
    simulated = bool(record.get("simulated"))
    lines = [
        "---",
        "library_name: mlx",
        "language: zh",
        f"base_model: {json.dumps(base, ensure_ascii=False)}",
        "tags: [mlx, lora, medical]",
        *(["simulated: true"] if simulated else []),
        "---",
        "",
        "# V3 精准度强化训练的结果" + ("（模拟）" if simulated else ""),
        "",
        *([SIMULATED, ""] if simulated else []),
        f"- 基础模型: `{base}`",
        f"- adapter: `{adapter}`（LoRA 秩 {settings.lora_rank}，缩放 {settings.lora_scale:g}，"
        f"{record['trainable_parameters']} 个参数）",
        f"- 训练: {settings.steps} 步，每步 {settings.batch_size * settings.grad_accumulation} 条，"
        f"学习率 {settings.lr:g}，精准度权重 {settings.precision_weight:g}，人情味权重 {settings.empathy_weight:g}",
        f"- 数据: 训练 {record['data']['train']['rows']} 条，验证 {record['data']['valid']['rows']} 条",
        f"- 最后一步的 loss: {_shown(result['final_loss'])}；输出的是第 {result['adapter_step']} 步的 adapter",
    ]
    before, after = result["valid_before"], result["valid_after"]
    if before and after:
        lines += [
            "",
            "## 验证集（每个 token 的负对数似然，越低越好）",
            "",
            "| 类别 | 训练前 | 训练后 |",
            "|---|---|---|",
        ]
        names = {"loss": "全部"} | KIND_NAMES
        lines += [f"| {names[k]} | {before[k]:.4f} | {after[k]:.4f} |" for k in names if k in before and k in after]
    if (output / MODEL_DIR / CURVES).exists():
        lines += ["", f"![训练曲线]({CURVES})"]
    if not simulated:
        lines += [
            "",
            "## 使用",
            "",
            "```bash",
            f"mlx_lm.chat --model {base} --adapter-path {adapter}",
            f"mlx_lm.generate --model {base} --adapter-path {adapter} --max-tokens 300 \\",
            '  --prompt "我的血压140/90需要担心吗？"',
            "```",
            "",
            "模型的回答不能代替医生的诊断。",
        ]
    _write(output / MODEL_DIR / MODEL_CARD, "\n".join([*lines, ""]))


def _shown(loss: float | None) -> str:
    return "不是有限的数" if loss is None else f"{loss:.4f}"
