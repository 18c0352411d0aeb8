"""Settings: defaults of the guide, all complaints at once, schedule by hand, JSON there and back."""

import json
import math

import pytest

from precision_lora.config import (
    TrainConfig,
    changed_settings,
    find_problems,
    learning_rate,
    parse,
)
from precision_lora.errors import UserError


def test_defaults_are_those_of_the_guide():
    config = parse([])
    assert (config.steps, config.batch_size, config.lr, config.lora_rank) == (5200, 2, 3e-6, 128)
    assert (config.precision_weight, config.empathy_weight) == (2.0, 1.0)
    assert config.base_model.endswith("Qwen3-VL-30B-Medical-V2-Fused")
    assert config.resume is None


def test_values_reach_their_fields():
    config = parse(["--steps", "20", "--lr", "1e-4", "--grad-checkpoint", "--resume", "--lora-targets=all-linear"])
    assert (config.steps, config.lr, config.grad_checkpoint) == (20, 1e-4, True)
    assert config.lora_targets == "all-linear"
    assert config.resume == "newest"
    assert parse(["--resume", "some/step_200"]).resume == "some/step_200"


def test_every_complaint_comes_in_one_message():
    with pytest.raises(UserError) as caught:
        parse(["--steps=0", "--lr=abc", "--lora-dropout=1", "--presicion-weight=3", "--lora-targets=mlp"])
    text = caught.value.message
    for part in ("5 处", "--steps 0", "--lr abc", "--lora-dropout 1", "--precision-weight？", "mlp"):
        assert part in text
    assert "--help" in caught.value.render()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("--steps", "--steps"),
        ("--lr nan", "--lr nan"),
        ("--lr inf", "--lr inf"),
        ("--clip-grad-norm inf", "--clip-grad-norm inf"),
        ("--steps 5 --warmup-steps 6", "--warmup-steps 6"),
        ("--resume --overwrite", "--overwrite"),
        ("--keep-best --val-batches 0", "--keep-best"),
        ("--num-layers 0", "--num-layers 0"),
        ("--precision-weight 0 --empathy-weight 0", "不能都为 0"),
        ("--report-to tensorboard", "tensorboard"),
        ("--step 3", "--step"),
    ],
)
def test_bad_or_contradictory_values(words, part):
    with pytest.raises(UserError, match=part):
        parse(words.split())


def test_demo_has_settings_of_its_size_and_given_flags_win():
    demo = parse(["--demo", "--steps", "7"])
    assert demo.steps == 7
    assert demo.output_dir == "demo_run"
    assert demo.base_model.endswith("demo/base")


def test_json_there_and_back():
    config = parse(["--demo", "--seed", "3"])
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_only_listed_settings_may_change_on_resume():
    before = TrainConfig()
    assert changed_settings(before, TrainConfig(steps=6000, save_every=10)) == []
    (line,) = changed_settings(before, TrainConfig(lr=1e-4))
    assert "--lr" in line and "3e-06" in line and "0.0001" in line


def test_learning_rate_by_hand():
    config = TrainConfig(lr=1.0, steps=12, warmup_steps=1, lr_schedule="linear")
    # One warm-up step at half the peak, the peak at step 2, the 10 % floor at step 12.
    assert learning_rate(1, config) == pytest.approx(0.5)
    assert learning_rate(2, config) == pytest.approx(1.0)
    assert learning_rate(7, config) == pytest.approx(0.1 + 0.9 * 0.5)
    assert learning_rate(12, config) == pytest.approx(0.1)
    cosine = TrainConfig(lr=1.0, steps=12, warmup_steps=1, lr_schedule="cosine")
    assert learning_rate(4, cosine) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 0.2)))
    assert learning_rate(9, TrainConfig(lr=0.5, steps=12, lr_schedule="constant")) == 0.5
    assert learning_rate(1, TrainConfig(lr=1.0, steps=1)) == 1.0


def test_help_names_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for part in ("--base-model", "--keep-best", "默认 5200", "默认 3e-06", "模型与数据", "最高值的 10%"):
        assert part in shown
    assert find_problems(TrainConfig()) == []
