"""From answers to the report: reading questions and answers, scoring, and comparing systems pair by pair (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import scoring, statistics
from .errors import UserError
from .labels import INDICATOR_ORDER

SUITES = Path(__file__).resolve().parent / "suites"
SCORES = (*INDICATOR_ORDER, "overall")
SHOWN_WORST = 5
# With fewer pairs a line of score over length is noise.
LENGTH_PAIRS = 10
MAX_ANSWER_CHARACTERS = 200_000


@dataclass(frozen=True)
class Question:
    """One question of a suite; ``rubric`` are its own expectations in the form that `scoring.score` takes."""

    id: str
    scenario: str
    question: str
    rubric: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Answer:
    """What one system answered to one question."""

    id: str
    scenario: str
    system: str
    question: str
    answer: str


def read_suite(path: Path) -> list[Question]:
    """Questions from a JSON-lines file ``{"id", "question"[, "scenario", "rubric"]}``.

    Raises UserError with file and line for anything else, a rubric that cannot be used included, for an empty file and
    for an id that stands twice.
    """
    questions = [
        Question(
            _string(value, "id", path, line),
            str(value.get("scenario") or "自定义"),
            _string(value, "question", path, line),
            _rubric(value, path, line),
        )
        for line, value in _objects(path)
    ]
    _refuse_duplicates([question.id for question in questions], path)
    return questions


def read_answers(path: Path) -> list[Answer]:
    """Given answers from a JSON-lines file ``{"id", "question", "answer"[, "scenario", "system"]}``.

    An answer may be empty (it scores 0). Raises UserError as `read_suite` does, for answers beyond any sense, and for
    an id that stands for two questions.
    """
    answers: list[Answer] = []
    asked: dict[str, tuple[int, str]] = {}
    for line, value in _objects(path):
        text = value.get("answer")
        if not isinstance(text, str):
            raise UserError(
                f"{path}:{line}: answer应为文字", '每行: {"id", "question", "answer"[, "scenario", "system"]}'
            )
        if len(text) > MAX_ANSWER_CHARACTERS:
            raise UserError(f"{path}:{line}: answer有 {len(text)} 字，上限 {MAX_ANSWER_CHARACTERS} 字", "截短这一行")
        answer = Answer(
            _string(value, "id", path, line),
            str(value.get("scenario") or "自定义"),
            str(value.get("system") or "answers"),
            _string(value, "question", path, line),
            text,
        )
        # Answers are compared by id: two questions under one would be compared with each other.
        first, question = asked.setdefault(answer.id, (line, answer.question))
        if question != answer.question:
            raise UserError(f"{path}:{line}: id {answer.id} 的问题与第 {first} 行的不同", "不同的问题用不同的id")
        answers.append(answer)
    _refuse_duplicates([f"{answer.system} / {answer.id}" for answer in answers], path)
    return answers


def answers_text(answers: Iterable[Answer]) -> str:
    """``answers`` in the form that `read_answers` reads."""
    return "".join(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers)


def evaluate(
    systems: Sequence[dict[str, str]],
    answers: Sequence[Answer],
    rubrics: dict[str, list[dict[str, Any]] | None],
    settings: dict[str, Any],
    date: str,
) -> dict[str, Any]:
    """The whole report in the form of ``report.json``.

    ``systems``: ``{"id", "name"}`` in the order of the columns; the first is the reference, the second is compared
    with it. ``rubrics`` by question id. ``settings["seed"]`` seeds the bootstrap.

    Raises ValueError for a rubric that `scoring.check_rubric` refuses.
    """
    names = [system["id"] for system in systems]
    scored = [_scored(answer, rubrics.get(answer.id)) for answer in answers]
    by_system = {name: [entry for entry in scored if entry["system"] == name] for name in names}
    seed = int(settings["seed"])
    summary: dict[str, Any] = {
        "date": date,
        "questions": len({entry["id"] for entry in scored}),
        "settings": settings,
        "means": {name: _means(entries) for name, entries in by_system.items()},
        "intervals": {
            name: _intervals([[_value(e, key) for key in SCORES] for e in entries], entries, seed)
            for name, entries in by_system.items()
        },
        "vetoes": {name: sum(bool(e["vetoes"]) for e in entries) for name, entries in by_system.items()},
        "notes": [],
    }
    if len(names) > 1:
        _compare(summary, by_system[names[0]], by_system[names[1]], names, seed)
    return {"systems": list(systems), "answers": scored, "summary": summary}


def _compare(
    summary: dict[str, Any], before: list[dict[str, Any]], after: list[dict[str, Any]], names: Sequence[str], seed: int
) -> None:
    """Add paired differences (second minus first system) over the questions that both answered."""
    old = {entry["id"]: entry for entry in before}
    pairs = [(old[entry["id"]], entry) for entry in after if entry["id"] in old]
    same = sum(a["answer"] == b["answer"] for a, b in pairs)
    summary["identical_answers"] = same
    if not pairs:
        summary["notes"].append(f"{names[0]}与{names[1]}没有共同的问题，不作对照")
        return
    if same == len(pairs):
        summary["notes"].append(f"{names[0]}与{names[1]}的回答完全相同，没有可比的差异")
        return
    if same:
        summary["notes"].append(f"{len(pairs)} 个问题中有 {same} 个的回答完全相同")
    summary["differences"] = _intervals(
        [[_value(b, key) - _value(a, key) for key in SCORES] for a, b in pairs], [b for _, b in pairs], seed
    )
    if len(pairs) >= LENGTH_PAIRS:
        matched = statistics.length_matched(
            [a["overall"] for a, _ in pairs],
            [b["overall"] for _, b in pairs],
            [len(a["answer"]) for a, _ in pairs],
            [len(b["answer"]) for _, b in pairs],
            [b["scenario"] for _, b in pairs],
            seed,
        )
        summary["length_matched"] = asdict(matched)
    falls = sorted(((b["overall"] - a["overall"], b) for a, b in pairs), key=lambda item: (item[0], item[1]["id"]))
    summary["worst"] = [
        {"id": entry["id"], "question": entry["question"], "difference": round(fall, 4)}
        for fall, entry in falls[:SHOWN_WORST]
        if fall < 0
    ]


def _intervals(rows: Sequence[Sequence[float]], entries: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """For each of `SCORES` the mean of its column of ``rows`` with its interval, clustered by scenario."""
    found = statistics.mean_intervals(np.asarray(rows, dtype=np.float64), [e["scenario"] for e in entries], seed)
    return {key: asdict(interval) for key, interval in zip(SCORES, found, strict=True)}


def _scored(answer: Answer, rubric: list[dict[str, Any]] | None) -> dict[str, Any]:
    scored = scoring.score(answer.question, answer.answer, rubric)
    return {
        **asdict(answer),
        "scores": {key: round(value, 4) for key, value in scored.scores.items()},
        "overall": round(scored.overall, 4),
        "vetoes": [asdict(veto) for veto in scored.vetoes],
        "evidence": [{**asdict(f), "points": round(f.points, 4)} for f in scored.findings],
    }


def _value(entry: dict[str, Any], key: str) -> float:
    return float(entry["overall"] if key == "overall" else entry["scores"][key])


def _means(entries: Sequence[dict[str, Any]]) -> dict[str, float]:
    count = max(len(entries), 1)
    return {key: round(sum(_value(entry, key) for entry in entries) / count, 4) for key in SCORES}


def _objects(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        # Not splitlines(): U+2028, U+2029 and U+0085 may stand in a JSON string.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"无法读取文件: {path} ({error.strerror})", "检查路径") from None
    except UnicodeDecodeError:
        raise UserError(f"文件不是UTF-8编码: {path}", "用UTF-8重新保存该文件") from None
    values = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could not be written again
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: 不是有效的JSON ({error})", "每行写一个JSON对象") from None
        if not isinstance(value, dict):
            raise UserError(f"{path}:{number}: 应为JSON对象", "每行写一个JSON对象")
        values.append((number, value))
    if not values:
        raise UserError(f"文件是空的: {path}", "每行写一个JSON对象")
    return values


def _string(value: dict[str, Any], key: str, path: Path, line: int) -> str:
    found = value.get(key)
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or not found.strip():
        raise UserError(f"{path}:{line}: 缺少{key}", f"每行都要有非空的{key}")
    return found


def _rubric(value: dict[str, Any], path: Path, line: int) -> list[dict[str, Any]] | None:
    rubric: list[dict[str, Any]] | None = value.get("rubric")
    if rubric is None:
        return None
    try:
        scoring.check_rubric(rubric)
    except ValueError as error:
        raise UserError(
            f"{path}:{line}: 这一题的rubric无法使用: {error}",
            '每条: {"indicator", "criterion", "points", "all": [["说法", "另一种说法"], …]}',
        ) from None
    return rubric


def _refuse_duplicates(names: Iterable[str], path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{path}: id重复: {name}", "让每个id只出现一次")
        seen.add(name)
