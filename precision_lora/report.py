"""The evaluation in words: the guide's table for the terminal and the Markdown report (pure)."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from .labels import INDICATOR_NAMES, INDICATOR_ORDER, relative, share_of_scale, stars

ROWS = (*INDICATOR_ORDER, "overall")


def summary_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """The guide's table as cells: header, five indicators, overall; from two systems on 提升 and its interval."""
    summary = report["summary"]
    systems = [system["id"] for system in report["systems"]]
    differences = summary.get("differences")
    header = ["指标", *systems, *([gain_heading(systems), "95%区间"] if differences else [])]
    rows = [header]
    for key in ROWS:
        cells = ["综合得分" if key == "overall" else INDICATOR_NAMES[key]]
        for system in systems:
            value = summary["means"][system][key]
            cells.append(f"{value:.2f}" if key == "overall" else f"{stars(value)} {value:.2f}")
        if differences:
            reference = summary["means"][systems[0]]["overall"]
            change = differences[key]
            shown = [
                relative(change[part], reference) if key == "overall" else share_of_scale(change[part])
                for part in ("mean", "low", "high")
            ]
            cells += [shown[0], f"{shown[1]} … {shown[2]}"]
        rows.append(cells)
    return rows


def gain_heading(systems: Sequence[str]) -> str:
    """The heading of the differences: with a third column it names the second, whose gain over the first they are."""
    return f"提升（{systems[1]}）" if len(systems) > 2 else "提升"


def render_summary(report: Mapping[str, Any]) -> str:
    """The table and what must be known beside it, as text for the terminal: vetoes first, then notes."""
    lines = veto_lines(report)
    if lines:
        lines = ["⚠️  安全否决:", *(f"   {line}" for line in lines), ""]
    lines += align(summary_rows(report))
    lines += ["", *remarks(report)]
    return "\n".join(lines)


def veto_lines(report: Mapping[str, Any]) -> list[str]:
    """One line for each vetoed answer: system, question id, reasons."""
    return [f"{a['system']} {a['id']}: {veto_text(a)}" for a in report["answers"] if a["vetoes"]]


def veto_text(answer: Mapping[str, Any]) -> str:
    """The reasons of an answer's vetoes in one line."""
    return "；".join(veto["note"] for veto in answer["vetoes"])


def render_markdown(report: Mapping[str, Any]) -> str:
    """``report.md``: systems, summary, and every question with its answers and evidence."""
    summary = report["summary"]
    parts = ["# V3 精准度评估", "", *(f"- {s['id']}: {s['name']}" for s in report["systems"])]
    parts += [f"- {summary['questions']} 个问题，{summary['date']}", ""]
    if vetoes := veto_lines(report):
        parts += ["## ⚠️ 安全否决", "", *(f"- {line}" for line in vetoes), ""]
    header, *rows = summary_rows(report)
    parts += [_row(header), _row(["---"] * len(header)), *map(_row, rows), ""]
    parts += [*(f"- {remark}" for remark in remarks(report)), "", "![各指标得分](scores.png)", "", "## 逐题", ""]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for answer in report["answers"]:
        groups.setdefault(answer["id"], []).append(answer)
    for answers in groups.values():
        parts += [f"### {_inline(answers[0]['scenario'])}: {_inline(answers[0]['question'])}", ""]
        for answer in answers:
            parts += [f"**{answer['system']}** {answer['overall']:.2f}", "", _quoted(answer["answer"]), ""]
            parts += [
                f"- {e['points']:+.1f} {INDICATOR_NAMES[e['indicator']]}: "
                f"{_inline(e['criterion'])} ({_inline(e['source'])})"
                for e in answer["evidence"]
            ]
            parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells to lines of a table, columns as wide as a terminal shows them (Chinese characters take two columns)."""
    widths = [max(display_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = "  ".join("─" * width for width in widths)
    lines = [
        "  ".join(cell + " " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]


def display_width(text: str) -> int:
    """Terminal columns of ``text``: 2 for wide and full-width characters, 0 for combining ones, else 1."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def remarks(report: Mapping[str, Any]) -> list[str]:
    """What must be known beside the table, a line each: notes, and the comparison at equal length of answers."""
    summary = report["summary"]
    said = list(summary["notes"])
    if lengths := summary.get("length_matched"):
        said.append(
            f"回答长度为原来的 {lengths['length_ratio']:.2f} 倍；同等长度下综合得分 {_change(lengths['adjusted'])}"
        )
        if lengths["matched"]:
            said.append(f"长度相近的 {lengths['matched']['n']} 对回答: 综合得分 {_change(lengths['matched'])}")
    return said


def _change(interval: Mapping[str, float]) -> str:
    return f"{interval['mean']:+.2f} (95%区间 {interval['low']:+.2f} … {interval['high']:+.2f})"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _inline(text: str) -> str:
    return " ".join(text.split())


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in (text or "(空)").splitlines())
