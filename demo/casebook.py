"""Precise consultations as a printed casebook: plain text, no chat format.

A real base model has read many exact medical dialogues before a later round of training taught it a looser manner.
The demo model reads them too, in a form of its own, so that a small adapter has something to bring to the fore. Rows
that share a question or an answer with the held-out files are left out.

    python demo/casebook.py --exact exact.jsonl --held-out data_mlx/valid.jsonl data_mlx/test.jsonl --out casebook.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random
from typing import Any

SPEAKERS = {"user": "问", "assistant": "答"}
HEADINGS = ("【门诊问答】", "【病例问答】", "【问诊实录】")


def sayings(row: dict[str, Any]) -> set[str]:
    """Every message of a row, its blanks removed."""
    return {"".join(message["content"].split()) for message in row["messages"]}


def page(rng: Random, row: dict[str, Any]) -> str:
    """The row as a page of the casebook."""
    lines = [f"{SPEAKERS[m['role']]}：{m['content']}" for m in row["messages"] if m["role"] in SPEAKERS]
    return rng.choice(HEADINGS) + "\n" + "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exact", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    held: set[str] = set()
    for path in arguments.held_out:
        for line in path.read_text(encoding="utf-8").splitlines():
            held |= sayings(json.loads(line))
    # Short turns such as 复查一般要多久一次？ are everybody's and give nothing away.
    held = {saying for saying in held if len(saying) > 20}
    rng = Random(arguments.seed)
    dropped = 0
    with arguments.exact.open(encoding="utf-8") as rows, arguments.out.open("w", encoding="utf-8") as out:
        for line in rows:
            row = json.loads(line)
            if sayings(row) & held:
                dropped += 1
                continue
            out.write(json.dumps({"text": page(rng, row)}, ensure_ascii=False) + "\n")
    print(f"{arguments.out}: {dropped} rows left out because they are held out")


if __name__ == "__main__":
    main()
