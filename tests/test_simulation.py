"""The simulation: its arithmetic by hand and by finite differences, and the whole run on a machine without MLX."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from precision_lora import adapters, checkpoint, simulation, terminal
from precision_lora.batching import MicroBatch, micro_batches, plan, shapes
from precision_lora.config import TrainConfig, learning_rate
from precision_lora.dataset import encode
from precision_lora.engine import mean_nll
from precision_lora.errors import UserError
from precision_lora.journal import Journal
from precision_lora.phases import mean_weight, phases_for, weight_table
from precision_lora.rows import read_rows
from tests.tiny_tokenizer import tiny_tokenizer

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "train_v3_precision.py"
ANSWERS = [
    "理解您的担心。空腹血糖正常范围是3.9-6.1 mmol/L，建议复查。",
    "血压140/90 mmHg偏高，建议低盐饮食，三个月后复查。",
    "别太着急，先测一周血压再看。",
    "属于1级高血压，每日一次口服氨氯地平5mg。",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tokenizer, as a base model's folder has it, and data."""
    folder = tmp_path_factory.mktemp("simulation")
    tiny_tokenizer().save_pretrained(str(folder / "base"))
    (folder / "data").mkdir()
    for name, count in (("train", 11), ("valid", 4)):
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"我的血压{130 + n}/85要紧吗？"},
                    {"role": "assistant", "content": ANSWERS[n % 4] * (1 + n % 3)},
                ]
            }
            for n in range(count)
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "data" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(place):
    return encode(read_rows(place / "data" / "train.jsonl"), tiny_tokenizer(), 2048)


# --------------------------------------------------------------------------------------------------------------------
# Arithmetic


@pytest.fixture
def small(monkeypatch):
    """A model of 16 inputs and 5 classes in float64, with A and B away from zero, and 6 positions."""
    monkeypatch.setattr(simulation, "FEATURES", 16)
    rng = np.random.default_rng(7)
    model = simulation.Model(rng.normal(size=5), np.arange(4, dtype=np.int32), scale=1.5, dropout=0.0)
    parameters = {
        simulation.NAME_A: rng.normal(size=(16, 3)) * 0.3,
        simulation.NAME_B: rng.normal(size=(3, 5)) * 0.3,
    }
    features = rng.integers(0, 16, (6, simulation.ORDERS))  # inputs shared by positions, and twice within one
    batch = simulation.Batch(features, rng.integers(0, 5, 6), rng.uniform(0, 3, 6))
    return model, parameters, batch


@pytest.mark.parametrize("dropped", [False, True])
def test_gradients_are_those_of_finite_differences(small, dropped):
    model, parameters, batch = small
    kept = None
    if dropped:
        kept = np.where(np.random.default_rng(1).random(batch.features.shape) < 0.4, 0.0, 1 / 0.6)
    _, _, gradients = simulation.gradients_of(model, parameters, batch, kept)
    for name, values in parameters.items():
        assert np.abs(gradients[name]).max() > 0.1
        for at in np.ndindex(values.shape):
            plain = values[at]
            sides = []
            for step in (1e-5, -1e-5):
                values[at] = plain + step
                sides.append(simulation.gradients_of(model, parameters, batch, kept)[0])
            values[at] = plain
            assert gradients[name][at] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6, abs=1e-8), (name, at)


def test_losses_by_hand(small):
    model, parameters, batch = small
    # One position spelled out: x has its inputs set to sqrt(16 / 4) = 2, each as often as it occurs.
    x = np.zeros(16)
    for feature in batch.features[2]:
        x[feature] += 2.0
    logits = model.base + 1.5 * x @ parameters[simulation.NAME_A] @ parameters[simulation.NAME_B]
    expected = np.log(np.exp(logits).sum()) - logits[batch.classes[2]]
    losses = simulation.position_nll(model, parameters, batch)
    assert losses[2] == pytest.approx(expected)
    weighted, plain, _ = simulation.gradients_of(model, parameters, batch)
    assert plain == pytest.approx(losses.sum())
    assert weighted == pytest.approx((losses * batch.weights).sum())


def test_contexts_are_hashed_by_row_and_order():
    tokens = np.array([[5, 6, 7], [5, 6, 8], [9, 6, 8]], dtype=np.int32)
    features = simulation.features_of(tokens, np.array([1, 4, 7, 2, 5]))
    assert features.min() >= 0 and features.max() < simulation.FEATURES
    # Rows 0 and 1 begin alike, so the contexts behind 5 6 are the same, all the way back to the start of the row.
    np.testing.assert_array_equal(features[0], features[1])
    # 9 6 shares its last token alone with 5 6; 5 6 8 does not even share that with 5 6 7.
    assert (features[0] == features[2]).tolist() == [True, False, False, False]
    assert not (features[3] == features[4]).any()
    # The first token of a row sees nothing of the row before: 3 is row 1, column 0.
    np.testing.assert_array_equal(
        simulation.features_of(tokens, np.array([3])), simulation.features_of(tokens[:1], np.array([0]))
    )


