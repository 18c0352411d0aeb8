"""--report-to: what mlx-lm's callbacks are given, a package that is missing, and trouble that must not end a run."""

import importlib
import json
import signal
import sys
import types

import pytest

pytest.importorskip("mlx.core")

from mlx_lm.tuner import callbacks

import train_v3_precision as script
from precision_lora import reporting
from precision_lora.blas import MARK
from precision_lora.config import TrainConfig
from precision_lora.errors import UserError, run_main
from precision_lora.journal import Journal
from tests import tiny

ENTRY = {
    "step": 4,
    "phase": 1,
    "loss": None,
    "nll": 2.5,
    "lr": 1e-3,
    "supervised_tokens": 30,
    "seconds": 0.5,
    "valid": {"loss": 2.0, "number": 3.0, "tokens": 90},
}


@pytest.fixture
def packages(monkeypatch):
    """Stand-ins for both packages where mlx-lm's callbacks import them; (package, function, arguments) of each call."""
    calls = []
    for name in ("wandb", "swanlab"):
        fake = types.ModuleType(name)
        fake.init = lambda _name=name, **given: calls.append((_name, "init", given))
        fake.log = lambda numbers, step, _name=name: calls.append((_name, step, numbers))
        monkeypatch.setitem(sys.modules, name, fake)
    importlib.reload(callbacks)
    yield calls
    monkeypatch.undo()
    importlib.reload(callbacks)


@pytest.fixture
def journal(tmp_path):
    journal = Journal()
    journal.open(tmp_path / "logs")
    yield journal
    journal.close()


def test_both_get_each_step_and_validation(packages, journal):
    report = reporting.prepare(TrainConfig(report_to="swanlab, wandb"))(journal)
    begun = {name: given for name, what, given in packages if what == "init"}
    assert begun.keys() == {"swanlab", "wandb"}
    assert begun["wandb"]["config"]["lr"] == 3e-6
    assert begun["wandb"]["name"] == begun["swanlab"]["experiment_name"] == journal.path.stem
    packages.clear()
    report(ENTRY)
    # 30 tokens in half a second; a loss that is not finite is left out, as both would refuse it.
    step = {"iteration": 4, "phase": 1, "nll": 2.5, "learning_rate": 1e-3, "supervised_tokens": 30}
    step |= {"tokens_per_second": 60.0, "iterations_per_second": 2.0}
    valid = {"iteration": 4, "val_loss": 2.0, "val_number": 3.0}
    for name in ("swanlab", "wandb"):
        assert [call for call in packages if call[0] == name] == [(name, 4, step), (name, 4, valid)]


@pytest.mark.parametrize("name", ["swanlab", "wandb"])
def test_a_missing_package_is_named_before_anything_starts(packages, monkeypatch, name):
    monkeypatch.setattr(callbacks, name, None)
    with pytest.raises(UserError, match=f"没有安装 {name}") as refused:
        reporting.prepare(TrainConfig(report_to="swanlab,wandb"))
    assert f"pip install {name}" in refused.value.fixes
    assert packages == []


def test_an_account_that_refuses_is_an_error_with_its_reason(packages, journal, monkeypatch):
    def refuse(**_):
        raise RuntimeError("api_key not configured\nand a long explanation")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(UserError, match="不能开始报告（api_key not configured）"):
        reporting.prepare(TrainConfig(report_to="wandb"))(journal)


def test_trouble_on_the_way_is_said_once_and_ends_the_reports_alone(packages, journal, monkeypatch, capsys):
    report = reporting.prepare(TrainConfig(report_to="wandb"))(journal)
    tried = []

    def fail(*_, **__):
        tried.append(1)
        raise OSError("network is down")

    monkeypatch.setattr(sys.modules["wandb"], "log", fail)
    report(ENTRY)
    report(ENTRY)
    assert len(tried) == 1
    assert capsys.readouterr().out.count("network is down") == 1


def test_a_run_reports_what_its_history_says(packages, tmp_path, monkeypatch):
    config = {**tiny.LLAMA, "vocab_size": tiny.TOKENIZER_VOCABULARY, "eos_token_id": 1}
    tiny.save(tiny.build(config), config, tmp_path / "base")
    tiny.save_tokenizer(tmp_path / "base")
    row = {"messages": [{"role": "user", "content": "血压140/90？"}, {"role": "assistant", "content": "偏高。"}]}
    for name in ("train", "valid"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    words = f"--base-model {tmp_path}/base --data {tmp_path} --output-dir {tmp_path}/out --yes --lora-rank 2"
    words += " --steps 4 --eval-every 2 --report-to wandb"
    monkeypatch.setattr(sys, "argv", ["train_v3_precision.py", *words.split()])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv(MARK, "1")
    assert run_main(script.main) == 0
    history = json.loads((tmp_path / "out/finetuned_model_v3_precision/metrics_history.json").read_text())
    sent = [numbers for _, what, numbers in packages if what != "init"]
    assert [n["train_loss"] for n in sent if "train_loss" in n] == [entry["loss"] for entry in history]
    assert [n["val_loss"] for n in sent if "val_loss" in n] == [history[i]["valid"]["loss"] for i in (1, 3)]
