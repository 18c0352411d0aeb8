"""The training script as a person runs it, on a two-layer model: outputs, resuming after kills, refusals."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")

from mlx_lm import load as mlx_load  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

import train_v3_precision as script  # noqa: E402
from precision_lora import lora, mlx_engine, model  # noqa: E402
from precision_lora.blas import MARK  # noqa: E402
from precision_lora.errors import run_main  # noqa: E402
from tests import tiny  # noqa: E402

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
    """A folder with a tiny base model and data."""
    folder = tmp_path_factory.mktemp("train")
    config = {**tiny.LLAMA, "vocab_size": tiny.TOKENIZER_VOCABULARY, "eos_token_id": 1}
    tiny.save(tiny.build(config), config, folder / "base")
    tiny.save_tokenizer(folder / "base")
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


def words(place, output, *more):
    fixed = f"--base-model {place}/base --data {place}/data --output-dir {output} --yes --lr 1e-2 --lora-rank 4"
    sizes = "--steps 8 --save-every 2 --eval-every 4 --val-batches 1 --lora-dropout 0.1 --lora-scale 2"
    return [*fixed.split(), *sizes.split(), *more]


def start(arguments, code=None):
    command = [sys.executable, str(SCRIPT)] if code is None else [sys.executable, "-c", code]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, MARK: "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, expected=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == expected, out + err
    return out + err


def train(place, output, *more, expected=0):
    """A run inside this process, which spares the import of MLX; what it said."""
    arguments = ["train_v3_precision.py", *map(str, words(place, output, *more))]
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(out):
        patch.setattr(sys, "argv", arguments)
        patch.setenv(MARK, "1")
        patch.setattr(signal, "signal", lambda *_: None)
        code = run_main(script.main)
    assert code == expected, out.getvalue()
    return out.getvalue()


@pytest.fixture(scope="module")
def done(place):
    """An uninterrupted run of 8 steps."""
    train(place, place / "done")
    return place / "done"


def outcome(output):
    """What must not depend on interruptions: adapter bytes, moments bytes, history without the times."""
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


def test_outputs_of_a_run(place, done):
    names = {str(p.relative_to(done)) for p in done.rglob("*") if p.is_file() and "logs" not in p.parts}
    assert {
        "adapters_v3_precision/adapters.safetensors",
        "adapters_v3_precision/adapter_config.json",
        "finetuned_model_v3_precision/training_config.json",
        "finetuned_model_v3_precision/metrics_history.json",
        "finetuned_model_v3_precision/README.md",
        "checkpoints_v3_precision/step_8/optimizer.safetensors",
        "checkpoints_v3_precision/step_6/optimizer.safetensors",
        "checkpoints_v3_precision/step_2/adapters.safetensors",
    } <= names
    assert "checkpoints_v3_precision/step_4/optimizer.safetensors" not in names
    metrics = json.loads((done / "finetuned_model_v3_precision/metrics_history.json").read_text())
    assert [entry["step"] for entry in metrics] == list(range(1, 9))
    # 2000/5200 and 4000/5200 of 8 steps, rounded: 3 and 6.
    assert [entry["phase"] for entry in metrics] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert [entry["precision_weight"] for entry in metrics[::3]] == [3.0, 2.6, 2.0]
    assert {"loss", "nll", "lr", "empathy_weight", "grad_norm", "supervised_tokens", "seconds"} <= metrics[0].keys()
    assert [entry["step"] for entry in metrics if "valid" in entry] == [4, 8]
    assert {"loss", "number", "other"} <= metrics[3]["valid"].keys()
    assert metrics[-1]["nll"] < metrics[0]["nll"]
    record = json.loads((done / "finetuned_model_v3_precision/training_config.json").read_text())
    assert record["config"]["steps"] == 8 and record["data"]["train"]["rows"] == 11
    assert record["versions"]["mlx"] and record["result"]["final_loss"] == metrics[-1]["loss"]
    (log,) = (done / "logs").glob("training_v3_precision_*.log")
    text = log.read_text(encoding="utf-8")
    assert "步 8/8" in text and not any(ord(c) < 32 and c != "\n" for c in text)
    assert ANSWERS[0] not in text  # no patient's text in a log


def test_every_row_is_used_once_an_epoch(done):
    # 11 rows, 2 a step: 6 steps an epoch, one of them short; its supervised tokens are those of all rows.
    metrics = json.loads((done / "finetuned_model_v3_precision/metrics_history.json").read_text())
    record = json.loads((done / "finetuned_model_v3_precision/training_config.json").read_text())
    epoch = sum(entry["supervised_tokens"] for entry in metrics[:6])
    assert epoch == record["data"]["train"]["supervised_tokens"]


def test_the_adapter_gives_the_same_logits_through_mlx_lm(place, done):
    adapter = done / "adapters_v3_precision"
    theirs, _ = mlx_load(str(place / "base"), adapter_path=str(adapter))
    ours = model.load_base(str(place / "base"))
    lora.load_adapter(ours.model, adapter)
    tokens = mx.array([[5, 80, 33, 120, 7, 64]])
    base, _ = mlx_load(str(place / "base"))
    theirs.eval()
    np.testing.assert_allclose(np.array(ours.model(tokens)), np.array(theirs(tokens)), rtol=1e-4, atol=1e-5)
    assert mx.abs(theirs(tokens) - base(tokens)).max().item() > 1e-3
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["lora_parameters"]["keys"][0] == "model.layers.0.self_attn.k_proj"


def test_killed_at_any_moment_the_resumed_run_ends_the_same(place, done, tmp_path):
    """22 random moments of the loop, and 3 inside a checkpoint write below: 25 kills in all."""
    rng = np.random.default_rng(5)
    output, kills, runs = tmp_path / "0", 0, 0
    while kills < 22 and runs < 60:
        # The timer's signal ends the process where it is, as SIGKILL does: nobody handles it.
        code = (
            "import runpy, signal, sys; from precision_lora.journal import Journal as J\n"
            "plain = J.start_bar\n"
            "def armed(*a, **k):\n"
            f"    signal.setitimer(signal.ITIMER_REAL, {rng.uniform(0.002, 0.25)})\n"
            "    return plain(*a, **k)\n"
            "J.start_bar = armed\n"
            f"sys.argv[0] = {str(SCRIPT)!r}\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        process = start(words(place, output, "--resume"), code)
        process.communicate()
        runs += 1
        assert process.returncode in (0, -signal.SIGALRM)
        if process.returncode == 0:
            assert outcome(output) == outcome(done)
            output = tmp_path / str(runs)
            continue
        kills += 1
        # The pieces of a checkpoint are never there under its final name.
        for path in (output / "checkpoints_v3_precision").glob("step_*"):
            assert (path / "manifest.json").is_file()
    train(place, output, "--resume")
    assert kills == 22
    assert outcome(output) == outcome(done)


def test_a_compiled_step_that_was_killed_goes_on_with_the_same_bytes(place, tmp_path):
    """The runs above use dropout, with which the step is not compiled."""
    code = (
        "import os, sys; import train_v3_precision as script\n"
        "plain, calls = script.phase_at, []\n"
        "def dying(*a):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 6: os.kill(os.getpid(), 9)\n"
        "    return plain(*a)\n"
        "script.phase_at = dying\n"
        f"sys.argv[0] = {str(SCRIPT)!r}\n"
        "sys.exit(script.run_main(script.main))\n"
    )
    compiled = ("--lora-dropout", "0")
    finish(start(words(place, tmp_path / "killed", *compiled), code), expected=-signal.SIGKILL)
    train(place, tmp_path / "killed", *compiled, "--resume")
    train(place, tmp_path / "whole", *compiled)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("where", ["sync_tree", "publish", "prune"])
def test_killed_inside_a_checkpoint_write(place, done, tmp_path, where):
    # The second save of the run dies at this point of it.
    code = (
        "import os, runpy, sys; from precision_lora import checkpoint as c\n"
        f"plain, calls = c.{where}, []\n"
        "def dying(*a, **k):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2: os.kill(os.getpid(), 9)\n"
        "    return plain(*a, **k)\n"
        f"c.{where} = dying\n"
        f"sys.argv[0] = {str(SCRIPT)!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    finish(start(words(place, tmp_path / "out"), code), expected=-signal.SIGKILL)
    train(place, tmp_path / "out", "--resume")
    assert outcome(tmp_path / "out") == outcome(done)
    leftovers = [p.name for p in (tmp_path / "out/checkpoints_v3_precision").glob(".*") if p.name.startswith(".step")]
    assert leftovers == []


def test_a_rank_that_dies_ends_the_others(place, tmp_path):
    """The survivor waits in an exchange that never comes, where no Python signal handler would run."""
    launch = Path(sys.executable).with_name("mlx.launch")
    if not launch.is_file():
        pytest.skip("mlx.launch is not installed beside python")
    (tmp_path / "dying.py").write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import train_v3_precision as script\n"
        "plain, calls = script.phase_at, []\n"
        "def dying(*a):\n"
        "    calls.append(1)\n"
        "    if os.environ.get('MLX_RANK') == '1' and len(calls) == 3: os._exit(7)\n"
        "    return plain(*a)\n"
        "script.phase_at = dying\n"
        "sys.exit(script.run_main(script.main))\n"
    )
    command = [launch, "-n", "2", "--python", sys.executable, tmp_path / "dying.py"]
    done = subprocess.run(
        [*map(str, command), *map(str, words(place, tmp_path / "out"))],
        env={**os.environ, MARK: "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = done.stdout + done.stderr
    assert "rank 1 exited with code 7" in said, said
    history = tmp_path / "out/finetuned_model_v3_precision/metrics_history.json"
    assert [entry["step"] for entry in json.loads(history.read_text())] == [1, 2]


def test_a_validation_that_is_not_finite_ends_nothing(place, tmp_path, monkeypatch):
    """Its NaN used to end in a traceback at the next checkpoint, which takes no NaN."""
    plain, calls = mlx_engine.step.mean_nll, []

    def broken(parts):
        measured = plain(parts)
        calls.append(1)
        return measured if len(calls) != 2 else measured | {"loss": float("nan")}

    monkeypatch.setattr(mlx_engine.step, "mean_nll", broken)
    assert "没有记下" in train(place, tmp_path / "out")
    metrics = json.loads((tmp_path / "out/finetuned_model_v3_precision/metrics_history.json").read_text())
    assert [entry["step"] for entry in metrics if "valid" in entry] == [8]
    monkeypatch.setattr(mlx_engine.step, "mean_nll", lambda parts: plain(parts) | {"loss": float("nan")})
    assert "不是有限的数" in train(place, tmp_path / "base", expected=2)


def test_sigterm_saves_and_prints_the_resume_command(place, done, tmp_path):
    process = start(words(place, tmp_path / "out", "--save-every", "1000", "--steps", "4000"))
    while "开始训练" not in process.stdout.readline():
        pass
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    said = finish(process, expected=130)
    assert "--resume" in said and "已停在第" in said
    saved = list((tmp_path / "out/checkpoints_v3_precision").glob("step_*/optimizer.safetensors"))
    assert len(saved) == 1


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(place, done, tmp_path):
    shutil.copytree(done, tmp_path / "out")
    file = tmp_path / "out/checkpoints_v3_precision/step_8/optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    said = train(place, tmp_path / "out", "--resume")
    assert str(file) in said and "step_6" in said
    assert outcome(tmp_path / "out") == outcome(done)


def test_refusals_before_anything_is_written(place, done, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in done.rglob("*") if p.name != ".lock"}
    said = train(place, done, expected=2)
    assert all(choice in said for choice in ("--resume", "--overwrite", "--output-dir"))
    said = train(place, done, "--resume", "--lr", "1e-3", expected=2)
    assert "--lr: 原来是 0.01，现在是 0.001" in said
    said = train(place, done, "--resume", "--steps", "4", expected=2)
    assert "--steps 4" in said
    after = {p: p.stat().st_mtime_ns for p in done.rglob("*") if p.name != ".lock"}
    assert {p for p in after if "logs" not in p.parts} == {p for p in before if "logs" not in p.parts}
    for name in ("adapters_v3_precision/adapters.safetensors", "finetuned_model_v3_precision/metrics_history.json"):
        assert after[done / name] == before[done / name]


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--base-model", "{place}/nowhere"], "基础模型不存在: {place}/nowhere"),
        (["--base-model", "{place}/data"], "config.json"),
        (["--data", "{place}/nowhere"], "{place}/nowhere/train.jsonl"),
        (["--lora-rank", "64"], "--lora-rank 64"),
        (["--num-layers", "3"], "2 层"),
        (["--adapter-path", "{place}/base"], "adapter"),
        (["--output-dir", "{place}/base/config.json"], "config.json"),
    ],
)
def test_errors_are_one_line_with_a_fix_and_write_nothing(place, tmp_path, flags, part):
    output = tmp_path / "out"
    said = train(place, output, *(f.format(place=place) for f in flags), expected=2)
    assert part.format(place=place) in said and "解决:" in said and "Traceback" not in said
    assert not output.exists()


def test_steps_can_be_added_and_the_best_kept(place, done, tmp_path):
    shutil.copytree(done, tmp_path / "out")
    train(place, tmp_path / "out", "--resume", "--steps", "10", "--keep-best", "--eval-every", "1")
    metrics = json.loads((tmp_path / "out/finetuned_model_v3_precision/metrics_history.json").read_text())
    assert [entry["step"] for entry in metrics] == list(range(1, 11))
    record = json.loads((tmp_path / "out/finetuned_model_v3_precision/training_config.json").read_text())
    best = min((e for e in metrics if "valid" in e), key=lambda e: e["valid"]["loss"])
    assert record["result"]["best"]["step"] == best["step"]


def test_warm_start_from_the_finished_adapter(place, done, tmp_path):
    said = train(place, tmp_path / "out", "--adapter-path", done / "adapters_v3_precision", "--lora-rank", "6")
    finished = json.loads((done / "finetuned_model_v3_precision/metrics_history.json").read_text())[-1]["valid"]
    state = json.loads((tmp_path / "out/checkpoints_v3_precision/step_8/state.json").read_text())
    # Exact at step 0: it starts where the earlier run ended.
    assert state["valid_before"]["loss"] == pytest.approx(finished["loss"], rel=1e-5)
    shapes = {v.shape for v in load_file(tmp_path / "out/adapters_v3_precision/adapters.safetensors").values()}
    assert all(6 in shape for shape in shapes) and "起点" in said


def test_a_real_run_never_goes_on_from_a_simulation(place, tmp_path):
    output = tmp_path / "out"
    train(place, output, "--simulate")
    said = train(place, output, "--resume", expected=2)
    assert "来自模拟训练，不能用真正的训练接着做" in said and "--overwrite" in said
    train(place, output, "--overwrite")
    config = json.loads((output / "adapters_v3_precision/adapter_config.json").read_text())
    assert (
        "simulated" not in config
        and "simulated" not in (output / "checkpoints_v3_precision/step_8/state.json").read_text()
    )
    # And nothing that really trained gives way to a simulation.
    said = train(place, output, "--simulate", "--overwrite", expected=2)
    assert "模拟不会覆盖它" in said


def test_a_simulation_reads_the_data_as_the_real_run_does(place, done, tmp_path):
    train(place, tmp_path / "out", "--simulate", "--steps", "1")
    records = [
        json.loads((folder / "finetuned_model_v3_precision/training_config.json").read_text())
        for folder in (done, tmp_path / "out")
    ]
    assert records[0]["data"] == records[1]["data"]
    assert "simulated" not in records[0] and records[1]["simulated"] is True