def test_rare_and_unknown_tokens_share_the_last_class(data, monkeypatch):
    full = simulation.make_model(data, 1.0, 0.0)
    targets = data.tokens[data.supervised]
    assert len(full.base) == len(np.unique(targets)) + 1
    assert np.exp(full.base).sum() == pytest.approx(1.0, rel=1e-5)
    monkeypatch.setattr(simulation, "MAX_CLASSES", 8)
    model = simulation.make_model(data, 1.0, 0.0)
    ids, counts = np.unique(targets, return_counts=True)
    commonest = ids[np.argsort(-counts, kind="stable")][:7]
    assert simulation.class_of(model, commonest).tolist() == list(range(7))
    assert simulation.class_of(model, np.array([150_000])).tolist() == [7]
    rest = len(targets) - counts[np.argsort(-counts, kind="stable")][:7].sum()
    assert np.exp(model.base[7]) == pytest.approx((rest + 1) / (len(targets) + 8), rel=1e-5)


def stepping(data, **changes):
    """An engine on ``data``, and a function that takes one step of given rows cut into batches of given size."""
    settings = replace(TrainConfig(steps=40, batch_size=4, lr=1e-2, lora_rank=4, lora_scale=2.0), **changes)
    engine = simulation.make_engine(settings, data, None, Journal(silent=True))
    phase = phases_for(settings.steps)[0]
    table = weight_table(phase, settings.precision_weight, settings.empathy_weight)
    mean = mean_weight(table, data.kinds[data.supervised], data.weights[data.supervised])
    bounds = shapes(data.lengths)

    def one(state, rows, size, seed=0, scale=1.0):
        micros = micro_batches(data, np.asarray(rows), size, bounds, 0)
        batches = [engine.to_device(m, table * scale, mean * scale) for m in micros]
        return engine.take_step(state, batches, sum(m.supervised_tokens for m in micros), settings.lr, seed)

    return engine, one


def test_weights_mean_what_the_design_says(data):
    engine, one = stepping(data)
    table = weight_table(phases_for(40)[0], 2.0, 1.0)
    mean = mean_weight(table, data.kinds[data.supervised], data.weights[data.supervised])
    rows = [0, 3]
    micros = micro_batches(data, np.array(rows), 2, shapes(data.lengths), 0)
    # Untrained, the loss of a target is minus the log of its class's frequency.
    model = simulation.make_model(data, 2.0, 0.0)
    expected = count = plain = 0.0
    for row in rows:
        for at in range(data.offsets[row], data.offsets[row + 1]):
            if data.supervised[at]:
                ce = -float(model.base[model.classes[data.tokens[at]]])
                expected += table[data.kinds[at]] * data.weights[at] / mean * ce
                plain, count = plain + ce, count + 1
    assert count == sum(m.supervised_tokens for m in micros)
    _, result = one(engine.state, rows, 2)
    assert result.loss == pytest.approx(expected / count, rel=1e-5)
    assert result.nll == pytest.approx(plain / count, rel=1e-5)
    assert result.loss != pytest.approx(result.nll, rel=1e-2)


def test_how_a_step_is_cut_and_how_weights_are_scaled_changes_nothing(data):
    states = []
    for size, scale in ((4, 1.0), (2, 1.0), (1, 1.0), (4, 3.0)):
        engine, one = stepping(data)
        state = engine.state
        for seed in range(3):
            state, result = one(state, [1, 4, 5, 9], size, seed, scale)
        states.append((result, engine.tensors(state)))
    for result, tensors in states[1:]:
        assert result.loss == pytest.approx(states[0][0].loss, rel=1e-5)
        for name, values in tensors.adapter.items():
            np.testing.assert_allclose(values, states[0][1].adapter[name], rtol=2e-3, atol=2e-6)


def test_adamw_by_hand():
    p, g = np.array([1.0, -2.0]), np.array([0.5, 4.0])
    m, v = np.array([0.1, 0.2]), np.array([0.01, 0.04])
    simulation.adamw(p, g.copy(), m, v, factor=0.5, learning_rate=0.1, weight_decay=0.01, updates=3)
    first, second = 0.9 * np.array([0.1, 0.2]) + 0.1 * g / 2, 0.999 * np.array([0.01, 0.04]) + 0.001 * (g / 2) ** 2
    step = 0.1 * (first / (1 - 0.9**3)) / (np.sqrt(second / (1 - 0.999**3)) + 1e-8)
    np.testing.assert_allclose((m, v), (first, second))
    np.testing.assert_allclose(p, np.array([1.0, -2.0]) * (1 - 0.1 * 0.01) - step)


