"""Sending a run's numbers to SwanLab or Weights & Biases, through mlx-lm's own callbacks.

The names of the numbers that both have are mlx-lm's, so that its runs and these lie in the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlx_lm.tuner import callbacks

from precision_lora.config import TrainConfig
from precision_lora.errors import UserError
from precision_lora.journal import Journal

PROJECT_NAME = "v3-precision"
# Name in metrics_history.json → mlx-lm's name; others keep theirs.
MLX_LM_NAMES = {"step": "iteration", "loss": "train_loss", "lr": "learning_rate"}

Report = Callable[[Mapping[str, Any]], None]


def prepare(settings: TrainConfig) -> Callable[[Journal], Report]:
    """What begins the reports named in ``settings.report_to``, given the open journal of the run.

    The report takes entries of metrics_history.json. Trouble on the way is said once and ends the reporting, not the
    training.

    Raises:
        UserError: a package is not installed; and where it begins, an account that lets nobody in.
    """
    names = list(dict.fromkeys(name.strip() for name in (settings.report_to or "").split(",") if name.strip()))
    missing = [name for name in names if getattr(callbacks, name) is None]
    if missing:
        raise UserError(
            f"--report-to {settings.report_to}: 没有安装 {'、'.join(missing)}",
            f"pip install {' '.join(missing)}",
            "或去掉 --report-to",
        )
    return lambda journal: _start(names, settings, journal)


def _start(names: list[str], settings: TrainConfig, journal: Journal) -> Report:
    assert journal.path is not None
    folder = journal.path.with_suffix("")  # named as the log beside it; the callbacks take the run's name from it
    try:
        folder.mkdir(exist_ok=True)
        config: Any = settings.to_json()  # annotated as text there, handed on as the dictionary that it must be
        callback = callbacks.get_reporting_callbacks(",".join(names), PROJECT_NAME, str(folder), config)
    except Exception as error:  # accounts, keys and networks fail in ways of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"--report-to {settings.report_to}: 不能开始报告（{reason}）",
            "先登录: swanlab login 或 wandb login",
            "或去掉 --report-to",
        ) from None
    broken: list[Exception] = []

    def report(entry: Mapping[str, Any]) -> None:
        if broken:
            return
        try:
            callback.on_train_loss_report(train_numbers(entry))
            if "valid" in entry:
                callback.on_val_loss_report(valid_numbers(entry))
        except Exception as error:  # a picture elsewhere is never worth a run
            broken.append(error)
            journal.warn(f"--report-to {settings.report_to} 中断了，训练继续: {str(error).strip()[:200]}")

    return report


def train_numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a step, without those that are not finite."""
    numbers = {MLX_LM_NAMES.get(k, k): v for k, v in entry.items() if isinstance(v, int | float) and k != "seconds"}
    if entry["seconds"] > 0:
        numbers["tokens_per_second"] = entry["supervised_tokens"] / entry["seconds"]
        numbers["iterations_per_second"] = 1 / entry["seconds"]
    return numbers


def valid_numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """Validation of a step, in nats/token: ``val_loss`` over all, ``val_<kind>`` for each span kind."""
    kinds = {f"val_{name}": value for name, value in entry["valid"].items() if name != "tokens"}
    return {"iteration": entry["step"], **kinds}
