"""The training settings: every default once, the command line built from them, and all complaints at once."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from precision_lora.errors import UserError

PROJECT = Path(__file__).resolve().parent.parent

ADAPTER_DIR = "adapters_v3_precision"
MODEL_DIR = "finetuned_model_v3_precision"
CHECKPOINT_DIR = "checkpoints_v3_precision"
LOG_DIR = "logs"

SEE_HELP = "python train_v3_precision.py --help 列出全部参数"

# The newest checkpoint, whichever it is; `--resume` without a folder.
RESUME_NEWEST = "newest"
# Warm-up length when the person names none: 2 % of the steps, never more than this.
MAX_AUTO_WARMUP_STEPS = 100

GROUPS = {
    "input": "模型与数据",
    "train": "训练",
    "weights": "精准度与人情味",
    "lora": "LoRA",
    "save": "输出、保存与续训",
    "other": "其他",
}


def _option(
    default: Any,
    group: str,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    const: str | None = None,
) -> Any:
    """A dataclass field that is also a flag; ``low``/``high`` belong to its range, ``above``/``below`` do not."""
    return field(
        default=default,
        metadata={
            "group": group,
            "help": help,
            "low": low,
            "high": high,
            "above": above,
            "below": below,
            "choices": choices,
            "const": const,
        },
    )


@dataclass(frozen=True)
class TrainConfig:
    """What one training run does. Field ``a_b`` is flag ``--a-b``, in the order of ``--help``."""

    base_model: str = _option(
        "~/.lmstudio/models/local/Qwen3-VL-30B-Medical-V2-Fused",
        "input",
        "基础模型: 本地文件夹，或 Hugging Face 上的名字",
    )
    adapter_path: str | None = _option(None, "input", "从已有的 adapter（如 adapters_v2）开始训练")
    data: str = _option("data_mlx", "input", "数据文件夹，内有 train.jsonl 和 valid.jsonl")
    max_seq_length: int = _option(2048, "input", "一条数据最多的 token 数", low=16)

    steps: int = _option(5200, "train", "训练步数（一步 = 一次参数更新）", low=1)
    batch_size: int = _option(2, "train", "一个批次的数据条数", low=1)
    grad_accumulation: int = _option(1, "train", "每一步累积几个批次", low=1)
    lr: float = _option(3e-6, "train", "最高学习率", above=0, below=1)
    lr_schedule: str = _option(
        "cosine",
        "train",
        "学习率曲线，cosine 与 linear 降到最高值的 10%%",
        choices=("constant", "cosine", "linear"),
    )
    warmup_steps: int = _option(-1, "train", "预热步数，-1 为步数的 2%%（至多 100）", low=-1)
    weight_decay: float = _option(0.01, "train", "AdamW 权重衰减", low=0, below=1)
    clip_grad_norm: float = _option(1.0, "train", "梯度范数上限，0 为不限", low=0)
    grad_checkpoint: bool = _option(False, "train", "用时间换内存: 反向传播时重算每层")

    precision_weight: float = _option(2.0, "weights", "精准度权重（术语、数值、诊断、治疗）", low=0, high=100)
    empathy_weight: float = _option(1.0, "weights", "人情味权重", low=0, high=100)

    lora_rank: int = _option(128, "lora", "LoRA 秩", low=1)
    lora_scale: float = _option(20.0, "lora", "LoRA 缩放: 权重的改变 = scale × A × B", above=0)
    lora_dropout: float = _option(0.0, "lora", "LoRA dropout", low=0, below=1)
    lora_targets: str = _option(
        "attention",
        "lora",
        "训练哪些层: 注意力，或全部线性层（含专家）",
        choices=("attention", "all-linear"),
    )
    num_layers: int = _option(-1, "lora", "只训练最后几层，-1 为全部", low=-1)

    output_dir: str = _option(".", "save", "四个输出文件夹放在哪里")
    save_every: int = _option(200, "save", "每多少步保存一个检查点", low=1)
    eval_every: int = _option(200, "save", "每多少步在验证集上测一次", low=1)
    val_batches: int = _option(25, "save", "每次验证用多少批，-1 为全部，0 为不验证", low=-1)
    keep_checkpoints: int = _option(2, "save", "保留几个可续训的完整检查点，更早的只留 adapter", low=1)
    keep_best: bool = _option(False, "save", "最后输出验证损失最低的一步，而不是最后一步")
    resume: str | None = _option(
        None, "save", "从最新的完好检查点（或指定的检查点文件夹）继续训练", const=RESUME_NEWEST
    )
    overwrite: bool = _option(False, "save", "输出文件夹里已有训练结果时，删除它们重新开始")

    seed: int = _option(42, "other", "随机种子", low=0, high=2**31 - 1)
    check_data: bool = _option(False, "other", "检查数据文件夹，出报告后退出，不训练")
    preflight: bool = _option(False, "other", "估算内存和磁盘后退出，不加载模型，不训练")
    preview: int = _option(0, "other", "显示前 N 条训练数据的标注和各阶段权重后退出", low=0)
    demo: bool = _option(False, "other", "用 demo/ 里的小模型和适合它的设置，输出到 demo_run/")
    simulate: bool = _option(False, "other", "模拟模式: 不用 MLX 走完整个流程，不会真正训练")
    yes: bool = _option(False, "other", "不再询问，直接开始")
    report_to: str | None = _option(None, "other", "同时报告给 swanlab、wandb（逗号分隔）")

    @property
    def warmup(self) -> int:
        """Warm-up length in optimizer steps, with -1 resolved."""
        if self.warmup_steps >= 0:
            return self.warmup_steps
        return min(MAX_AUTO_WARMUP_STEPS, self.steps // 50)

    @property
    def output(self) -> Path:
        return Path(self.output_dir).expanduser()

    def to_json(self) -> dict[str, Any]:
        """All settings by field name; ``from_json`` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainConfig:
        """The settings in ``values``; unknown names are a TypeError, missing ones keep their default."""
        return cls(**values)