def test_adamw_agrees_with_mlx():
    mx = pytest.importorskip("mlx.core")
    from precision_lora import step as real

    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=(5, 3)).astype(np.float32) for _ in range(3)]
    second = np.abs(rng.normal(size=(5, 3))).astype(np.float32)
    state = real.TrainState({"w": mx.array(arrays[0])}, {"w": mx.array(arrays[2])}, {"w": mx.array(second)}, 4)
    theirs = real.adamw(state, {"w": mx.array(arrays[1])}, 1e-2, 0.01, mx.array(0.3))
    simulation.adamw(arrays[0], arrays[1].copy(), arrays[2], second, 0.3, 1e-2, 0.01, 5)
    np.testing.assert_allclose(arrays[0], np.array(theirs.parameters["w"]), rtol=1e-5)
    np.testing.assert_allclose(second, np.array(theirs.second["w"]), rtol=1e-5)


def test_clipping_bounds_the_first_update_and_nothing_is_applied_without_finite_numbers(data):
    engine, one = stepping(data, clip_grad_norm=1e-3)
    state, result = one(engine.state, [0, 1], 2)
    moments = engine.tensors(state).first.values()
    # The first moment is a tenth of the clipped gradient.
    assert np.sqrt(sum(float((m**2).sum()) for m in moments)) == pytest.approx(1e-4, rel=1e-2)
    assert result.grad_norm > 1e-2 and result.applied
    before = {name: values.copy() for name, values in engine.tensors(state).adapter.items()}
    engine.tensors(state).adapter[simulation.NAME_B][0, 0] = before[simulation.NAME_B][0, 0] = np.nan
    state, result = one(state, [2, 3], 2)
    assert not result.applied and engine.tensors(state).updates == 1
    for name, values in engine.tensors(state).adapter.items():
        np.testing.assert_array_equal(values, before[name])


