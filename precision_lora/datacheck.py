"""``--check-data``: everything worth knowing about a data folder before a run of several hours (pure).

Every line is parsed, compared and searched for personal data. Tokens, spans and facts cost more, so above
`SAMPLE_ROWS` rows they are read from rows evenly spread over the file, and the report says so.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import factcheck
from .batching import padding_share, plan, shapes
from .dataset import Encoded, encode, render, template_of
from .errors import UserError
from .personal import find_personal
from .phases import KIND_BITS, KINDS, phases_for, weight_table
from .rows import Message, Problem, Row, iter_rows

SAMPLE_ROWS = 8000
SHOWN_LINES = 6
SPLITS = ("train", "valid", "test")
REQUIRED_SPLITS = ("train", "valid")


@dataclass
class _Tally:
    """What is collected while one file streams past; ``lines`` by finding keeps the first few line numbers."""

    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    reasons: dict[int, str] = field(default_factory=dict)
    turns: Counter[int] = field(default_factory=Counter)

    def add(self, finding: str, line: int, count: int = 1) -> None:
        self.counts[finding] += count
        if len(self.lines[finding]) < SHOWN_LINES and line not in self.lines[finding]:
            self.lines[finding].append(line)


def check_folder(
    folder: Path,
    tokenizer: Any | None,
    *,
    max_seq_length: int,
    rows_per_step: int,
    batch_size: int,
    steps: int,
    precision_weight: float,
    empathy_weight: float,
) -> dict[str, Any]:
    """A JSON-ready report on ``train.jsonl``, ``valid.jsonl`` and, where it exists, ``test.jsonl`` of ``folder``.

    Without a ``tokenizer`` (no base model at hand) tokens, spans and padding are left out. ``report["usable"]`` is
    False when training could not use the folder as it is. Raises UserError when the folder or a file is missing.
    """
    missing = [name for name in REQUIRED_SPLITS if not (folder / f"{name}.jsonl").is_file()]
    if missing:
        raise UserError(
            f"数据文件不存在: {', '.join(str(folder / f'{name}.jsonl') for name in missing)}",
            "--data 指向含有 train.jsonl 和 valid.jsonl 的文件夹",
        )
    seen: dict[str, dict[bytes, int]] = {}
    files: dict[str, Any] = {}
    for split in SPLITS:
        path = folder / f"{split}.jsonl"
        if not path.is_file():
            continue
        tally, seen[split], sample = _stream(path, tokenizer, max_seq_length)
        entry: dict[str, Any] = {
            "rows": tally.rows,
            "problems": sum(count for name, count in tally.counts.items() if name.startswith("problem:")),
            "findings": {name: {"count": n, "lines": tally.lines[name]} for name, n in sorted(tally.counts.items())},
            "reasons": {str(line): reason for line, reason in tally.reasons.items()},
            "turns": {str(turns): count for turns, count in sorted(tally.turns.items())},
            "sampled_rows": len(sample),
        }
        entry["facts"] = _facts(sample)
        if tokenizer is not None and sample:
            encoded = encode(sample, tokenizer, max_seq_length)
            entry["tokens"] = _token_statistics(encoded, rows_per_step, batch_size)
            if split == "train":
                entry["phases"] = _phase_statistics(encoded, steps, precision_weight, empathy_weight)
        files[split] = entry
    overlap = {other: len(seen["train"].keys() & seen[other].keys()) for other in ("valid", "test") if other in seen}
    usable = all(files[name]["rows"] > 0 and files[name]["problems"] == 0 for name in REQUIRED_SPLITS)
    return {"folder": str(folder), "usable": usable, "files": files, "train_overlap": overlap}


def _stream(path: Path, tokenizer: Any | None, max_seq_length: int) -> tuple[_Tally, dict[bytes, int], list[Row]]:
    """One pass over a file: the tally, the digest of each row with its first line, and an even sample of rows."""
    tally = _Tally()
    digests: dict[bytes, int] = {}
    sample: list[Row] = []
    stride = 1
    template = template_of(tokenizer) if tokenizer is not None else None
    for item in iter_rows(path):
        if isinstance(item, Problem):
            tally.add(f"problem:{item.code}", item.line)
            if len(tally.reasons) < SHOWN_LINES:
                tally.reasons[item.line] = item.reason
            continue
        if tally.rows % stride == 0:
            sample.append(item)
            if len(sample) >= 2 * SAMPLE_ROWS:  # twice as sparse from here on
                sample, stride = sample[::2], stride * 2
        tally.rows += 1
        tally.turns[sum(message.role == "assistant" for message in item.messages)] += 1
        digest = _digest(item)
        if digest in digests:
            tally.add("duplicate", item.line)
        digests.setdefault(digest, item.line)
        for kind, count in find_personal(_whole_text(item)).items():
            tally.add(f"personal:{kind}", item.line, count)
        if any(m.role == "assistant" and not m.content.strip() for m in item.messages):
            tally.add("empty_turn", item.line)
        if template is not None and _bytes_bound(item) > max_seq_length:
            rendered = render(item, template)
            length = len(tokenizer.backend_tokenizer.encode(rendered.text, add_special_tokens=False).ids)  # type: ignore[union-attr]
            if length > max_seq_length:
                tally.add("too_long", item.line)
                if encode([item], tokenizer, max_seq_length).skipped:
                    tally.add("prompt_fills_limit", item.line)
    return tally, digests, sample


def _bytes_bound(row: Row) -> int:
    """No tokenizer makes more tokens than bytes; 16 a message allow for the template's own."""
    return sum(len(m.content.encode()) + 16 for m in row.messages) + len((row.text or "").encode()) + 64


