"""The pictures, with Chinese labels where a font for them exists and English ones where none does (pure)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .labels import INDICATOR_NAMES, INDICATOR_ORDER, KIND_NAMES
from .phases import phases_for

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
    """Write ``scores.png``: one line an indicator, one dot with its 95 % interval a system, axis 0 to 5.

    The file is replaced whole. Raises ImportError without Matplotlib, and whatever fonts and back ends raise.
    """
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
    _save(figure, path)


PHASE_COLOURS = ("#e4eef7", "#eef6e4", "#faf0e0")
KIND_COLOURS = {
    "term": "#2b6cb0",
    "number": "#0b8a83",
    "diagnosis": "#8a4fb0",
    "treatment": "#5b8c1a",
    "empathy": "#d98200",
    "other": "#8a8f94",
}


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Trailing mean over at most ``window`` values; the first ones average what there is."""
    result, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - window] if index >= window else 0.0)
        result.append(total / min(index + 1, window))
    return result


def plot_training(
    history: Sequence[Mapping[str, Any]],
    steps: int,
    path: Path,
    *,
    before: Mapping[str, float] | None = None,
    simulated: bool = False,
) -> None:
    """Write ``training_curves.png`` from the steps so far: loss, per-kind validation, learning rate, phase bands.

    ``history`` in the form of metrics_history.json; ``steps`` is the length of the whole run; ``before`` is the
    validation before the first step. The file is replaced whole, so that a viewer never sees half a picture.
    """
    chinese = chinese_font() is not None
    figure = new_figure(9.0, 7.2)
    loss_axes, kind_axes, rate_axes = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    at = [entry["step"] for entry in history]
    # A step that was skipped because its loss was not finite leaves a gap rather than a spike.
    finite = [entry for entry in history if entry["loss"] is not None and math.isfinite(entry["loss"])]
    losses = [entry["loss"] for entry in finite]
    finite_at = [entry["step"] for entry in finite]
    loss_axes.plot(finite_at, losses, color="#b8c4cc", linewidth=0.7, label="训练损失" if chinese else "training loss")
    smoothed = smooth(losses, max(1, len(losses) // 40))
    loss_axes.plot(finite_at, smoothed, color="#23536e", linewidth=1.8, label="平滑" if chinese else "smoothed")
    validated: list[Mapping[str, Any]] = [{"step": 0, "valid": before}] if before else []
    validated += [entry for entry in history if entry.get("valid")]
    valid_at = [entry["step"] for entry in validated]
    valid_loss = [entry["valid"]["loss"] for entry in validated]
    if validated:
        label = "验证损失" if chinese else "validation"
        loss_axes.plot(valid_at, valid_loss, "o-", color="#c2410c", markersize=4, label=label, clip_on=False)
    if smoothed:
        # The first steps may be far above the rest; the picture shows where the run is, not where it began.
        top = max([*valid_loss, sorted(losses)[int(0.99 * (len(losses) - 1))]])
        bottom = min([*valid_loss, *smoothed])
        loss_axes.set_ylim(bottom - 0.1 * (top - bottom + 1e-6), top + 0.1 * (top - bottom + 1e-6))
    for kind, colour in KIND_COLOURS.items():
        points = [(entry["step"], entry["valid"].get(kind)) for entry in validated]
        points = [(step, value) for step, value in points if value is not None]
        if points:
            kind_axes.plot(
                *zip(*points, strict=True),
                "o-",
                color=colour,
                markersize=3.5,
                linewidth=1.6,
                label=KIND_NAMES[kind] if chinese else kind,
                clip_on=False,
            )
    rate_axes.plot(at, [entry["lr"] for entry in history], color="#6b7280", linewidth=1.4)
    loss_axes.set_ylabel("损失" if chinese else "loss")
    kind_axes.set_ylabel("验证: 各类负对数似然" if chinese else "validation NLL by kind")
    rate_axes.set_ylabel("学习率" if chinese else "learning rate")
    rate_axes.set_xlabel("步" if chinese else "optimizer step")
    rate_axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes in (loss_axes, kind_axes, rate_axes):
        axes.grid(axis="y", color="#e3e3e3", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for phase, colour in zip(phases_for(steps), PHASE_COLOURS, strict=True):
            axes.axvspan(phase.start, phase.end, color=colour, linewidth=0, zorder=0)
    for phase in phases_for(steps):
        label = f"Phase {phase.index} {phase.name}" if chinese else f"Phase {phase.index}"
        loss_axes.text(
            (phase.start + phase.end) / 2, 1.02, label, transform=loss_axes.get_xaxis_transform(), ha="center"
        )
    rate_axes.set_xlim(0, steps)
    if simulated:
        figure.suptitle("模拟: 没有真正训练" if chinese else "Simulated: nothing was trained", color="#b45309")
    loss_axes.legend(loc="upper right", ncols=3, fontsize=8, framealpha=0.9, edgecolor="none")
    if validated:
        # Above its axes: the curves may run anywhere.
        kind_axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6, fontsize=8, frameon=False, borderaxespad=0.2)
    _save(figure, path, {"Simulated": "true"} if simulated else None)


def _save(figure: Any, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png", metadata=metadata)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
