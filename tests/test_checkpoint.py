"""Checkpoints: there whole or not at all, verified, pruned; one run at a time; a full disk keeps the old ones."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from precision_lora import checkpoint as cp
from precision_lora.errors import UserError


def snapshot(step: int, size: int = 6, best: int | None = None) -> cp.Snapshot:
    values = {"m.lora_a": np.arange(size, dtype=np.float32).reshape(2, -1) + step, "m.lora_b": np.full(3, 0.5, "f4")}
    return cp.Snapshot(
        step=step,
        adapter=values,
        adapter_config={"fine_tune_type": "lora"},
        first={k: v * 2 for k, v in values.items()},
        second={k: v * 3 for k, v in values.items()},
        state={"step": step, "best": None if best is None else {"step": best, "loss": 1.0}},
        history=[{"step": n + 1, "loss": 0.1 * n} for n in range(step)],
    )


def test_saved_and_loaded_back_exactly(tmp_path):
    saved = snapshot(4)
    path = cp.save(tmp_path, "step_4", saved)
    loaded = cp.load(path)
    assert (loaded.step, loaded.state, loaded.history) == (4, saved.state, saved.history)
    for before, after in ((saved.adapter, loaded.adapter), (saved.first, loaded.first), (saved.second, loaded.second)):
        assert before.keys() == after.keys()
        for name in before:
            assert after[name].dtype == np.float32
            np.testing.assert_array_equal(after[name], before[name])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_4"]  # no leftovers


def test_the_same_state_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        cp.save(tmp_path / folder, "step_4", snapshot(4))
    for name in ("adapters.safetensors", "optimizer.safetensors", "manifest.json"):
        assert (tmp_path / "a/step_4" / name).read_bytes() == (tmp_path / "b/step_4" / name).read_bytes()


def test_safetensors_that_the_library_reads(tmp_path):
    tensors = {"b": np.ones((2, 3), "f4"), "a": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3))}
    cp.write_tensors(tmp_path / "x.safetensors", tensors, {"format": "mlx"})
    loaded = load_file(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(loaded["a"], [[0, 1, 2], [3, 4, 5]])
    assert loaded["b"].shape == (2, 3)


@pytest.mark.parametrize("name", ["adapters.safetensors", "optimizer.safetensors", "history.json", "state.json"])
@pytest.mark.parametrize("how", ["cut", "altered", "gone"])
def test_a_damaged_newest_one_is_named_and_the_previous_used(tmp_path, name, how):
    cp.save(tmp_path, "step_2", snapshot(2))
    file = cp.save(tmp_path, "step_10", snapshot(10)) / name
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[:-1])
    else:
        content[-3] ^= 1
        file.write_bytes(content)
    said: list[str] = []
    found = cp.newest_sound(tmp_path, said.append)
    assert found is not None and found.step == 2
    assert len(said) == 1 and str(file) in said[0]


def test_a_damaged_manifest_or_none_at_all(tmp_path):
    path = cp.save(tmp_path, "step_2", snapshot(2))
    (path / "manifest.json").write_text("{")
    assert cp.newest_sound(tmp_path, lambda _: None) is None
    assert cp.newest_sound(tmp_path / "nowhere", lambda _: None) is None


def test_order_is_by_number_and_strangers_are_left_alone(tmp_path):
    for step in (1000, 200, 30):
        cp.save(tmp_path, f"step_{step}", snapshot(1))
    (tmp_path / "step_old").mkdir()
    assert [p.name for p in cp.checkpoints(tmp_path)] == ["step_30", "step_200", "step_1000"]


def test_retention_keeps_full_state_for_the_newest(tmp_path):
    for step in (1, 2, 3):
        cp.save(tmp_path, f"step_{step}", snapshot(step))
    cp.prune(tmp_path, keep=2)
    old = tmp_path / "step_1"
    assert sorted(p.name for p in old.iterdir()) == [
        "adapter_config.json",
        "adapters.safetensors",
        "manifest.json",
        "state.json",
    ]
    with pytest.raises(cp.Damaged, match="adapter"):
        cp.load(old)
    assert cp.load(tmp_path / "step_2").step == 2
    # A pruned one's manifest still vouches for what is left.
    assert set(json.loads((old / "manifest.json").read_text())["files"]) == {
        "adapter_config.json",
        "adapters.safetensors",
        "state.json",
    }


def test_best_adapters_stay_while_a_full_checkpoint_names_them(tmp_path):
    cp.save(tmp_path, "best_step_1", snapshot(1), adapter_only=True)
    cp.save(tmp_path, "step_2", snapshot(2, best=1))
    cp.save(tmp_path, "best_step_3", snapshot(3), adapter_only=True)
    cp.save(tmp_path, "step_4", snapshot(4, best=3))
    cp.prune(tmp_path, keep=2)
    assert {p.name for p in tmp_path.glob("best_*")} == {"best_step_1", "best_step_3"}
    cp.prune(tmp_path, keep=1)
    assert {p.name for p in tmp_path.glob("best_*")} == {"best_step_3"}


def test_saving_again_replaces_in_one_step(tmp_path):
    cp.save(tmp_path, "step_2", snapshot(2))
    cp.save(tmp_path, "step_2", snapshot(2, size=10))
    assert cp.load(tmp_path / "step_2").adapter["m.lora_a"].size == 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_2"]


def test_full_disk_ends_in_a_clear_line_and_keeps_the_old_ones(tmp_path):
    cp.save(tmp_path, "step_2", snapshot(2))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(UserError, match="检查点没有保存") as caught:
            cp.save(tmp_path, "step_4", snapshot(4, size=20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "--resume" in caught.value.render()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_2"]
    assert cp.load(tmp_path / "step_2").step == 2


def test_leftovers_of_an_interrupted_save_are_removed(tmp_path):
    cp.save(tmp_path, "step_2", snapshot(2))
    (tmp_path / ".step_4.tmp").mkdir()
    (tmp_path / ".step_4.tmp" / "adapters.safetensors").write_bytes(b"half")
    assert [p.name for p in cp.checkpoints(tmp_path)] == ["step_2"]
    cp.clean_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_2"]


def test_nan_never_reaches_a_file(tmp_path):
    with pytest.raises(ValueError):
        cp.history_text([{"loss": float("nan")}])
    assert json.loads(cp.history_text([])) == []
    assert json.loads(cp.history_text([{"a": 1}, {"a": "好"}])) == [{"a": 1}, {"a": "好"}]


def test_a_second_run_in_the_folder_is_refused(tmp_path):
    code = (
        "import sys; from pathlib import Path; from precision_lora.checkpoint import run_lock\n"
        "from precision_lora.errors import UserError\n"
        "try:\n"
        "    with run_lock(Path(sys.argv[1])): print('got it')\n"
        "except UserError as error: print(error.message)\n"
    )
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", code, str(tmp_path / "checkpoints")]
    with cp.run_lock(tmp_path / "checkpoints"):
        held = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert "另一个训练正在使用" in held.stdout
    free = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert free.stdout.strip() == "got it"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="不能写入"), cp.run_lock(tmp_path / "file" / "checkpoints"):
        pass
