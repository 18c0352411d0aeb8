"""The pictures, with Chinese labels where a font for them exists and English ones where none does (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .labels import INDICATOR_NAMES, INDICATOR_ORDER

# Fonts with Chinese glyphs on macOS, Linux and Windows, the best first.
CHINESE_FONTS = (
    "PingFang SC",
    "Hiragino Sans GB",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
)
SYSTEM_COLOURS = ("#9a8f80", "#0b6e75", "#a04c8a")
ENGLISH_NAMES = {
    "medical_term_accuracy": "Medical terms",
    "numerical_precision": "Numbers",
    "diagnosis_confidence": "Diagnosis",
    "treatment_specificity": "Treatment",
    "empathy": "Empathy",
    "overall": "Overall",
}


@cache
def chinese_font() -> str | None:
    """The name of an installed font with Chinese glyphs, or None."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CHINESE_FONTS if name in installed), None)


def new_figure(width: float, height: float) -> Any:
    """A Matplotlib figure (inches) for a file, without a display, in the project's font."""
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    font = chinese_font()
    if font is not None:
        rcParams["font.sans-serif"] = [font, *[n for n in rcParams["font.sans-serif"] if n != font]]
    rcParams["axes.unicode_minus"] = False
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_scores(report: Mapping[str, Any], path: Path) -> None:
    """Write ``scores.png``: one line an indicator, one dot with its 95 % interval a system, axis 0 to 5."""
    summary = report["summary"]
    chinese = chinese_font() is not None
    names = {**INDICATOR_NAMES, "overall": "综合得分"} if chinese else ENGLISH_NAMES
    rows = (*INDICATOR_ORDER, "overall")
    figure = new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    systems = [system["id"] for system in report["systems"]]
    for order, system in enumerate(systems):
        offset = (order - (len(systems) - 1) / 2) * 0.22
        colour = SYSTEM_COLOURS[order % len(SYSTEM_COLOURS)]
        for index, key in enumerate(rows):
            interval = summary["intervals"][system][key]
            axes.plot([interval["low"], interval["high"]], [index + offset] * 2, color=colour, linewidth=2.4, alpha=0.5)
        axes.plot(
            [summary["means"][system][key] for key in rows],
            [index + offset for index in range(len(rows))],
            "o",
            color=colour,
            label=system,
        )
    axes.set_yticks(range(len(rows)), [names[key] for key in rows])
    axes.invert_yaxis()
    axes.set_xlim(-0.1, 5.1)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("得分 (横线为95%区间)" if chinese else "score (lines: 95 % interval)")
    figure.legend(loc="outside upper center", frameon=False, ncols=len(systems))
    figure.savefig(path)