def _whole_text(row: Row) -> str:
    return row.text if row.text is not None else "\n".join(message.content for message in row.messages)


def _digest(row: Row) -> bytes:
    text = "\0".join(f"{m.role}\1{''.join(m.content.split())}" for m in row.messages) + "\2" + (row.text or "")
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


def _facts(rows: Iterable[Row]) -> dict[str, Any]:
    """Numbers and advice that contradict the fact tables, by kind, with the lines that carry them."""
    counts: Counter[str] = Counter()
    lines: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        for question, answer, history in exchanges(row.messages):
            for finding in factcheck.findings(answer, question, history):
                counts[finding.kind] += 1
                if len(lines[finding.kind]) < SHOWN_LINES:
                    lines[finding.kind].append(row.line)
    return {kind: {"count": count, "lines": lines[kind]} for kind, count in counts.most_common()}


def exchanges(messages: Sequence[Message]) -> list[tuple[str, str, str]]:
    """(question, answer, all that the user said before the question) for each assistant turn."""
    asked: list[str] = []
    found = []
    for message in messages:
        if message.role == "user":
            asked.append(message.content)
        elif message.role == "assistant":
            found.append((asked[-1] if asked else "", message.content, "\n".join(asked[:-1])))
    return found


def _token_statistics(encoded: Encoded, rows_per_step: int, batch_size: int) -> dict[str, Any]:
    lengths = encoded.lengths
    if len(lengths) == 0:
        return {"rows": 0}
    supervised = int(encoded.supervised.sum())
    kinds = encoded.kinds[encoded.supervised]
    return {
        "rows": len(lengths),
        "tokens": int(lengths.sum()),
        "supervised": supervised,
        "length_median": int(np.median(lengths)),
        "length_p95": int(np.percentile(lengths, 95)),
        "length_max": int(lengths.max()),
        "kinds": {kind: int((kinds & KIND_BITS[kind] > 0).sum()) for kind in KINDS},
        "other": int((kinds == 0).sum()),
        "padding_share": round(padding_share(lengths, plan(lengths, rows_per_step, 0, 0), batch_size), 4),
        "shapes": len(shapes(lengths)),
    }


