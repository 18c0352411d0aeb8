"""The evaluation as one self-contained HTML page: summary, plot, every question with its marked answers (pure).

No network, no library: style and script stand in the page. Marks carry their reasons twice, on hover and as a list
that is always printed, so that paper shows what the screen does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .labels import INDICATOR_NAMES, INDICATOR_ORDER, relative, share_of_scale, stars
from .report import gain_heading, remarks, veto_text

_INDICATOR_CLASS = {name: f"i{index}" for index, name in enumerate(INDICATOR_ORDER)}


def render_page(report: Mapping[str, Any]) -> str:
    """The page for a report in the form of ``report.json``."""
    systems = [system["id"] for system in report["systems"]]
    groups: dict[str, dict[str, Any]] = {}
    for answer in report["answers"]:
        group = groups.setdefault(
            answer["id"], {"scenario": answer["scenario"], "question": answer["question"], "answers": {}}
        )
        group["answers"][answer["system"]] = answer
    scenarios = list(dict.fromkeys(group["scenario"] for group in groups.values()))
    body = [
        "<header><h1>V3 精准度评估</h1>",
        f"<p class=meta>{escape(' · '.join(_meta(report)))}</p></header>",
        _vetoes(report),
        _notes(report),
        "<section><h2>总览</h2>",
        _table(report, systems),
        _plot(report, systems),
        "</section>",
        _worst(report),
        "<section><h2>逐题对照</h2>",
        _filters(scenarios),
        *(_card(identifier, group, systems) for identifier, group in groups.items()),
        "</section>",
        "<footer>本报告由确定的规则给出，同样的回答总得同样的分；它检验文字，不能代替医生。</footer>",
    ]
    return (
        "<!doctype html><html lang=zh-CN><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>V3 精准度评估</title><style>{_STYLE}</style></head><body>"
        + "\n".join(part for part in body if part)
        + f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _meta(report: Mapping[str, Any]) -> list[str]:
    summary = report["summary"]
    parts = [f"{system['id']}: {system['name']}" for system in report["systems"]]
    parts += [f"{summary['questions']} 个问题", str(summary["date"])]
    return parts


def _vetoes(report: Mapping[str, Any]) -> str:
    rows = [
        f"<li><a href='#q-{escape(a['id'], quote=True)}'>{escape(a['system'])} · {escape(a['question'][:40])}</a>: "
        f"{escape(veto_text(a))}</li>"
        for a in report["answers"]
        if a["vetoes"]
    ]
    if not rows:
        return "<section class=calm>✅ 没有安全否决项</section>"
    return f"<section class=veto><h2>⚠️ 安全否决 ({len(rows)})</h2><ul>{''.join(rows)}</ul></section>"


def _notes(report: Mapping[str, Any]) -> str:
    items = "".join(f"<li>{escape(remark)}</li>" for remark in remarks(report))
    return f"<section class=note><ul>{items}</ul></section>" if items else ""


def _table(report: Mapping[str, Any], systems: Sequence[str]) -> str:
    summary = report["summary"]
    heads = "".join(f"<th>{escape(system)}</th>" for system in systems)
    paired = summary.get("differences")
    heads += f"<th>{escape(gain_heading(systems))}</th><th>95% 区间</th>" if paired else ""
    rows = []
    for key in (*INDICATOR_ORDER, "overall"):
        cells = ""
        for system in systems:
            value = summary["means"][system][key]
            shown = f"{value:.2f}" if key == "overall" else f"<span class=stars>{stars(value)}</span> {value:.2f}"
            cells += f"<td>{shown}</td>"
        if paired:
            change = paired[key]
            mean, low, high = (_change(summary, systems, key, change[part]) for part in ("mean", "low", "high"))
            cells += f"<td class={_sign(change['low'], change['high'])}>{mean}</td><td>{low} … {high}</td>"
        name = "综合得分" if key == "overall" else INDICATOR_NAMES[key]
        rows.append(f"<tr{' class=overall' if key == 'overall' else ''}><th>{name}</th>{cells}</tr>")
    return f"<table><thead><tr><th>指标</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _change(summary: Mapping[str, Any], systems: Sequence[str], key: str, difference: float) -> str:
    if key == "overall":
        return relative(difference, summary["means"][systems[0]][key])
    return share_of_scale(difference)


def _sign(low: float, high: float) -> str:
    return "up" if low > 0 else "down" if high < 0 else "flat"


def _plot(report: Mapping[str, Any], systems: Sequence[str]) -> str:
    """Dots with intervals on a 0–5 axis, one line an indicator, as inline SVG that follows the page's colours."""
    summary = report["summary"]
    left, width, row_height = 150, 520, 46
    rows = (*INDICATOR_ORDER, "overall")
    height = row_height * len(rows) + 40

    def x(score: float) -> float:
        return left + width * score / 5

    parts = [f'<svg viewBox="0 0 {left + width + 30} {height}" role=img aria-label="各指标得分与95%区间">']
    for tick in range(6):
        parts.append(f'<line class=grid x1="{x(tick)}" x2="{x(tick)}" y1="10" y2="{height - 30}"/>')
        parts.append(f'<text class=tick x="{x(tick)}" y="{height - 12}" text-anchor=middle>{tick}</text>')
    for index, key in enumerate(rows):
        centre = 10 + row_height * index + row_height / 2
        name = "综合得分" if key == "overall" else INDICATOR_NAMES[key]
        parts.append(f'<text x="{left - 12}" y="{centre + 5}" text-anchor=end>{name}</text>')
        for order, system in enumerate(systems):
            interval = summary["intervals"][system][key]
            mean = summary["means"][system][key]
            y = centre + (order - (len(systems) - 1) / 2) * 13
            parts.append(
                f'<g class="s{order}"><line x1="{x(interval["low"]):.1f}" x2="{x(interval["high"]):.1f}" '
                f'y1="{y}" y2="{y}"/><circle cx="{x(mean):.1f}" cy="{y}" r="5"/>'
                f"<title>{escape(system)} {name}: {mean:.2f} ({interval['low']:.2f}–{interval['high']:.2f})</title></g>"
            )
    legend = "".join(f"<span><i class=s{order}></i>{escape(system)}</span>" for order, system in enumerate(systems))
    return "".join(parts) + f"</svg><p class=legend>{legend}<span>横线为 95% 区间</span></p>"


