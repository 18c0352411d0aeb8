"""What the person sees: widths, styles, the log without control characters, commands to go on with."""

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest

from precision_lora import checkpoint, folders, outputs, terminal
from precision_lora.config import TrainConfig
from precision_lora.journal import Journal, duration, width


@pytest.fixture
def terminal_of_80(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_width_counts_columns():
    assert width("阶段1 loss") == 10
    assert width("é") == width("e\u0301") == 1
    assert width("✅ a") == 4


def test_styles_are_left_out_where_they_are_not_wanted(terminal_of_80, monkeypatch):
    assert terminal.paint("好", terminal.BOLD) == "\x1b[1m好\x1b[0m"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert terminal.paint("好", terminal.BOLD) == "好"
    monkeypatch.setenv("NO_COLOR", "")  # an empty value asks for nothing
    assert terminal.paint("好", terminal.BOLD) != "好"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert terminal.paint("好", terminal.BOLD) == "好"


@pytest.mark.parametrize(("columns", "expected"), [("80", 72), ("60", 60), ("120", 72)])
def test_a_rule_fits_the_terminal(terminal_of_80, monkeypatch, columns, expected):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    assert width(terminal.rule("🎯 V3精准度强化训练")) == expected


def test_the_log_has_what_was_said_without_control_characters(tmp_path, capsys):
    journal = Journal()
    journal.say("\x1b[1m开头\x1b[0m\n第二行")
    journal.open(tmp_path)
    journal.warn("一次")
    journal.warn("一次")
    journal.step(10, 20, ["阶段1", "loss 1.5"], 75)
    journal.close()
    lines = [line[20:] for line in journal.path.read_text(encoding="utf-8").splitlines()]
    assert lines == ["开头", "第二行", "⚠️  一次", "步 10/20 阶段1 · loss 1.5"]
    assert capsys.readouterr().out.endswith("   步 10/20 阶段1 · loss 1.5 · 剩余 1分15秒\n")


def test_a_long_run_prints_few_lines_into_a_pipe(capsys):
    journal = Journal()
    for step in range(1, 5201):
        journal.step(step, 5200, ["a"], 1)
    assert len(capsys.readouterr().out.splitlines()) == 200  # every 26 steps, the last one among them


def test_a_silent_journal_says_and_writes_nothing(tmp_path, capsys):
    journal = Journal(silent=True)
    journal.open(tmp_path)
    journal.say("a")
    journal.warn("b")
    journal.step(10, 10, ["c"], 0)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


def test_durations():
    assert [duration(s) for s in (44.6, 200, 7500)] == ["45秒", "3分20秒", "2小时05分"]


@pytest.mark.parametrize(
    "given",
    [
        "--steps 8 --overwrite",
        "--steps 8 --resume",
        "--resume --steps 8",
        "--resume some/folder --steps 8",
        "--steps 8",
    ],
)
def test_commands_to_go_on_with(monkeypatch, given):
    monkeypatch.setattr(sys, "argv", ["train_v3_precision.py", *given.split(), "--simulate"])
    assert terminal.resume_command() == "python train_v3_precision.py --steps 8 --simulate --resume"
    assert terminal.real_command() == "python train_v3_precision.py --steps 8 --overwrite"


def test_a_picture_is_never_worth_a_run(tmp_path, monkeypatch):
    entry = {"step": 1, "loss": None, "lr": 1e-3}
    (tmp_path / "finetuned_model_v3_precision").mkdir()
    warnings.simplefilter("error")  # the layout fits with whatever little there is
    if importlib.util.find_spec("matplotlib"):
        # One step without a finite loss and no validation is still a picture.
        assert outputs.draw_curves(tmp_path, [entry], 3, None, False) is None
        assert outputs.draw_curves(tmp_path, [entry | {"loss": 1.0}], 3, {"loss": 2.0, "term": 1.0}, True) is None
        assert "没有画成" in outputs.draw_curves(tmp_path / "nowhere", [entry], 3, None, False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install matplotlib" in outputs.draw_curves(tmp_path, [entry], 3, None, False)


def test_a_simulation_is_told_from_a_real_run_by_every_mark(tmp_path):
    for simulated in (True, False):
        output = tmp_path / str(simulated)
        mark = {"simulated": True} if simulated else {}
        snapshot = checkpoint.Snapshot(1, {}, mark, {}, {}, {"step": 1}, [], simulated)
        checkpoint.save(output / "checkpoints_v3_precision", "step_1", snapshot)
        assert outputs.is_simulated(output) is simulated
        checkpoint.prune(output / "checkpoints_v3_precision", 1)
        assert checkpoint.load(output / "checkpoints_v3_precision" / "step_1").simulated is simulated
    (output / "adapters_v3_precision").mkdir()
    (tmp_path / "True" / "adapters_v3_precision").mkdir()
    (tmp_path / "True" / "adapters_v3_precision" / "adapter_config.json").write_text("{")
    # What cannot be read may be real.
    assert not outputs.is_simulated(tmp_path / "True")


def test_checkpoints_without_the_calls_that_windows_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(folders.sys, "platform", "win32")
    for name in ("pread", "pwrite", "copy_file_range"):
        monkeypatch.delattr(folders.os, name, raising=False)
    for name in ("step_1", "step_1", "step_2"):  # the second takes the place of the first
        snapshot = checkpoint.Snapshot(int(name[-1]), {}, {}, {}, {}, {"step": int(name[-1])}, [{"step": 1}])
        path = checkpoint.save(tmp_path / "checkpoints_v3_precision", name, snapshot)
    assert checkpoint.load(path).history == [{"step": 1}]
    settings = TrainConfig(output_dir=str(tmp_path), resume="newest")
    outputs.prepare(settings, False)
    outputs.publish(tmp_path, path, [{"step": 1}])
    assert (tmp_path / "adapters_v3_precision/adapters.safetensors").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_log_that_cannot_be_written_ends_no_run(tmp_path, capsys):
    (tmp_path / "full").symlink_to("/dev/full")
    journal = Journal()
    journal.open(tmp_path)
    journal._file.close()
    journal._file = open(tmp_path / "full", "w", buffering=1)  # noqa: SIM115
    journal.say("一")
    journal.say("二")
    journal.close()
    said = capsys.readouterr().out
    assert said.count("日志写不下去了") == 1 and "二" in said
