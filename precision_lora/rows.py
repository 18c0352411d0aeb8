"""Reading training rows: JSON lines in four common formats to one form, every problem with its file and line (pure).

Formats: ``{"messages": [{"role", "content"}…]}``, ``{"prompt", "completion"}``, ``{"instruction", "input", "output"}``
and ``{"text"}``. A row or a message may carry ``weight`` (number ≥ 0) or ``train`` (boolean; ``false`` is weight 0).
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError

ROLES = ("system", "user", "assistant", "tool")
# A refused file lists this many of its problems; the count of the rest follows.
SHOWN_PROBLEMS = 8


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; ``weight`` multiplies the loss of its tokens and matters for assistant turns alone."""

    role: str
    content: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """One training example: a conversation, or ``text`` alone (then ``messages`` is empty)."""

    line: int
    messages: tuple[Message, ...]
    text: str | None
    weight: float


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a line cannot be used: ``code`` for counting, ``reason`` in Chinese for the person, never the line's text."""

    line: int
    code: str
    reason: str


class _Refused(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def iter_rows(path: Path) -> Iterator[Row | Problem]:
    """Each non-empty line of ``path`` as a `Row` or a `Problem`, streaming, lines counted from 1.

    Raises UserError when the file cannot be opened or is not UTF-8 (the likely encoding is named).
    """
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                if number == 1:
                    _refuse_utf16(path, raw)
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                try:
                    text = raw.decode("utf-8")
                except UnicodeDecodeError:
                    raise _wrong_encoding(path, number, raw) from None
                if text.strip():
                    yield _parse(text, number)
    except OSError as error:
        raise UserError(f"无法读取数据文件: {path} ({error.strerror})", "检查 --data 指向的文件夹和文件权限") from None


def read_rows(path: Path) -> list[Row]:
    """All rows of ``path``; raises UserError that lists the lines which cannot be used, or says that it is empty."""
    rows: list[Row] = []
    problems: list[Problem] = []
    for item in iter_rows(path):
        if isinstance(item, Row):
            rows.append(item)
        else:
            problems.append(item)
    if problems:
        shown = [f"{path}:{problem.line}: {problem.reason}" for problem in problems[:SHOWN_PROBLEMS]]
        if len(problems) > SHOWN_PROBLEMS:
            shown.append(f"……另有 {len(problems) - SHOWN_PROBLEMS} 行")
        raise UserError(
            f"数据文件有 {len(problems)} 行无法用于训练: {path}",
            *shown,
            f"改正这些行；完整检查: python train_v3_precision.py --check-data --data {path.parent}",
        )
    if not rows:
        raise UserError(
            f"数据文件是空的: {path}", '每行写一个 JSON 对象，例如 {"messages": [{"role": "user", "content": "…"}, …]}'
        )
    return rows


def _refuse_utf16(path: Path, first_line: bytes) -> None:
    if first_line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(
            f"数据文件不是UTF-8编码，像是UTF-16: {path}:1", f"iconv -f UTF-16 -t UTF-8 {path} > 新文件.jsonl"
        )


def _wrong_encoding(path: Path, line: int, raw: bytes) -> UserError:
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return UserError(f"数据文件不是UTF-8编码: {path}:{line}", "用UTF-8重新保存该文件")
    return UserError(
        f"数据文件不是UTF-8编码，像是GB18030(GBK): {path}:{line}", f"iconv -f GB18030 -t UTF-8 {path} > 新文件.jsonl"
    )


def _parse(text: str, line: int) -> Row | Problem:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return Problem(line, "json", f"不是有效的JSON (第{error.colno}列: {error.msg})")
    except (ValueError, RecursionError):
        # Numbers of thousands of digits, NaN/Infinity, or nesting deeper than the parser's stack.
        return Problem(line, "json", "不是有效的JSON (含NaN/Infinity、过长的数字或过深的嵌套)")
    try:
        return _row(value, line)
    except _Refused as refused:
        return Problem(line, refused.code, refused.reason)


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _row(value: Any, line: int) -> Row:
    if not isinstance(value, dict):
        raise _Refused("fields", f"应为JSON对象，而不是{type(value).__name__}")
    weight = _weight(value, "该行")
    if "messages" in value:
        messages = _messages(value["messages"])
    elif "prompt" in value and "completion" in value:
        messages = (
            Message("user", _text(value["prompt"], "prompt")),
            Message("assistant", _text(value["completion"], "completion")),
        )
    elif "instruction" in value and "output" in value:
        question = _text(value["instruction"], "instruction")
        extra = value.get("input")
        if extra not in (None, ""):
            question = f"{question}\n{_text(extra, 'input')}"
        messages = (Message("user", question), Message("assistant", _text(value["output"], "output")))
    elif "text" in value:
        body = _text(value["text"], "text")
        if not body.strip():
            raise _Refused("empty", "text是空的")
        return Row(line, (), body, weight)
    else:
        names = "、".join(map(str, list(value)[:6])) or "无"
        raise _Refused(
            "fields", f"字段不对 (现有: {names})，需要 messages、prompt/completion、instruction/output 或 text"
        )
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise _Refused("no_assistant", "没有assistant回答")
    if not any(message.content.strip() for message in answers):
        raise _Refused("empty", "assistant回答是空的")
    if messages[0].role == "assistant":
        raise _Refused("no_user", "第一条是assistant回答，前面没有user提问")
    return Row(line, messages, None, weight)


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _Refused("fields", "messages应为非空列表")
    messages = []
    for index, item in enumerate(value):
        where = f"messages[{index}]"
        if not isinstance(item, dict):
            raise _Refused("fields", f"{where}应为对象")
        role = item.get("role")
        if role not in ROLES:
            raise _Refused("fields", f"{where}.role应为{'、'.join(ROLES)}之一")
        messages.append(Message(role, _content(item.get("content"), where), _weight(item, where)))
    return tuple(messages)


def _content(value: Any, where: str) -> str:
    if isinstance(value, list):  # the parts form that vision models use
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
            raise _Refused("image", f"{where}.content含图像等非文字内容，本训练只用文字")
        return _text("".join(part["text"] for part in value), f"{where}.content")
    return _text(value, f"{where}.content")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _Refused("fields", f"{where}应为文字")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _Refused("encoding", f"{where}含无法编码的字符 (孤立的代理码)") from None
    return value


def _weight(value: dict[str, Any], where: str) -> float:
    train = value.get("train", True)
    if not isinstance(train, bool):
        raise _Refused("weight", f"{where}的train应为true或false")
    weight = value.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise _Refused("weight", f"{where}的weight应为数字")
    try:
        weight = float(weight)
    except OverflowError:
        weight = math.inf
    if not math.isfinite(weight) or weight < 0:
        raise _Refused("weight", f"{where}的weight应为≥0的有限数字")
    return weight if train else 0.0