def _worst(report: Mapping[str, Any]) -> str:
    worst = report["summary"].get("worst") or []
    if not worst:
        return ""
    rows = "".join(
        f"<li><a href='#q-{escape(case['id'], quote=True)}'>{escape(case['question'][:48])}</a> "
        f"综合 {case['difference']:+.2f}</li>"
        for case in worst
    )
    return f"<section><h2>退步最多的问题</h2><ul>{rows}</ul></section>"


def _filters(scenarios: Iterable[str]) -> str:
    scenario_options = "".join(f"<option>{escape(name)}</option>" for name in scenarios)
    indicator_options = "".join(
        f"<option value={_INDICATOR_CLASS[key]}>{INDICATOR_NAMES[key]}</option>" for key in INDICATOR_ORDER
    )
    legend = "".join(f"<mark class={_INDICATOR_CLASS[key]}>{INDICATOR_NAMES[key]}</mark>" for key in INDICATOR_ORDER)
    return (
        "<div class=filters><label>场景 <select id=scenario><option value=''>全部</option>"
        f"{scenario_options}</select></label> <label>指标 <select id=indicator><option value=''>全部</option>"
        f"{indicator_options}</select></label> <label><input type=checkbox id=lost> 只看扣分</label>"
        f"<span class=legend>{legend}<mark class=neg>扣分</mark></span></div>"
    )


def _card(identifier: str, group: Mapping[str, Any], systems: Sequence[str]) -> str:
    columns = "".join(_answer(system, group["answers"][system]) for system in systems if system in group["answers"])
    return (
        f"<article id='q-{escape(identifier, quote=True)}' data-scenario='{escape(group['scenario'], quote=True)}'>"
        f"<h3><small>{escape(group['scenario'])}</small> {escape(group['question'])}</h3>"
        f"<div class=columns>{columns}</div></article>"
    )


