"""How likely the characters of a text follow one another: shuffled text gives itself away.

``character_pairs.json`` counts neighbouring characters in the training data and the knowledge tables, as powers of two.
``python -m precision_lora.indicators.plausibility`` counts them anew.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from precision_lora.numerals import fold

_TABLE = Path(__file__).with_name("character_pairs.json")
_RUN = re.compile(r"[\u4e00-\u9fff]{2,}")
# A pair is never worth more or less than this: one odd name must not decide.
_LEAST, _MOST = -2.0, 4.0
_SMOOTHING = 0.05


@cache
def _table() -> tuple[dict[str, int], dict[str, int], int]:
    """(character -> count, pair -> count, all characters)."""
    stored = json.loads(_TABLE.read_text(encoding="utf-8"))
    single = {text[0]: 2 ** int(text[1:]) for text in stored["characters"]}
    pairs = {
        first + second: 2 ** int(power)
        for first, seconds in stored["pairs"].items()
        for second, power in re.findall(r"(\D)(\d+)", seconds)
    }
    return single, pairs, stored["total"]


def plausibility(text: str) -> tuple[float, int]:
    """(mean pointwise mutual information of neighbouring Chinese characters in nats, number of pairs).

    Written Chinese of any style lies above 0, its characters shuffled below −0.5.
    """
    single, pairs, total = _table()
    worth, count = 0.0, 0
    for run in _RUN.findall(text):
        for first, second in pairwise(run):
            expected = single.get(first, 1) * single.get(second, 1) / total
            value = math.log((pairs.get(first + second, 0) + _SMOOTHING) / (expected + _SMOOTHING))
            worth += max(_LEAST, min(_MOST, value))
            count += 1
    return (worth / count if count else 0.0), count


def _power(count: int) -> int:
    return round(math.log2(count))


def count_pairs(texts: Iterable[str]) -> dict[str, Any]:
    """The table of ``texts``, ready to be written as JSON."""
    single: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for text in texts:
        for run in _RUN.findall(fold(text)):
            single.update(run)
            pairs.update(run[i : i + 2] for i in range(len(run) - 1))
    seconds: dict[str, str] = {}
    for pair, count in sorted(pairs.items()):
        seconds[pair[0]] = seconds.get(pair[0], "") + f"{pair[1]}{_power(count)}"
    return {
        "characters": [f"{c}{_power(n)}" for c, n in sorted(single.items())],
        "pairs": seconds,
        "total": single.total(),
    }


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def main() -> None:
    """Count the pairs of the training data and the knowledge tables."""
    package = Path(__file__).parent.parent
    files = [*sorted((package.parent / "data_mlx").glob("*.jsonl")), *sorted((package / "knowledge").glob("*.jsonl"))]
    texts = (
        text
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        for text in _strings(json.loads(line))
    )
    table = json.dumps(count_pairs(texts), ensure_ascii=False, indent=0)
    _TABLE.write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
