"""``--preflight`` and the check before each run: what is printed, refused, and advised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from precision_lora import preflight
from precision_lora.config import TrainConfig
from precision_lora.errors import UserError
from precision_lora.memory import Machine
from precision_lora.preflight import Preflight, RowSizes
from precision_lora.rows import read_rows
from tests.test_memory import layout_30b

ROOT = Path(__file__).parent.parent

SIZES = RowSizes((900, 800, 400), (600, 500, 300), exact=True)


def seen(limit: int | None, bits: int | None = 4, **settings: object) -> Preflight:
    return Preflight(replace(TrainConfig(), **settings), layout_30b(bits), SIZES, Machine("metal", limit))


def test_a_run_that_fits_is_left_alone() -> None:
    assert preflight.check(seen(48 * 10**9)) == []
    assert preflight.check(seen(None)) == []  # a machine that does not say has the benefit of the doubt
    text = preflight.render(seen(48 * 10**9))  # 4 bits
    assert "427.8 MB  LoRA" in text and "17.17 GB  模型权重" in text


def test_the_longest_rows_make_the_largest_batch() -> None:
    work = seen(None).work(TrainConfig())
    assert (work.rows, work.length, work.supervised) == (2, 900, 1152)  # 600 + 500, to a multiple of 64
    shorter = seen(None).work(replace(TrainConfig(), max_seq_length=450, batch_size=1))
    assert (shorter.rows, shorter.length, shorter.supervised) == (1, 450, 512)
    assert replace(seen(None), ranks=2).work(TrainConfig()).rows == 1


def test_a_run_that_cannot_fit_is_refused_with_flags_that_make_it_fit() -> None:
    now = seen(None).estimate().peak
    tight = round(now / 1.3)
    with pytest.raises(UserError) as refused:
        preflight.check(seen(tight))
    enough = preflight.enough(seen(tight))
    assert enough is not None and enough.estimate.peak <= tight
    said = f"{refused.value} {' '.join(refused.value.fixes)}"
    assert enough.words in said
    for remedy in preflight.remedies(seen(tight)):
        assert remedy.words in said and remedy.estimate.peak < now


def test_a_model_that_is_too_large_in_itself_is_said_to_be() -> None:
    with pytest.raises(UserError) as refused:
        preflight.check(seen(10**9, bits=None))
    assert "以上全用也放不下" in " ".join(refused.value.fixes)
    assert preflight.enough(seen(10**9)) is None


def test_a_run_at_the_limit_is_warned_of_and_may_start() -> None:
    now = seen(None).estimate().peak
    warned = preflight.check(seen(round(now / 1.1)))
    assert warned and any("--batch-size 1" in line for line in warned)


def test_sizes_come_from_the_longest_rows(tmp_path) -> None:
    data = tmp_path / "train.jsonl"
    row = '{{"messages": [{{"role": "user", "content": "{}"}}, {{"role": "assistant", "content": "好"}}]}}'
    data.write_text("\n".join(row.format("问" * n) for n in (3, 500, 20)), encoding="utf-8")
    sizes = preflight.row_sizes(read_rows(data), None, TrainConfig())
    assert not sizes.exact and sizes.lengths[0] >= 3 * 500 and sizes.lengths[0] >= sizes.lengths[1]


def test_a_layer_too_many_is_named() -> None:
    settings = replace(TrainConfig(), num_layers=99)
    with pytest.raises(UserError, match="--num-layers 99: 该模型只有"):
        preflight.look(settings, ROOT / "demo" / "base", SIZES, Machine("cpu", None))
