"""fuse_v3_model.py as a person runs it: defaults, refusals, replacing, and being killed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fuse_v3_model
from precision_lora.base_folder import read_base
from precision_lora.errors import UserError
from precision_lora.folders import gigabytes
from precision_lora.safetensors_io import read_float32
from tests import model_folders as made

PROJECT = Path(__file__).resolve().parent.parent
SCRIPT = PROJECT / "fuse_v3_model.py"
QUICK = "--no-model-check"


def run(home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(
        command, cwd=home, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, timeout=300
    )


def run_altered(home: Path, alteration: str) -> subprocess.CompletedProcess[str]:
    """A quick run in a process where ``alteration`` has replaced something of ``folders`` or ``fusing``."""
    code = (
        f"import runpy, sys\nfrom precision_lora import folders, fusing\n{alteration}\n"
        f"sys.argv = ['fuse_v3_model.py', '{QUICK}']\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(PROJECT)}
    return subprocess.run([sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with LM Studio's base model and an adapter in the working folder."""
    config = made.vl_config()
    base = tmp_path / ".lmstudio" / "models" / "local" / "Qwen3-VL-30B-Medical-V2-Fused"
    base.parent.mkdir(parents=True)
    made.write_base(base, config, shard_bytes=50_000)
    made.write_adapter(tmp_path / "adapters_v3_precision", config, ("q_proj", "v_proj"), relative=0.1)
    return tmp_path


def local(home: Path) -> Path:
    return home / ".lmstudio" / "models" / "local"


def fused(home: Path) -> Path:
    return local(home) / "Qwen3-VL-30B-Medical-V3-Precision"


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_defaults_with_proof_record_and_card(home: Path) -> None:
    pytest.importorskip("mlx_lm")
    (home / "finetuned_model_v3_precision").mkdir()
    settings = {"steps": 5200, "lora_rank": 128, "precision_weight": 2.0}
    (home / "finetuned_model_v3_precision" / "training_config.json").write_text(json.dumps(settings))
    result = run(home)
    assert result.returncode == 0, result.stderr
    assert "重启LM Studio" in result.stdout and "检查通过" in result.stdout
    record = json.loads((fused(home) / "fuse.json").read_text())
    files = digest(fused(home))
    assert all(files[name] == value for name, value in record["result"]["sha256"].items())
    assert set(record["result"]["sha256"]) >= {name for name in files if name.endswith(".safetensors")}
    base = digest(local(home) / "Qwen3-VL-30B-Medical-V2-Fused")
    assert all(base[name] == value for name, value in record["base"]["sha256"].items())
    adapter = digest(home / "adapters_v3_precision")
    assert record["adapter"]["sha256"] == adapter
    assert record["effect"]["relative"] > 0 and record["result"]["mlx_lm_strict"] is True
    card = (fused(home) / "README.md").read_text()
    assert "5200" in card and "Qwen3-VL-30B-Medical-V2-Fused" in card and "不能代替医生" in card
    assert {path.name for path in local(home).iterdir()} == {"Qwen3-VL-30B-Medical-V2-Fused", fused(home).name}


def test_auto_keeps_the_training_on_a_4_bit_base(home: Path) -> None:
    load_model = pytest.importorskip("mlx_lm.utils").load_model
    config = made.vl_config(layers=3)
    base = made.write_base(home / "b4", config, bits=4)
    made.write_adapter(home / "a4", config, ("q_proj", "k_proj", "v_proj", "o_proj"), relative=0.01)
    result = run(home, "--base-model", base, "--adapter-path", "a4", "--output", "out")
    assert result.returncode == 0, result.stderr
    effect = json.loads((home / "out" / "fuse.json").read_text())["effect"]
    assert effect["remaining"] <= 0.05 < effect["candidates"]["same"]
    assert "← 选用" in result.stdout and "与基础模型相同的位数" in result.stdout
    load_model(home / "out", strict=True)


def test_a_fused_folder_is_a_base_again(home: Path) -> None:
    (local(home) / "Qwen3-VL-30B-Medical-V2-Fused" / "README.md").write_text("旧的说明")
    assert run(home, QUICK).returncode == 0
    result = run(home, QUICK, "--base-model", fused(home), "--output", "again")
    assert result.returncode == 0, result.stderr
    assert digest(home / "again").keys() == digest(fused(home)).keys()
    assert (home / "again" / "README.base.md").read_text() == (fused(home) / "README.md").read_text()
    record = json.loads((home / "again" / "fuse.json").read_text())
    assert record["base"]["name"] == fused(home).name
    assert "fuse.json" not in {**record["base"]["sha256"], **record["result"]["sha256"]}


def test_moved_lmstudio_home(home: Path) -> None:
    moved = home / "disk" / "lmstudio"
    moved.parent.mkdir()
    (home / ".lmstudio").rename(moved)
    (home / ".lmstudio-home-pointer").write_text(str(moved))
    result = run(home, QUICK)
    assert result.returncode == 0, result.stderr
    assert (moved / "models" / "local" / "Qwen3-VL-30B-Medical-V3-Precision" / "config.json").is_file()
    assert not (home / ".lmstudio").exists()


