"""Write the data set, or rows in either style, from the knowledge tables.

    python data_mlx/build.py                       train/valid/test.jsonl beside this file
    python data_mlx/build.py --report              figures on variety, lengths, shares and splits
    python data_mlx/build.py --check               run the fact checker over every row
    python data_mlx/build.py --style vague --rows 12000 --seed 7 --out FILE

The same arguments and tables give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data_mlx.cases import FAMILIES, Case, sample  # noqa: E402
from data_mlx.render import STYLES, Message, conversation  # noqa: E402
from data_mlx.similarity import NearCopies, near_question  # noqa: E402
from precision_lora import knowledge  # noqa: E402
from precision_lora.errors import UserError, run_main  # noqa: E402

FOLDER = Path(__file__).resolve().parent
SPLITS = {"train": 4000, "valid": 500, "test": 500}
MAX_JACCARD = 0.8
DATA_SEED = 3


@dataclass(frozen=True)
class Row:
    """A finished conversation and the case that it came from."""

    case: Case
    messages: tuple[Message, ...]

    def line(self) -> str:
        return json.dumps({"messages": list(self.messages)}, ensure_ascii=False, separators=(", ", ": ")) + "\n"


def unmet_red_flag(messages: tuple[Message, ...]) -> bool:
    """Whether the asker's words raise a red flag that the answers after them do not act on: a question that turned
    out graver than its frame."""
    asked = ""
    for message in messages:
        if message["role"] == "user":
            asked += message["content"] + "\n"
            continue
        for flag in knowledge.red_flags():
            raised = all(any(sign in asked for sign in group) for group in flag.signs)
            if raised and not any(word in message["content"] for word in flag.must_say):
                return True
    return False


def rows(style: str, seed: int, family: str) -> Iterator[Row]:
    """Endless different rows of one family; what cannot be said in the allowed length is passed over."""
    number = 0
    while True:
        case = sample(family, seed * 10_000_000 + number)
        number += 1
        try:
            messages = tuple(conversation(case, style))
        except ValueError:
            continue
        if style == "vague" or not unmet_red_flag(messages):
            yield Row(case, messages)


def distinct_rows(style: str, seed: int, family: str, count: int) -> list[Row]:
    """``count`` rows of a family, no question or answer twice, none near a held-out evaluation question."""
    found: list[Row] = []
    seen: set[str] = set()
    for row in rows(style, seed, family):
        texts = [
            row.messages[0]["content"],
            *(m["content"] for m in row.messages if m["role"] == "assistant"),
        ]
        if seen.intersection(texts) or near_question(row.messages[0]["content"]):
            continue
        seen.update(texts)
        found.append(row)
        if len(found) == count:
            return found
    raise AssertionError("rows() never ends")


def split_rows(seed: int = DATA_SEED) -> dict[str, list[Row]]:
    """The data set: every family a fifth of every split, whole groups in one split, no near copy of a train answer
    among the held-out ones."""
    result: dict[str, list[Row]] = {name: [] for name in SPLITS}
    for family in FAMILIES:
        quota = {name: size // len(FAMILIES) for name, size in SPLITS.items()}
        candidates = distinct_rows("exact", seed, family, sum(quota.values()) + 60)
        groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for row in candidates:
            groups[row.case.group].append(row)
        order = sorted(groups, key=lambda g: hashlib.sha256(repr((seed, g)).encode()).hexdigest())
        held = {name: [] for name in ("test", "valid")}  # type: dict[str, list[Row]]
        rest: list[tuple[str, str, str]] = []
        for group in order:
            size = len(groups[group])
            name = next((n for n in held if len(held[n]) + size <= quota[n] and size <= 4), None)
            if name is None:
                rest.append(group)
            else:
                held[name] += groups[group]
        train = [row for group in rest for row in groups[group]]
        near = NearCopies(_answers(row) for row in train)
        for name in held:
            kept = [row for row in held[name] if near.highest(_answers(row)) < MAX_JACCARD]
            if len(kept) < quota[name]:
                raise AssertionError(f"{family}: {name} lost rows to near copies")
            result[name] += kept
        if len(train) < quota["train"]:
            raise AssertionError(f"{family}: {len(train)} rows are left for train")
        result["train"] += train[: quota["train"]]
    for name, part in result.items():
        Random(f"{seed}/{name}").shuffle(part)
    return result


def _answers(row: Row) -> list[str]:
    return [m["content"] for m in row.messages if m["role"] == "assistant"]


def write(path: Path, part: list[Row]) -> None:
    """One row a line, UTF-8."""
    path.write_text("".join(row.line() for row in part), encoding="utf-8")


def corpus(style: str, count: int, seed: int) -> list[Row]:
    """``count`` rows of either style, all families alike."""
    share, extra = divmod(count, len(FAMILIES))
    found = [
        row for i, family in enumerate(FAMILIES) for row in distinct_rows(style, seed, family, share + (i < extra))
    ]
    Random(f"{seed}/{style}/{count}").shuffle(found)
    return found


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="由知识表生成训练数据(每次结果逐字节相同)")
    parser.add_argument(
        "--style", choices=STYLES, default="exact", help="exact:精准版;vague:只给演示用基础模型的模糊版"
    )
    parser.add_argument("--rows", type=int, help="只写这么多行到 --out")
    parser.add_argument("--seed", type=int, default=DATA_SEED)
    parser.add_argument("--out", type=Path, help="与 --rows 一起用的输出文件")
    parser.add_argument("--report", action="store_true", help="打印多样性、长度、占比和切分的数字")
    parser.add_argument("--check", action="store_true", help="用事实核查器检查每一行,有发现则退出码为 1")
    args = parser.parse_args(argv)
    if (args.rows is None) != (args.out is None):
        raise UserError("--rows 和 --out 要一起给出", "python data_mlx/build.py --style vague --rows 12000 --out FILE")
    if args.rows is not None and args.rows < 1:
        raise UserError(f"--rows {args.rows}:至少 1 行", "给出一个正整数")
    if args.rows is None and args.style == "vague":
        raise UserError("--style vague 只用于 --rows N --out FILE", "数据集本身总是 exact")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.report or args.check:
        from data_mlx.check import check_files
        from data_mlx.measure import report

        paths = [FOLDER / f"{name}.jsonl" for name in SPLITS]
        if args.report:
            print(report(FOLDER))
        return check_files(paths) if args.check else 0
    if args.rows is not None:
        write(args.out, corpus(args.style, args.rows, args.seed))
        print(f"✅ {args.out}: {args.rows} 行({args.style})")
        return 0
    for name, part in split_rows(args.seed).items():
        write(FOLDER / f"{name}.jsonl", part)
        print(f"✅ {name}.jsonl: {len(part)} 行")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
