"""Figures on the data set: variety, lengths, shares, splits. They go into README.md beside this file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import mean, median

from data_mlx.similarity import NearCopies

WINDOW = 20
Rows = list[list[dict[str, str]]]


def read(path: Path) -> Rows:
    """The messages of every row of a JSON-lines file."""
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]


def answers(row: list[dict[str, str]]) -> list[str]:
    """The assistant's messages of a row."""
    return [m["content"] for m in row if m["role"] == "assistant"]


def distinct(rows: Rows, size: int) -> float:
    """Different over all character n-grams of the answers, as a share."""
    seen: set[str] = set()
    total = 0
    for row in rows:
        for text in answers(row):
            pieces = [text[i : i + size] for i in range(len(text) - size + 1)]
            total += len(pieces)
            seen.update(pieces)
    return len(seen) / total


def common_substrings(rows: Rows, top: int = 10) -> list[tuple[str, float]]:
    """The substrings of 20 characters that the most rows carry (in any message), with the share of rows.

    Overlapping windows of one sentence crowd each other, so that a window is listed only if it shares no 12
    characters with one before it.
    """
    carried: Counter[str] = Counter()
    for row in rows:
        carried.update(
            {text[i : i + WINDOW] for text in (m["content"] for m in row) for i in range(len(text) - WINDOW + 1)}
        )
    picked: list[tuple[str, float]] = []
    for text, count in sorted(carried.most_common(2000), key=lambda item: (-item[1], item[0])):
        if any(text[i : i + 12] in other for other, _ in picked for i in range(WINDOW - 11)):
            continue
        picked.append((text, count / len(rows)))
        if len(picked) == top:
            break
    return picked


def report(folder: Path) -> str:
    """All figures as text."""
    parts = {name: read(folder / f"{name}.jsonl") for name in ("train", "valid", "test")}
    everything = [row for rows in parts.values() for row in rows]
    lengths = sorted(len(text) for row in everything for text in answers(row))
    questions = sorted(len(row[0]["content"]) for row in everything)
    turns = Counter(len(answers(row)) for row in everything)
    lines = [
        f"行数: {'，'.join(f'{name} {len(rows)}' for name, rows in parts.items())}",
        f"回答字数: 最短 {lengths[0]}，中位 {median(lengths):g}，平均 {mean(lengths):.0f}，最长 {lengths[-1]}",
        f"首问字数: 最短 {questions[0]}，中位 {median(questions):g}，最长 {questions[-1]}",
        f"轮数: {'，'.join(f'{n} 轮 {count / len(everything):.1%}' for n, count in sorted(turns.items()))}",
        f"distinct-2 {distinct(everything, 2):.4f}，distinct-3 {distinct(everything, 3):.4f}（回答的字符 n 元组）",
        f"不同的字: {len({c for row in everything for m in row for c in m['content']})}",
    ]
    for name, rows in [("全部", everything), *parts.items()]:
        lines.append(f"最常见的 {WINDOW} 字片段（{name}，占行数）:")
        lines += [f"  {share:.2%}  {text!r}" for text, share in common_substrings(rows, 10 if name == "全部" else 3)]
    near = NearCopies(answers(row) for row in parts["train"])
    for name in ("valid", "test"):
        lines.append(
            f"{name} 与 train 回答的最大 5-gram Jaccard: {max(near.highest(answers(row)) for row in parts[name]):.3f}"
        )
    return "\n".join(lines)