def test_dry_run_writes_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    result = run(home, "--dry-run", QUICK)
    assert result.returncode == 0, result.stderr
    assert "需要空间" in result.stdout and "改动 4 个权重" in result.stdout and "没有写任何文件" in result.stdout
    assert sorted(home.rglob("*")) == before


def test_dry_run_prints_the_bases_own_size(home: Path) -> None:
    pytest.importorskip("mlx_lm")
    base = made.write_base(home / "b4", made.vl_config(), bits=4)
    size = gigabytes((base / "model.safetensors").stat().st_size)
    result = run(home, QUICK, "--dry-run", "--base-model", base, "--output", "out", "--dequantize")
    assert result.returncode == 0, result.stderr
    assert f"（1 个权重文件，{size}）" in result.stdout and "不起作用" not in result.stdout


@pytest.mark.parametrize("flags", [("--dequantize",), ("--touched-precision", "8bit")])
def test_flags_for_quantised_weights_on_a_plain_base(home: Path, flags: tuple[str, ...]) -> None:
    result = run(home, QUICK, *flags)
    assert result.returncode == 0, result.stderr
    assert f"{' '.join(flags)} 不起作用" in result.stdout
    assert json.loads((fused(home) / "fuse.json").read_text())["touched_precision"] == "same"


@pytest.mark.parametrize("config", [None, [], {"steps": 7}])
def test_training_settings_in_any_shape(tmp_path: Path, config: object) -> None:
    (tmp_path / "finetuned_model_v3_precision").mkdir()
    path = tmp_path / "finetuned_model_v3_precision" / "training_config.json"
    path.write_text(json.dumps({"steps": 5, "config": config}))
    training = fuse_v3_model.read_training(tmp_path / "adapters")
    assert training is not None and training["steps"] == (7 if config else 5)


def test_existing_output_needs_force(home: Path) -> None:
    fused(home).mkdir()
    (fused(home) / "config.json").write_text("old")
    refused = run(home, QUICK)
    assert refused.returncode == 2 and "--force" in refused.stderr
    assert (fused(home) / "config.json").read_text() == "old"
    assert run(home, QUICK, "--force").returncode == 0
    assert read_base(fused(home)).tensors
    assert len(list(local(home).iterdir())) == 2


def test_old_model_stays_where_the_new_one_fails(home: Path) -> None:
    assert run(home, QUICK).returncode == 0
    before = digest(fused(home))
    path = home / "adapters_v3_precision" / "adapters.safetensors"
    data = bytearray(path.read_bytes())
    data[-4:] = np.float32("inf").tobytes()
    path.write_bytes(data)
    result = run(home, QUICK, "--force")
    assert result.returncode == 2 and "无穷大" in result.stderr
    assert digest(fused(home)) == before
    assert len(list(local(home).iterdir())) == 2


@pytest.mark.parametrize(
    ("output", "word"),
    [
        (".lmstudio/models/local/Qwen3-VL-30B-Medical-V2-Fused", "就是基础模型"),
        (".lmstudio/models/local/Qwen3-VL-30B-Medical-V2-Fused/fused", "里面"),
        (".lmstudio/models", "包含"),
        ("adapters_v3_precision", "包含"),
        ("file", "是一个文件"),
        ("file/folder/out", "在一个文件里面"),
    ],
)
def test_outputs_that_would_destroy_something(home: Path, output: str, word: str) -> None:
    (home / "file").write_text("x")
    before = digest(home)
    result = run(home, QUICK, "--force", "--output", output)
    assert result.returncode == 2 and word in result.stderr
    assert digest(home) == before


def test_linked_output_keeps_its_link(home: Path) -> None:
    (home / "big-disk").mkdir()
    fused(home).symlink_to(home / "big-disk", target_is_directory=True)
    assert run(home, QUICK, "--force").returncode == 0
    assert fused(home).is_symlink() and (home / "big-disk" / "config.json").is_file()


def test_missing_base_names_the_guides_ways_out(home: Path) -> None:
    result = run(home, "--base-model", "~/nowhere/Qwen3-VL-30B-Medical-V2-Fused")
    assert result.returncode == 2
    assert f"❌ 基础模型不存在: {home}/nowhere/Qwen3-VL-30B-Medical-V2-Fused" in result.stderr
    assert "方案1" in result.stderr and "方案2" in result.stderr and "Traceback" not in result.stderr


def test_contradicting_flags(home: Path) -> None:
    result = run(home, "--dequantize", "--touched-precision", "8bit")
    assert result.returncode == 2 and "--touched-precision" in result.stderr


