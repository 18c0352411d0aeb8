"""The README.md of a fused model's folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRECISION_NAMES = {
    "same": "与基础模型相同的位数",
    "8bit": "8 位",
    "bf16": "bfloat16",
    "f16": "float16",
    "f32": "float32",
    "dequantized": "整个模型已去量化",
}


def fused_card(name: str, record: Mapping[str, Any], training: Mapping[str, Any] | None) -> str:
    """The card's text in Markdown, from fuse.json's content and the training run's settings where they are known."""
    base, adapter, result = record["base"], record["adapter"], record["result"]
    lines = [
        "---",
        "library_name: mlx",
        "language: zh",
        f"base_model: {base['name']}",
        "tags: [mlx, lora, medical]",
        "---",
        "",
        f"# {name}",
        "",
        f"由 `{base['name']}` 和 LoRA adapter `{adapter['name']}` 融合而成，中文医疗咨询模型，"
        "目标是数值和用药更精准，语气保持温和。",
        "",
        "## 组成",
        "",
        "| | |",
        "|---|---|",
        f"| 基础模型 | `{base['name']}` |",
        f"| adapter | `{adapter['name']}`，秩 {adapter['rank']}，改动 {adapter['modules']} 个层 |",
        f"| 改动的权重 | {result['touched_tensors']} / {result['tensors']} 个张量，其余逐字节不变 |",
        f"| 改动层的精度 | {PRECISION_NAMES.get(record['touched_precision'], record['touched_precision'])} |",
        f"| 视觉部分 | {result['vision_tensors_equal']} 个张量与基础模型逐字节相同 |",
        "",
        *_training_lines(training),
        *_effect_lines(record.get("effect")),
        "## 局限",
        "",
        "- 只供学习和研究，不能代替医生的诊断和处方；急症请拨打 120。",
        "- 回答里的数值和剂量可能有错，用药前请核对说明书或咨询医生。",
        "- 训练数据是中文医疗问答，其他语言和领域没有评估。",
        "",
        "文件的 SHA-256 见 `fuse.json`。",
        "",
    ]
    return "\n".join(lines)


def _training_lines(training: Mapping[str, Any] | None) -> list[str]:
    if not training:
        return []
    rows = [
        ("数据", "data"),
        ("步数", "steps"),
        ("批次大小", "batch_size"),
        ("学习率", "lr"),
        ("LoRA 秩", "lora_rank"),
        ("精准度权重", "precision_weight"),
        ("人情味权重", "empathy_weight"),
        ("随机种子", "seed"),
    ]
    known = [f"| {label} | {training[key]} |" for label, key in rows if training.get(key) is not None]
    if not known:
        return []
    return [
        "## 训练",
        "",
        "三个阶段: 精准度核心强化、医学知识深化、精度与人情味平衡。",
        "",
        "| | |",
        "|---|---|",
        *known,
        "",
    ]


def _effect_lines(effect: Mapping[str, Any] | None) -> list[str]:
    if not effect:
        return ["## 融合效果", "", "融合时没有载入模型测量。", ""]
    return [
        "## 融合效果",
        "",
        f"在 {effect['prompts']} 个真实问题的 logits 上测量，激活用 float32:",
        "",
        f"- adapter 使输出改变 {effect['relative']:.2%}（|adapter − 基础| / |基础|）",
        f"- 融合的剩余误差 {effect['remaining']:.4f}（|融合 − adapter| / |adapter − 基础|，越小越好）",
        *(
            f"- 若存为{PRECISION_NAMES[precision]}: {value:.4f}"
            for precision, value in effect["candidates"].items()
            if len(effect["candidates"]) > 1
        ),
        "",
    ]