def _answer(system: str, answer: Mapping[str, Any]) -> str:
    veto = f"<p class=vetoed>⚠️ {escape(veto_text(answer))}</p>" if answer["vetoes"] else ""
    scores = "".join(
        f"<span class={_INDICATOR_CLASS[key]} title='{INDICATOR_NAMES[key]}'>{INDICATOR_NAMES[key][:2]} "
        f"{answer['scores'][key]:.1f}</span>"
        for key in INDICATOR_ORDER
    )
    evidence = answer["evidence"]
    items = "".join(
        f"<li class='{_INDICATOR_CLASS[e['indicator']]}{' lost' if e['points'] < 0 else ''}'>"
        f"<b>{e['points']:+.1f}</b> {escape(e['criterion'])}"
        + (f" <q>{escape(answer['answer'][e['start'] : e['end']][:40])}</q>" if e["end"] > e["start"] else "")
        + f" <small>{escape(e['source'])}</small></li>"
        for e in sorted(evidence, key=lambda e: (INDICATOR_ORDER.index(e["indicator"]), e["start"]))
    )
    return (
        f"<div class=answer><h4>{escape(system)} <b>{answer['overall']:.2f}</b></h4>{veto}"
        f"<p class=text>{mark(answer['answer'], evidence, answer['vetoes'])}</p><p class=scores>{scores}</p>"
        f"<details><summary>{len(evidence)} 条依据</summary><ul>{items}</ul></details></div>"
    )


def mark(text: str, evidence: Sequence[Mapping[str, Any]], vetoes: Sequence[Mapping[str, Any]] = ()) -> str:
    """``text`` as HTML with each finding's and veto's characters marked; overlapping ones share a stretch.

    A stretch carries all its reasons, and takes the colour of a negative finding first, else of its shortest one.
    """
    dangers = [{**v, "criterion": f"安全否决: {v['note']}", "points": -5.0, "indicator": None} for v in vetoes]
    placed = [e for e in (*dangers, *evidence) if 0 <= e["start"] < e["end"] <= len(text)]
    edges = sorted({0, len(text), *(e["start"] for e in placed), *(e["end"] for e in placed)})
    parts = []
    for start, end in itertools.pairwise(edges):
        piece = escape(text[start:end]).replace("\n", "<br>")
        here = [e for e in placed if e["start"] <= start and end <= e["end"]]
        if not here:
            parts.append(piece)
            continue
        here.sort(key=lambda e: (e["points"] >= 0, e["end"] - e["start"]))
        reasons = "\n".join(f"{e['points']:+.1f} {e['criterion']} ({e['source']})" for e in here)
        classes = " ".join(
            dict.fromkeys(_INDICATOR_CLASS[e["indicator"]] if e["indicator"] else "danger" for e in here)
        )
        negative = " neg" if here[0]["points"] < 0 else ""
        parts.append(f'<mark class="{classes}{negative}" title="{escape(reasons, quote=True)}">{piece}</mark>')
    return "".join(parts)