def test_simulated_adapter(home: Path) -> None:
    path = home / "adapters_v3_precision" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "simulated": True}))
    result = run(home)
    assert result.returncode == 2 and "模拟" in result.stderr and not fused(home).exists()


def test_folder_without_write_permission(home: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (home / "shut").mkdir(mode=0o500)
    result = run(home, QUICK, "--output", "shut/out")
    assert result.returncode == 2 and "没有写入权限" in result.stderr


def test_output_that_cannot_be_written_is_refused_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only disk, where not even root may write."""
    monkeypatch.setattr(os, "access", lambda path, _: path != home / "disk")
    (home / "disk").mkdir()
    args = fuse_v3_model.parse([])
    fuse_v3_model.check_request(args, home / "base", home / "adapter", home / "out")
    with pytest.raises(UserError, match=f"不能写入: {home}/disk"):
        fuse_v3_model.check_request(args, home / "base", home / "adapter", home / "disk" / "new" / "out")


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "磁盘已满"), (errno.EIO, "Input/output error")])
def test_disk_that_fails_while_writing(home: Path, number: int, words: str) -> None:
    """A write that fails half-way is one line, and leaves nothing behind."""
    result = run_altered(
        home, f"import os\ndef fail(*_): raise OSError({number}, os.strerror({number}))\nfusing.write_rows = fail"
    )
    assert result.returncode == 2 and words in result.stderr and "Traceback" not in result.stderr
    assert len(list(local(home).iterdir())) == 1


def test_leftovers_go_before_space_is_counted(home: Path) -> None:
    (local(home) / f".{fused(home).name}.fusing").mkdir()
    seen = "print('free with', sorted(path.name for path in folder.iterdir()))"
    result = run_altered(home, f"def count(folder, needed): {seen}\nfolders.require_space = count")
    assert result.returncode == 0, result.stderr
    assert "free with ['Qwen3-VL-30B-Medical-V2-Fused']" in result.stdout


def test_interrupting_leaves_nothing(home: Path) -> None:
    result = run_altered(home, "def stop(*_): raise KeyboardInterrupt\nfusing.write_rows = stop")
    assert result.returncode == 130
    assert len(list(local(home).iterdir())) == 1


def test_twenty_kills(home: Path) -> None:
    """Killed at random moments: the final name holds nothing, the old model or a proven new one, each of them whole."""
    config = made.vl_config(layers=6, hidden=256, experts=16, moe=128)
    base = made.write_base(home / "base", config, dtype="F32", shard_bytes=4 << 20)
    versions = {}
    for name, scale in (("one", 1.0), ("two", 3.0)):
        made.write_adapter(home / name, config, ("q_proj", "switch_mlp.up_proj"), scale=scale, seed=int(scale))
        assert (
            run(home, QUICK, "--base-model", base, "--adapter-path", name, "--output", f"{name}-fused").returncode == 0
        )
        versions[name] = weights_digest(home / f"{name}-fused")
    command = [sys.executable, str(SCRIPT), QUICK, "--force", "--base-model", str(base), "--output", "out"]
    begun = time.monotonic()
    subprocess.run([*command, "--adapter-path", "one"], cwd=home, check=True, capture_output=True)
    duration = time.monotonic() - begun
    subprocess.run(["rm", "-r", "out"], cwd=home, check=True)
    chance = random.Random(0)
    seen = []
    for attempt in range(20):
        if attempt == 10:
            subprocess.run([*command, "--adapter-path", "one"], cwd=home, check=True, capture_output=True)
        adapter = "two" if attempt >= 10 else "one"
        process = subprocess.Popen(
            [*command, "--adapter-path", adapter], cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=chance.uniform(0.2, 1.1) * duration)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        found = weights_digest(home / "out") if (home / "out").exists() else None
        assert found in ({None: "nothing", **{v: k for k, v in versions.items()}}), f"attempt {attempt}"
        seen.append(found)
        if attempt >= 10:
            assert found is not None
    assert subprocess.run([*command, "--adapter-path", "two"], cwd=home, capture_output=True).returncode == 0
    assert weights_digest(home / "out") == versions["two"]
    assert not [path.name for path in home.iterdir() if path.name.startswith(".out")]


def weights_digest(folder: Path) -> str:
    """Of all files but the record, which holds the time, and the card, which names the folder."""
    return str(sorted((k, v) for k, v in digest(folder).items() if k not in ("fuse.json", "README.md")))


def test_merged_values_reach_the_disk(home: Path) -> None:
    assert run(home, QUICK).returncode == 0
    base = read_base(local(home) / "Qwen3-VL-30B-Medical-V2-Fused").tensors
    out = read_base(fused(home)).tensors
    name = "language_model.model.layers.1.self_attn.q_proj.weight"
    moved = read_float32(out[name]) - read_float32(base[name])
    # The adapter was made to change each weight by 10 % of its norm.
    assert np.linalg.norm(moved) / np.linalg.norm(read_float32(base[name])) == pytest.approx(0.1, rel=0.1)
