"""``--preview N``: rows as the trainer sees them, each stretch of tokens with its kinds and weight per phase (pure)."""

from __future__ import annotations

import itertools
from typing import Any

from .dataset import Encoded
from .phases import KIND_BITS, KINDS, phases_for, weight_table

NAMES = {"term": "术语", "number": "数值", "diagnosis": "诊断", "treatment": "治疗", "empathy": "人情味"}
# ANSI foregrounds that stay readable on dark and light; the first kind of a stretch in this order colours it.
COLOURS = {"number": "36", "treatment": "32", "diagnosis": "35", "term": "34", "empathy": "33"}
DIM = "2"


def preview(
    encoded: Encoded,
    tokenizer: Any,
    count: int,
    *,
    steps: int,
    precision_weight: float,
    empathy_weight: float,
    colour: bool,
) -> str:
    """The first ``count`` rows as text. Prompt tokens are dim; a stretch of targets carries ``w1/w2/w3`` behind it.

    With ``colour`` False the kinds stand in brackets instead of ANSI colours.
    """
    tables = [weight_table(phase, precision_weight, empathy_weight) for phase in phases_for(steps)]
    lines = [_legend(colour), ""]
    for row in range(min(count, len(encoded.lines))):
        at = slice(int(encoded.offsets[row]), int(encoded.offsets[row + 1]))
        tokens = encoded.tokens[at].tolist()
        labels = zip(
            encoded.supervised[at].tolist(), encoded.kinds[at].tolist(), encoded.weights[at].tolist(), strict=True
        )
        lines.append(f"── 第{int(encoded.lines[row])}行，{len(tokens)} 个词元 ──")
        text = ""
        for (supervised, kinds, weight), group in itertools.groupby(
            zip(labels, tokens, strict=True), key=lambda item: item[0]
        ):
            piece = tokenizer.decode([token for _, token in group], skip_special_tokens=False)
            if not supervised:
                text += _paint(piece, DIM, colour)
                continue
            weights = "/".join(f"{float(table[kinds]) * weight:.2g}" for table in tables)
            text += _stretch(piece, kinds, weights, colour)
        lines += [text, ""]
    return "\n".join(lines)


def _stretch(piece: str, kinds: int, weights: str, colour: bool) -> str:
    names = [kind for kind in COLOURS if kinds & KIND_BITS[kind]]
    if not names:
        return piece if weights == "1/1/1" else piece + _paint(f"‹{weights}›", DIM, colour)
    if colour:
        return _paint(piece, COLOURS[names[0]], True) + _paint(f"‹{weights}›", DIM, True)
    return f"[{'+'.join(NAMES[kind] for kind in names)} {piece} ‹{weights}›]"


def _legend(colour: bool) -> str:
    names = " ".join(_paint(NAMES[kind], COLOURS[kind], colour) for kind in KINDS)
    return f"片段: {names}    ‹Phase 1/2/3 的权重›，未标的为 1；提问不参与训练"


def _paint(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and text else text
