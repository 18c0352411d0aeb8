"""What is wrong with a training run's input is said in one line with its fix, exit code 2, and nothing is written."""

import collections
import json
import shutil
import signal
import sys

import pytest

pytest.importorskip("mlx.core")

import train_v3_precision as script
from precision_lora.blas import MARK
from precision_lora.errors import run_main
from tests import tiny

ROW = {"messages": [{"role": "user", "content": "血压140/90？"}, {"role": "assistant", "content": "偏高，建议复查。"}]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    config = {**tiny.LLAMA, "vocab_size": tiny.TOKENIZER_VOCABULARY, "eos_token_id": 1}
    tiny.save(tiny.build(config), config, folder)
    tiny.save_tokenizer(folder)
    return folder


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("train", "valid"):
        write(tmp_path / f"data/{name}.jsonl", ROW, ROW, ROW)
    return tmp_path / "data"


def write(path, *rows):
    text = "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def refused(base, data, tmp_path, monkeypatch, capsys):
    """Runs the script with more flags; the error's text, after a check that it is one and that nothing was written."""

    def run(*flags, output=tmp_path / "out"):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        words = f"--base-model {base} --data {data} --output-dir {output} --steps 4 --lora-rank 4 --yes".split()
        monkeypatch.setattr(sys, "argv", ["train_v3_precision.py", *words, *map(str, flags)])
        monkeypatch.setenv(MARK, "1")
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        assert run_main(script.main) == 2
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        said = capsys.readouterr().err
        assert said.count("❌") == 1 and "\n解决:\n   " in said
        return said

    return run


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--steps", "0"], "--steps 0: 要不小于 1"),
        (["--steps", "-5"], "--steps -5: 要不小于 1"),
        (["--steps", "many"], "--steps many: 要一个整数"),
        (["--batch-size", "0", "--lr", "nan"], "--batch-size 0: 要不小于 1\n   · --lr nan"),
        (["--report-to", "tensorboard"], "--report-to tensorboard: 只能是 swanlab、wandb"),
    ],
)
def test_settings(refused, flags, part):
    said = refused(*flags)
    # In whichever order the settings are listed.
    assert all(line.strip(" ·") in said for line in part.splitlines())


@pytest.mark.parametrize("place", ["", "adapters_v3_precision", "checkpoints_v3_precision", "logs"])
def test_a_file_where_a_folder_must_be(refused, tmp_path, place):
    output = tmp_path / "out"
    blocked = output / place
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("mine")
    assert f"输出文件夹是一个文件: {blocked}" in refused()
    assert blocked.read_text() == "mine"


def test_a_file_above_the_output_folder(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert f"输出文件夹是一个文件: {tmp_path}/file" in refused(output=tmp_path / "file/deeper/out")


def test_a_folder_that_may_not_be_written(refused, tmp_path, monkeypatch):
    # The superuser may write anywhere, so the system's answer is given here.
    monkeypatch.setattr("os.access", lambda path, *_: str(path) != str(tmp_path))
    assert f"输出文件夹不能写入: {tmp_path}（没有权限）" in refused()


def test_a_disk_that_is_too_small_names_what_it_lacks_and_flags_that_help(refused, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 10**6, 10**6))
    said = refused()
    assert "磁盘空间不足" in said and all(flag in said for flag in ("--save-every", "--lora-rank", "--output-dir"))


@pytest.mark.parametrize("name", ["train.jsonl", "valid.jsonl"])
def test_data_that_is_missing_or_empty(refused, data, name):
    (data / name).write_text("")
    assert f"数据文件是空的: {data / name}" in refused()
    (data / name).write_text("\n  \n")
    assert f"数据文件是空的: {data / name}" in refused()
    (data / name).unlink()
    assert f"无法读取数据文件: {data / name}" in refused()


def test_a_data_folder_that_is_missing_or_a_file(refused, data, tmp_path):
    assert f"{tmp_path}/nowhere/train.jsonl" in refused("--data", tmp_path / "nowhere")
    assert f"{data}/train.jsonl/train.jsonl" in refused("--data", data / "train.jsonl")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"messages": [', "不是有效的JSON"),
        ("[1, 2]", "应为JSON对象"),
        ('{"question": "q", "answer": "a"}', "字段不对 (现有: question、answer)"),
        ('{"messages": [{"role": "user", "content": "q"}]}', "没有assistant回答"),
        ('{"messages": [{"role": "doctor", "content": "a"}]}', "messages[0].role"),
        ('{"messages": [], "weight": -1}', "weight"),
    ],
)
def test_a_line_that_is_no_row_is_named_by_file_and_line(refused, data, line, reason):
    write(data / "train.jsonl", ROW, ROW, line)
    said = refused()
    assert f"{data}/train.jsonl:3: " in said and reason in said


def test_all_bad_lines_are_counted_and_the_first_ones_listed(refused, data):
    write(data / "train.jsonl", *["{"] * 12, ROW)
    said = refused()
    assert "有 12 行无法用于训练" in said and "train.jsonl:8: " in said and "另有 4 行" in said


def test_a_missing_reporting_package(refused, monkeypatch):
    from mlx_lm.tuner import callbacks

    monkeypatch.setattr(callbacks, "wandb", None)
    said = refused("--report-to", "wandb")
    assert "--report-to wandb: 没有安装 wandb" in said and "pip install wandb" in said