_STYLE = """
:root{color-scheme:light dark;--bg:#fbfaf7;--card:#fff;--ink:#23272b;--soft:#667;--line:#ddd8cf;--accent:#0b6e75;
--s0:#9a8f80;--s1:#0b6e75;--s2:#a04c8a;--c0:#cfe3ff;--c1:#c8efe4;--c2:#e7d8fb;--c3:#d9efc4;--c4:#ffe3b8;--neg:#ffccc7;
--up:#0a7a43;--down:#b3261e}
@media(prefers-color-scheme:dark){:root{--bg:#16191c;--card:#1f2428;--ink:#e7e5e0;--soft:#9aa4ad;--line:#363c42;
--accent:#5cc4cb;--s0:#9a9288;--s1:#5cc4cb;--s2:#d991c4;--c0:#1f3a63;--c1:#134b40;--c2:#432a63;--c3:#2f4a1c;--c4:#5a4215;
--neg:#6b231f;--up:#62d394;--down:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:28px 20px 60px;background:var(--bg);color:var(--ink);line-height:1.7;
font:16px/1.7 "PingFang SC","Hiragino Sans GB","Noto Sans CJK SC","Noto Sans SC","Source Han Sans SC","Microsoft YaHei",
system-ui,sans-serif}
h1{margin:0;font-size:28px}h2{margin:34px 0 12px;font-size:20px}h3{margin:0 0 10px;font-size:17px}h4{margin:0 0 6px}
.meta,footer,small{color:var(--soft);font-size:13px}
h3 small{border:1px solid var(--line);border-radius:9px;padding:1px 8px}
a{color:var(--accent)}section>ul{padding-left:20px}
.calm,.veto,.note{border-radius:10px;padding:10px 16px;margin-top:18px;background:var(--card);
border:1px solid var(--line)}
.veto{border-color:var(--down)}.veto h2{margin:4px 0;color:var(--down)}
table{border-collapse:collapse;width:100%;background:var(--card);border:1px solid var(--line)}
th,td{padding:8px 12px;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap;font-weight:400}
thead th{color:var(--soft);font-size:14px}
.overall th,.overall td{font-weight:700}.stars{letter-spacing:1px;color:#d08700}
.up{color:var(--up);font-weight:700}.down{color:var(--down);font-weight:700}
svg{width:100%;max-width:760px;margin-top:20px;display:block}svg text{fill:var(--ink);font-size:14px}
svg .tick{fill:var(--soft);font-size:12px}svg .grid{stroke:var(--line)}svg g line{stroke-width:3;opacity:.55}
.s0 line{stroke:var(--s0)}.s0 circle{fill:var(--s0)}.s1 line{stroke:var(--s1)}.s1 circle{fill:var(--s1)}
.s2 line{stroke:var(--s2)}.s2 circle{fill:var(--s2)}i.s0{background:var(--s0)}i.s1{background:var(--s1)}
i.s2{background:var(--s2)}.legend span{margin-right:16px}.legend i{display:inline-block;width:11px;height:11px;
border-radius:50%;margin-right:6px}.legend mark{margin-left:6px;font-size:13px}
.filters{position:sticky;top:0;z-index:2;background:var(--bg);padding:10px 0;display:flex;gap:16px;flex-wrap:wrap;
align-items:center;border-bottom:1px solid var(--line)}select{font:inherit;padding:2px 6px}
article{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px 18px;margin:16px 0;
break-inside:avoid}article[hidden]{display:none}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:20px}
.answer+.answer{border-left:1px solid var(--line);padding-left:20px}.answer h4 b{color:var(--accent);margin-left:8px}
.text{margin:0 0 8px;overflow-wrap:anywhere}.vetoed{color:var(--down);font-weight:700;margin:0 0 6px}
mark{color:inherit;border-radius:3px;padding:1px 1px}mark.i0,.scores .i0{background:var(--c0)}
mark.i1,.scores .i1{background:var(--c1)}mark.i2,.scores .i2{background:var(--c2)}
mark.i3,.scores .i3{background:var(--c3)}mark.i4,.scores .i4{background:var(--c4)}
mark.danger{outline:2px solid var(--down)}
mark.neg{background:var(--neg);text-decoration:underline wavy var(--down) 1px;text-underline-offset:4px}
.scores{display:flex;gap:6px;flex-wrap:wrap;margin:6px 0}.scores span{border-radius:9px;padding:0 9px;font-size:13px}
details ul{margin:6px 0;padding-left:18px;font-size:14px}details b{display:inline-block;min-width:36px}
.lost b{color:var(--down)}q{color:var(--soft)}.dimmed{background:none!important;text-decoration:none!important}
@media(max-width:720px){.answer+.answer{border-left:0;padding-left:0;border-top:1px solid var(--line);padding-top:12px}
th,td{white-space:normal;padding:6px 8px}}
@media print{:root{color-scheme:light}.filters{display:none}details>summary{display:none}
details::details-content{content-visibility:visible;display:block}body{max-width:none;font-size:12px}
mark,.scores span{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""

_SCRIPT = """
const scenario=document.getElementById('scenario'),indicator=document.getElementById('indicator'),
lost=document.getElementById('lost');
function apply(){
 for(const card of document.querySelectorAll('article')){
  card.hidden=(scenario.value&&card.dataset.scenario!==scenario.value)||(lost.checked&&!card.querySelector('.lost'));}
 for(const m of document.querySelectorAll('.text mark')){
  m.classList.toggle('dimmed',(indicator.value&&!m.classList.contains(indicator.value))||
   (lost.checked&&!m.classList.contains('neg')));}
 for(const item of document.querySelectorAll('details li')){
  item.hidden=(indicator.value&&!item.classList.contains(indicator.value))||
   (lost.checked&&!item.classList.contains('lost'));}
}
for(const control of [scenario,indicator,lost])control.addEventListener('change',apply);
addEventListener('beforeprint',()=>{for(const d of document.querySelectorAll('details'))d.open=true;});
"""