def _phase_statistics(encoded: Encoded, steps: int, precision: float, empathy: float) -> list[dict[str, Any]]:
    kinds = encoded.kinds[encoded.supervised]
    result = []
    for phase in phases_for(steps):
        weights = weight_table(phase, precision, empathy)[kinds]
        result.append(
            {
                "phase": phase.index,
                "name": phase.name,
                "up_weighted_share": round(float((weights > 1).mean()), 4) if len(weights) else 0.0,
                "down_weighted_share": round(float((weights < 1).mean()), 4) if len(weights) else 0.0,
                "mean_weight": round(float(weights.mean()), 4) if len(weights) else 1.0,
            }
        )
    return result


_NAMES = {
    "problem:json": "不是有效的JSON",
    "problem:fields": "字段不对",
    "problem:no_assistant": "没有assistant回答",
    "problem:no_user": "以assistant开头",
    "problem:empty": "内容为空",
    "problem:weight": "weight或train的值不对",
    "problem:image": "含图像内容",
    "problem:encoding": "含无法编码的字符",
    "duplicate": "重复的数据",
    "empty_turn": "有空白的assistant轮次",
    "too_long": "超过 --max-seq-length，会被截断",
    "prompt_fills_limit": "提问占满长度上限，会被跳过",
    "personal:身份证号": "疑似身份证号",
    "personal:手机号": "疑似手机号",
    "personal:邮箱": "疑似邮箱",
    "personal:姓名": "疑似姓名",
}
_KIND_NAMES = {"term": "术语", "number": "数值", "diagnosis": "诊断", "treatment": "治疗", "empathy": "人情味"}


def render_report(report: dict[str, Any]) -> str:
    """The report of `check_folder` as text for the terminal; line numbers, never a row's text."""
    lines = [f"📋 数据检查: {report['folder']}", ""]
    for split, entry in report["files"].items():
        lines.append(f"{split}.jsonl: {entry['rows']} 行可用" + _turns(entry["turns"]))
        lines += [
            f"   {'❌' if name.startswith('problem:') else '⚠️ '} {_NAMES[name]}: {_where(found)}"
            for name, found in entry["findings"].items()
        ]
        lines += [f"      第{line}行: {reason}" for line, reason in entry["reasons"].items()]
        lines += [f"   ⚠️  与事实表不符 ({kind}): {_where(found)}" for kind, found in entry["facts"].items()]
        if entry["sampled_rows"] < entry["rows"]:
            lines.append(f"   (词元、片段和事实检查抽样 {entry['sampled_rows']} 行)")
        lines += _token_lines(entry)
        lines.append("")
    for other, count in report["train_overlap"].items():
        lines.append(f"{'⚠️ ' if count else '✅'} train 与 {other} 相同的数据: {count} 行")
    lines.append("✅ 可以用于训练" if report["usable"] else "❌ 训练无法使用这份数据，请改正上面标有 ❌ 的行")
    return "\n".join(lines)


def _where(found: dict[str, Any]) -> str:
    more = " …" if found["count"] > len(found["lines"]) else ""
    return f"{found['count']} 处，行 {', '.join(map(str, found['lines']))}{more}"


def _turns(turns: dict[str, int]) -> str:
    several = sum(count for number, count in turns.items() if int(number) > 1)
    return f"，其中多轮 {several} 行" if several else ""


def _token_lines(entry: dict[str, Any]) -> list[str]:
    tokens = entry.get("tokens")
    if not tokens or not tokens["rows"]:
        return []
    share = {kind: tokens["kinds"][kind] / max(tokens["supervised"], 1) for kind in KINDS}
    result = [
        f"   词元: 中位数 {tokens['length_median']}，95% {tokens['length_p95']}，最长 {tokens['length_max']}；"
        f"参与训练的占 {tokens['supervised'] / tokens['tokens']:.0%}",
        f"   填充浪费 {tokens['padding_share']:.1%}，{tokens['shapes']} 种长度",
        "   片段占比: " + "，".join(f"{_KIND_NAMES[kind]} {share[kind]:.1%}" for kind in KINDS),
    ]
    result += [
        f"   Phase {phase['phase']} {phase['name']}: 加权的词元 {phase['up_weighted_share']:.0%}，"
        f"减权 {phase['down_weighted_share']:.0%}，平均权重 {phase['mean_weight']:.2f}"
        for phase in entry.get("phases", [])
    ]
    return result