def test_it_learns_every_kind(data):
    settings = TrainConfig(steps=60, batch_size=4, lr=1e-2, lora_rank=4, lora_scale=2.0)
    engine, one = stepping(data)
    bounds = shapes(data.lengths)
    held_out = [m for rows in plan(data.lengths, 4, 0, 0) for m in micro_batches(data, rows, 4, bounds, 0)]
    before, state, losses = engine.validate(engine.state, held_out), engine.state, []
    for index in range(settings.steps):
        steps = plan(data.lengths, 4, 0, index // 3)
        state, result = one(state, steps[index % 3], 4, index)
        losses.append(result.loss)
        assert learning_rate(index + 1, settings) > 0
    after = engine.validate(state, held_out)
    assert np.mean(losses[-6:]) < 0.7 * np.mean(losses[:6])
    assert {"term", "number", "treatment", "other"} <= before.keys()
    assert all(after[kind] < before[kind] for kind in before if kind != "tokens")


def test_dropout_follows_the_seed_alone(data):
    def after(seed):
        engine, one = stepping(data, lora_dropout=0.3)
        state, _ = one(engine.state, [0, 1], 2, seed)
        state, _ = one(state, [2, 3], 2, seed)
        return engine.tensors(state).adapter[simulation.NAME_B]

    np.testing.assert_array_equal(after(5), after(5))
    assert (after(5) != after(6)).any()


def test_mean_nll_by_hand():
    parts = [(np.array([1.0, 3.0]), np.array([1, 3], np.uint8)), (np.array([5.0]), np.array([0], np.uint8))]
    # 1: term; 3: term and number; 0: other.
    assert mean_nll(parts) == {"loss": 3.0, "term": 2.0, "number": 3.0, "other": 5.0, "tokens": 3}
    assert np.isnan(mean_nll([])["loss"])


def test_bars():
    lines = terminal.bars({"loss": 4.0, "term": 8.0, "number": 2.0}, {"loss": 2.0, "term": 8.0, "number": 4.0})
    assert [line.split()[0] for line in lines] == ["全部", "术语", "数值"]
    assert "█" * 5 + "░" * 5 + " " in lines[0] and lines[0].endswith("-50%")
    assert "█" * 20 in lines[1] and lines[1].endswith(" 0%")
    assert "█" * 5 + "▒" * 5 + " " in lines[2] and lines[2].endswith("+100%")


# --------------------------------------------------------------------------------------------------------------------
# The whole run, MLX made unimportable


@pytest.fixture(scope="module")
def no_mlx(tmp_path_factory):
    """A folder for PYTHONPATH: in a process that starts with it there is no MLX."""
    folder = tmp_path_factory.mktemp("no_mlx")
    lines = "import sys\nfor name in ('mlx', 'mlx_lm'): sys.modules[name] = None\n"
    (folder / "sitecustomize.py").write_text(lines)
    return folder


def words(place, output, *more):
    fixed = f"--base-model {place}/base --data {place}/data --output-dir {output} --yes --lr 1e-2 --lora-rank 4"
    sizes = "--steps 8 --save-every 2 --eval-every 4 --val-batches 1 --lora-dropout 0.1 --lora-scale 2"
    return [*fixed.split(), *sizes.split(), *more]


def run(arguments, path, script=SCRIPT, code=None, expected=0, **environment):
    command = [sys.executable, str(script)] if code is None else [sys.executable, "-c", code]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(place, no_mlx):
    """An uninterrupted run of 8 steps, and what it said."""
    said = run(words(place, place / "done"), no_mlx)
    return place / "done", said


def test_without_mlx_it_simulates_and_says_so(finished):
    _, said = finished
    assert "MLX未安装" in said and said.count("模拟模式适合测试流程，但不会真正训练") == 2
    assert "pip install mlx mlx-lm" in said and "--overwrite" in said
    assert "Traceback" not in said and "PyTorch" not in said
    assert not any(ord(c) < 32 and c != "\n" for c in said)  # a pipe gets no control characters


def test_every_file_is_marked(finished):
    output, _ = finished
    files = [p for p in output.rglob("*") if p.is_file() and ".tokens" not in p.parts and p.name != ".lock"]
    names = {p.name for p in files}
    assert {"adapters.safetensors", "optimizer.safetensors", "training_curves.png", "README.md"} <= names
    for path in files:
        if path.name in ("metrics_history.json", "history.json"):
            entries = json.loads(path.read_text(encoding="utf-8"))
            assert entries and all(entry["simulated"] is True for entry in entries), path
        elif path.suffix == ".json":
            assert json.loads(path.read_text(encoding="utf-8"))["simulated"] is True, path
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                assert file.metadata()["simulated"] == "true", path
        elif path.suffix == ".png":
            assert b"Simulated\x00true" in path.read_bytes()
        elif path.name == "README.md":
            assert "simulated: true" in path.read_text(encoding="utf-8").split("---")[1]
        else:
            assert path.suffix == ".log" and "模拟模式" in path.read_text(encoding="utf-8"), path


def outcome(output):
    """What must not depend on interruptions."""
    metrics = json.loads((output / "finetuned_model_v3_precision/metrics_history.json").read_text())
    for entry in metrics:
        assert entry.pop("seconds") >= 0
    last = output / "checkpoints_v3_precision/step_8"
    return (
        (output / "adapters_v3_precision/adapters.safetensors").read_bytes(),
        (last / "optimizer.safetensors").read_bytes(),
        {k: v for k, v in json.loads((last / "state.json").read_text()).items() if k != "config"},
        metrics,
    )


@pytest.mark.parametrize("after", [3, 6])
def test_killed_and_resumed_it_ends_with_the_same_bytes(place, no_mlx, finished, tmp_path, after):
    code = (
        "import os, runpy, sys; from precision_lora import simulation as s\n"
        "plain, calls = s.take_step, []\n"
        "def dying(*a, **k):\n"
        "    calls.append(1)\n"
        f"    if len(calls) == {after + 1}: os.kill(os.getpid(), 9)\n"
        "    return plain(*a, **k)\n"
        "s.take_step = dying\n"
        f"sys.argv[0] = {str(SCRIPT)!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    run(words(place, tmp_path / "out"), no_mlx, code=code, expected=-signal.SIGKILL)
    said = run(words(place, tmp_path / "out", "--resume"), no_mlx)
    assert f"step_{after // 2 * 2}" in said
    assert outcome(tmp_path / "out") == outcome(finished[0])


def test_the_flag_gives_the_same_run(place, no_mlx, finished):
    # Where MLX is, too: nothing of it is imported.
    output = place / "asked"
    said = run(words(place, output, "--simulate"), place)
    assert "--simulate" in said and "MLX未安装" not in said
    assert outcome(output) == outcome(finished[0])


def test_a_base_that_is_not_there_gives_way_to_the_demo_tokenizer(place, no_mlx, tmp_path):
    arguments = [a.replace(f"{place}/base", "/nowhere/V2-Fused") for a in words(place, tmp_path / "out")]
    said = run(arguments, no_mlx)
    assert "基础模型不存在: /nowhere/V2-Fused" in said and "demo/base" in said
    record = json.loads((tmp_path / "out/finetuned_model_v3_precision/training_config.json").read_text())
    assert record["base"]["path"] == str(ROOT / "demo" / "base")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {"mlx/__init__.py": "", "mlx/core.py": "raise ImportError('libmlx.so: cannot open')"},
            "libmlx.so: cannot open",
        ),
        ({"mlx/__init__.py": ""}, "mlx.core"),
        ({"mlx/__init__.py": "", "mlx/core.py": "", "mlx_lm.py": "import mlx_lm_gone"}, "mlx_lm_gone"),
        (
            {"mlx/__init__.py": "", "mlx/core.py": "", "sitecustomize.py": "import sys; sys.modules['mlx_lm'] = None"},
            "mlx-lm",
        ),
    ],
)
def test_a_broken_mlx_is_named_and_never_simulated_over(place, tmp_path, files, reason):
    for name, text in files.items():
        (tmp_path / "broken" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "broken" / name).write_text(text)
    said = run(words(place, tmp_path / "out"), tmp_path / "broken", expected=2)
    assert reason in said and "MLX已安装，但" in said and "解决:" in said and "--simulate" in said
    assert "Traceback" not in said and not (tmp_path / "out").exists()