# A 3e-6 step is sized for 30 B parameters; a model ten thousand times smaller needs a larger one.
DEMO_SETTINGS: dict[str, Any] = {
    "base_model": str(PROJECT / "demo" / "base"),
    "data": str(PROJECT / "data_mlx"),
    "output_dir": "demo_run",
    "steps": 300,
    "batch_size": 8,
    "lr": 1e-3,
    "lora_rank": 64,
    "lora_scale": 2.0,
    "save_every": 100,
    "eval_every": 100,
    "val_batches": 16,
}

# What a resumed run may change: none of these alters an optimizer step that was already taken.
# `steps` moves the later learning rates and phase boundaries, which is what the person asks for with it.
RESUMABLE = frozenset(
    {
        "steps",
        "save_every",
        "eval_every",
        "keep_checkpoints",
        "keep_best",
        "resume",
        "overwrite",
        "output_dir",
        "report_to",
        "yes",
        "demo",
        # A simulation that came about by itself and one that was asked for are the same run; a real one is told apart
        # by the mark in its checkpoint.
        "simulate",
        "check_data",
        "preview",
        "preflight",
    }
)


def flag(name: str) -> str:
    """Field name to flag: ``lora_rank`` → ``--lora-rank``."""
    return "--" + name.replace("_", "-")


def parse(argv: Sequence[str]) -> TrainConfig:
    """Settings from command-line words.

    Raises:
        UserError: naming every unknown flag, unreadable value and contradiction at once.
    """
    parser = _parser()
    problems: list[str] = []
    try:
        known, unknown = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise UserError(f"参数有误: {error}", SEE_HELP) from None
    names = {flag(f.name): f for f in dataclasses.fields(TrainConfig)}
    for word in unknown:
        near = difflib.get_close_matches(word.split("=")[0], names, n=1)
        problems.append(f"{word}: 没有这个参数" + (f"，是不是 {near[0]}？" if near else ""))
    given: dict[str, Any] = {}
    for name, raw in vars(known).items():
        try:
            given[name] = _convert(names[flag(name)], raw)
        except ValueError as error:
            problems.append(f"{flag(name)} {raw}: {error}")
    base = DEMO_SETTINGS if given.get("demo") else {}
    config = TrainConfig(**{**base, **given})
    problems.extend(find_problems(config))
    if problems:
        listed = "".join(f"\n   · {problem}" for problem in problems)
        raise UserError(f"参数有 {len(problems)} 处要改:{listed}", SEE_HELP)
    return config


