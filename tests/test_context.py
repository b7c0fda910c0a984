"""`context.step` and `context.epoch`: the same numbers in losses, metrics and layers, however steps are run."""

from __future__ import annotations

import dataclasses  # noqa: F401  # for the code that runs on JAX
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, slow
from small import Line, Small, small
from stopping import differences

from tfaip_like import Tensors, context, keras, load_predictor, ops, train
from tfaip_like._runs.run_files import read_history
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.modeling._network import build_networks
from tfaip_like.settings import Resume

STEPS = 12
"""Steps of an epoch."""
TESTS = {"PYTHONPATH": str(Path(__file__).parent)}


@keras.saving.register_keras_serializable("test_context")
class SeenStep(keras.layers.Layer):  # type: ignore[misc]
    """Returns the step that it sees, for each sample."""

    def call(self, x: Any) -> Any:
        return ops.zeros_like(x[:, 0]) + ops.cast(context.step, x.dtype)


class Annealed(Line):
    """Its loss, a metric and a layer depend on the step."""

    best = ("val_layer", "max")

    def build(self, inputs: Tensors) -> Tensors:
        return {**super().build(inputs), "seen": SeenStep()(inputs["x"])}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        weight = ops.minimum(1.0, context.step / 20)
        return {"square": weight * (targets["y"] - outputs["sum"]) ** 2}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"at_step": context.step, "at_epoch": context.epoch, "layer": outputs["seen"]}


class Separate(Annealed):
    """The layer is in a network for prediction only."""

    def build_prediction(self, inputs: Tensors, trained: Any) -> Tensors:
        return {**trained(inputs), "seen": 2 * SeenStep()(inputs["x"])}


class Killed(Callback):
    """Kills the training after a step."""

    every: str = "1steps"
    at: int = 20

    def on_step_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        if run.step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def annealed(output_dir: Path | None = None, **changes: Any) -> Small:
    trainer = {"epochs": 2, "steps_per_execution": 5, "checkpoint_every": "6steps" if output_dir else "epoch"}
    return small(
        output_dir,
        **{"model": Annealed(), "evaluator": None, **changes, "trainer": trainer | changes.get("trainer", {})},
    )


def assert_seen(rows: Any, steps: int = STEPS) -> None:
    """Check the values that a training has seen in each epoch."""
    for number, row in enumerate(rows):
        first, last = number * steps + 1, (number + 1) * steps
        assert row["at_step"] == row["layer"] == (first + last) / 2
        assert row["at_epoch"] == pytest.approx((first + last) / 2 / steps)
        assert row["val_at_step"] == row["val_layer"] == last
        assert row["val_at_epoch"] == number + 1


@pytest.mark.parametrize(
    "trainer",
    [
        {"jit_compile": None},
        {"precision": "mixed_float16", "calc_ema": 0.5},
        slow({"steps_per_execution": 1, "on_nan": "skip"}),
        slow({"force_eager": True, "steps_per_execution": None}),
    ],
    ids=str,
)
def test_losses_metrics_and_layers_see_the_step(trainer: dict[str, Any]) -> None:
    assert_seen(train(annealed(trainer=trainer)).history)


def test_a_step_of_several_batches_is_one_step() -> None:
    result = train(annealed(trainer={"accumulate_steps": 2}))
    assert_seen(result.history, steps=STEPS // 2)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a run that was not interrupted."""
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    train(annealed(run_dir, trainer={"lav_every_n": 1}))
    return run_dir


def test_load_and_validate_sees_the_step_of_the_export(straight: Path, quick_run: Run) -> None:
    rows = read_history(straight / "history.csv")
    assert_seen(rows)
    assert [(row["lav_at_step"], row["lav_layer"], row["lav_at_epoch"]) for row in rows] == [(12, 12, 1), (24, 24, 2)]
    assert load_predictor(straight / "best").one({"x": np.zeros(2, "float32")}).outputs["seen"] == 24
    done = quick_run("lav-scenario", straight, "--json", "lav.json", cwd=straight.parent, environment=TESTS)
    assert done.returncode == 0, done.stderr
    values = json.loads((straight.parent / "lav.json").read_text())[0]["values"]
    assert [values[name] for name in ("at_step", "at_epoch", "layer")] == [24, 2, 24]
    assert values["loss"] == pytest.approx(rows[1]["lav_loss"])


@pytest.mark.slow
def test_a_killed_training_resumes_with_the_same_bits(straight: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from test_context import *; "
        "train(annealed(Path(sys.argv[1]), trainer={'lav_every_n': 1}, callbacks=[Killed()]))"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], cwd=Path(__file__).parent)
    assert killed.returncode == -signal.SIGKILL
    train(annealed(tmp_path / "run", trainer={"lav_every_n": 1}), Resume())
    assert differences(straight, tmp_path / "run") == []


@pytest.mark.slow
def test_a_prediction_network_sees_the_step(tmp_path: Path) -> None:
    result = train(annealed(tmp_path / "run", model=Separate()))
    sample = {"x": np.zeros((1, 2), "float32")}
    assert load_predictor(tmp_path / "run" / "best").one({"x": sample["x"][0]}).outputs["seen"] == 48
    assert result.network.predict_on_batch(sample)["seen"] == 48  # after the training, the position of its last step


class Constant(Line):
    """Reads the step where it would be a constant."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": super().build(inputs)["sum"] * context.step}


def test_a_step_in_build_is_an_error() -> None:
    with pytest.raises(CodeError, match=r"Constant.build reads `context`, whose value would be a constant"):
        build_networks(Constant(), Small().data)


@pytest.mark.slow
def test_jax_sees_the_step(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    code = (
        "from pathlib import Path; from test_context import *; from tfaip_like.settings import Device\n"
        "for model in (Annealed(), Separate()):\n"
        "    jax = dataclasses.replace(annealed(model=model), device=Device(backend='jax'))\n"
        "    trainer = dataclasses.replace(jax.trainer, steps_per_execution=None, lav_every_n=1)\n"
        f"    trainer = dataclasses.replace(trainer, output_dir=Path('{tmp_path}', type(model).__name__))\n"
        "    rows = train(dataclasses.replace(jax, trainer=trainer)).history\n"
        "    assert_seen(rows)\n"
        "    assert [row['lav_at_step'] for row in rows] == [12, 24]\n"
        "    seen = load_predictor(trainer.output_dir / 'best').one({'x': np.zeros(2, 'float32')}).outputs['seen']\n"
        "    assert seen == (24 if type(model) is Annealed else 48)\n"
        "from test_activations import Shown, assert_shown\n"
        f"run = Path('{tmp_path}', 'shown')\n"
        "train(small(run, model=Shown(), evaluator=None, device=Device(backend='jax'), trainer={'epochs': 1}))\n"
        "assert_shown(run)\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