def test_a_module_that_says_there_is_no_mlx_counts_as_none(place, tmp_path):
    (tmp_path / "stub" / "mlx").mkdir(parents=True)
    (tmp_path / "stub" / "mlx" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'mlx'\", name='mlx')"
    )
    assert "MLX未安装" in run(words(place, tmp_path / "out"), tmp_path / "stub")


def test_evaluate_and_fuse_refuse_the_adapter(no_mlx, finished, tmp_path):
    adapter = finished[0] / "adapters_v3_precision"
    for script, flags in (
        ("evaluate_v3_model.py", ["--output-dir", tmp_path]),
        ("fuse_v3_model.py", ["--output", tmp_path / "fused"]),
    ):
        arguments = ["--base-model", ROOT / "demo" / "base", "--adapter-path", adapter, *flags]
        said = run(arguments, no_mlx, script=ROOT / script, expected=2)
        (line,) = [line for line in said.splitlines() if line.startswith("❌")]
        assert "模拟" in line and str(adapter) in line
    with pytest.raises(UserError, match="模拟"):
        adapters.read_adapter(adapter, "融合")


def test_a_simulated_and_a_real_run_never_continue_each_other(place, no_mlx, finished, tmp_path):
    # A run that looks real in every respect but the mark.
    output = tmp_path / "real"
    newest = checkpoint.load(finished[0] / "checkpoints_v3_precision/step_8")
    state = {k: v for k, v in newest.state.items() if k != "simulated"}
    config = {k: v for k, v in newest.adapter_config.items() if k != "simulated"}
    real = replace(newest, state=state, adapter_config=config, simulated=False)
    checkpoint.save(output / "checkpoints_v3_precision", "step_8", real)
    for flag in ("--resume", "--overwrite"):
        said = run(words(place, output, flag), no_mlx, expected=2)
        assert "真正训练" in said and "--output-dir" in said
    named = [f"--resume={output}/checkpoints_v3_precision/step_8"]
    said = run(words(place, tmp_path / "other", *named), no_mlx, expected=2)
    assert "不能用模拟接着做" in said
    assert checkpoint.load(output / "checkpoints_v3_precision/step_8").step == 8


def test_a_picture_that_cannot_be_drawn_is_said_once_and_stops_nothing(place, no_mlx, tmp_path):
    (tmp_path / "without" / "matplotlib").mkdir(parents=True)
    (tmp_path / "without" / "matplotlib" / "__init__.py").write_text("raise ImportError('gone')")
    path = f"{tmp_path / 'without'}{os.pathsep}{no_mlx}"
    said = run(words(place, tmp_path / "out"), path)
    assert said.count("pip install matplotlib") == 1
    assert not (tmp_path / "out/finetuned_model_v3_precision/training_curves.png").exists()


def test_the_engine_takes_empty_rows(data):
    micro = micro_batches(data, np.array([0]), 3, shapes(data.lengths), 0)[0]
    assert isinstance(micro, MicroBatch) and micro.rows.tolist() == [0, -1, -1]
    engine, _ = stepping(data)
    alone = micro_batches(data, np.array([0]), 1, shapes(data.lengths), 0)
    assert engine.validate(engine.state, [micro]) == engine.validate(engine.state, alone)