def find_problems(config: TrainConfig) -> list[str]:
    """Every value out of its range and every contradiction, one Chinese line each; empty when sound."""
    problems = []
    for f in dataclasses.fields(config):
        value, rule = getattr(config, f.name), f.metadata
        if rule["choices"] and value not in rule["choices"]:
            problems.append(f"{flag(f.name)} {value}: 只能是 {'、'.join(rule['choices'])}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        limits = [
            (rule["low"], lambda v, limit: v >= limit, "不小于"),
            (rule["above"], lambda v, limit: v > limit, "大于"),
            (rule["high"], lambda v, limit: v <= limit, "不大于"),
            (rule["below"], lambda v, limit: v < limit, "小于"),
        ]
        # `not` around the test, so that NaN fails every limit.
        wrong = [f"{words} {x:g}" for x, test, words in limits if x is not None and not test(value, x)]
        if not math.isfinite(value) and not wrong:
            wrong = ["是有限的数"]
        if wrong:
            problems.append(f"{flag(f.name)} {value:g}: 要{'且'.join(wrong)}")
    if config.steps >= 1 and config.warmup > config.steps:
        problems.append(f"--warmup-steps {config.warmup_steps}: 比 --steps {config.steps} 还多")
    if config.num_layers == 0:
        problems.append("--num-layers 0: 没有可训练的层，-1 为全部")
    if config.resume and config.overwrite:
        problems.append("--resume 与 --overwrite 不能同用: 一个继续，一个重来")
    if config.keep_best and config.val_batches == 0:
        problems.append("--keep-best 要有验证，不能与 --val-batches 0 同用")
    if config.precision_weight == 0 and config.empathy_weight == 0:
        problems.append("--precision-weight 与 --empathy-weight 不能都为 0")
    for name in (config.report_to or "").split(","):
        if name.strip() not in ("", "swanlab", "wandb"):
            problems.append(f"--report-to {name.strip()}: 只能是 swanlab、wandb")
    return problems


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of optimizer step ``step`` (1-based): linear warm-up, then the schedule down to 10 %."""
    if step <= config.warmup:
        return config.lr * step / (config.warmup + 1)
    if config.lr_schedule == "constant":
        return config.lr
    # The peak falls on the first step after the warm-up, the floor on the last step.
    done = (step - config.warmup - 1) / max(1, config.steps - config.warmup - 1)
    fall = 0.5 * (1 + math.cos(math.pi * done)) if config.lr_schedule == "cosine" else 1 - done
    return config.lr * (0.1 + 0.9 * fall)


def changed_settings(before: TrainConfig, now: TrainConfig) -> list[str]:
    """Settings that a resumed run may not change, with both values, one line each."""
    return [
        f"{flag(f.name)}: 原来是 {getattr(before, f.name)}，现在是 {getattr(now, f.name)}"
        for f in dataclasses.fields(before)
        if f.name not in RESUMABLE and getattr(before, f.name) != getattr(now, f.name)
    ]


def _value_type(f: dataclasses.Field[Any]) -> type:
    """The plain type of a field: ``str | None`` gives ``str``."""
    hint = typing.get_type_hints(TrainConfig)[f.name]
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return typing.cast(type, hint)


def _convert(f: dataclasses.Field[Any], raw: Any) -> Any:
    kind = _value_type(f)
    if kind is bool:
        return bool(raw)
    try:
        return kind(raw)
    except ValueError:
        raise ValueError("要一个整数" if kind is int else "要一个数") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_v3_precision.py",
        description="V3 精准度强化训练: 提高数值、术语、诊断和治疗的精准度，保持人情味。",
        allow_abbrev=False,
        exit_on_error=False,
        # A flag that was not given leaves no attribute, so that --demo's settings lose only to given ones.
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30, width=100),
    )
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    for f in dataclasses.fields(TrainConfig):
        group, rule = groups[f.metadata["group"]], f.metadata
        if isinstance(f.default, bool):
            group.add_argument(flag(f.name), action="store_true", help=rule["help"])
            continue
        kind = _value_type(f)
        shown = "/".join(rule["choices"]) or {int: "整数", float: "数"}.get(kind, "文字")
        # Text here, numbers in `_convert`: argparse would stop at the first bad value.
        default = "" if f.default is None else f"（默认 {f.default}）".replace("%", "%%")
        extra: dict[str, Any] = {"nargs": "?", "const": rule["const"]} if rule["const"] else {}
        group.add_argument(flag(f.name), metavar=shown, help=rule["help"] + default, **extra)
    return parser
