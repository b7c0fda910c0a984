"""Training on PyTorch: it starts, resumes exactly, and exports every network."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import REPOSITORY, Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed"),
]

NETWORKS = """
from small import Line, Small
from tfaip_like import Model, Tensors, keras

class Random(Line):
    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Dense(8, activation="relu")(inputs["x"])
        hidden = keras.layers.GaussianNoise(0.1)(keras.layers.BatchNormalization()(hidden))
        hidden = keras.layers.Dropout(0.3, seed=3)(keras.layers.Dropout(0.3)(hidden))
        return {"sum": keras.layers.Dense(1)(hidden)[:, 0]}

class Scale(keras.layers.Layer):
    def __init__(self, function):  # without get_config: Keras cannot save it
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)

class Unregistered(Line):
    def build(self, inputs: Tensors) -> Tensors:
        hidden = Scale(lambda x: 2 * x)(keras.layers.Lambda(lambda x: x + 1)(inputs["x"]))
        return {"sum": keras.layers.Dense(1)(keras.layers.BatchNormalization()(hidden))[:, 0]}

class WithRandom(Small):
    model: Model = Random()

class WithUnregistered(Small):
    model: Model = Unregistered()
"""
ENVIRONMENT = {"PYTHONPATH": f"{Path(__file__).parent}:{REPOSITORY}"}


def run_python(run: Run, folder: Path, code: str, **environment: str) -> str:
    """Run code on PyTorch in a directory with the module `networks`; return its output."""
    (folder / "networks.py").write_text(NETWORKS)
    environment = {**ENVIRONMENT, "KERAS_BACKEND": "torch", **environment}
    done = run(sys.executable, "-c", code, cwd=folder, environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_interrupted_training_with_random_layers_is_resumed_bit_for_bit(run: Run, tmp_path: Path) -> None:
    (tmp_path / "networks.py").write_text(NETWORKS)
    words = ["networks:WithRandom", "--verify", "--device.backend", "torch", "--trainer.calc_ema", 0.9]
    done = run("train-scenario", *words, cwd=tmp_path, environment=ENVIRONMENT, timeout=550)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bitwise identical") == 5


def test_validation_leaves_no_trace_in_the_generator_of_pytorch(run: Run, tmp_path: Path) -> None:
    code = """
import torch
from tfaip_like import keras
from tfaip_like._keras_ext.random_states import preserve_network_state, seed_everything
network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
seed_everything(1)
first = torch.rand(3)
seed_everything(1)
with preserve_network_state(network):
    torch.rand(7)
assert torch.equal(torch.rand(3), first)
"""
    run_python(run, tmp_path, code)


def test_a_scenario_that_imports_tensorflow_first_trains(run: Run, tmp_path: Path) -> None:
    scenario = "import tensorflow\nfrom tfaip_like import keras\nclass Own(keras.layers.Layer): ...\n"
    (tmp_path / "first.py").write_text(scenario + "from small import Small\nclass First(Small): ...\n")
    words = ["first:First", "--device.backend", "torch", "--trainer.epochs", 1]
    done = run("train-scenario", *words, cwd=tmp_path, environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


def test_layers_that_are_not_registered_are_exported(run: Run, tmp_path: Path) -> None:
    code = """
from pathlib import Path
import numpy as np
from networks import WithUnregistered
from tfaip_like import keras, load_predictor, train
from tfaip_like.settings import Trainer
result = train(WithUnregistered(trainer=Trainer(epochs=1, output_dir=Path("run"), sanity_check=True)))
x = np.array([0.25, 0.5], "float32")
expected = keras.ops.convert_to_numpy(result.network({"x": x[None]})["sum"])[0]
assert abs(load_predictor("run").one({"x": x}).outputs["sum"] - expected) < 1e-6
"""
    run_python(run, tmp_path, code)


@pytest.mark.parametrize(
    ("output", "is_script", "message"),
    [
        ("torch.relu(x)", False, "line 6, in call\n    return torch.relu(x)\nTypeError"),
        ("x", True, "Own is defined in a script, which the process that writes the SavedModel cannot import"),
    ],
)
def test_a_network_that_tensorflow_cannot_build_is_an_error_before_the_first_step(
    run: Run, tmp_path: Path, output: str, is_script: bool, message: str
) -> None:
    scenario = f"""import torch
from pathlib import Path
from small import *
class Own(keras.layers.Layer):
    def call(self, x):
        return {output}
class Bad(Line):
    def build(self, inputs):
        return {{"sum": keras.layers.Dense(1)(Own()(inputs["x"]))[:, 0]}}
class WithBad(Small):
    model: Model = Bad()
"""
    (tmp_path / "bad.py").write_text(scenario)
    program = """
from bad import *
from tfaip_like import train
from tfaip_like.settings import Trainer
train(WithBad(trainer=Trainer(epochs=1, output_dir=Path("run"), sanity_check=True)))
"""
    (tmp_path / "program.py").write_text(program.replace("from bad import *", scenario) if is_script else program)
    environment = {**ENVIRONMENT, "KERAS_BACKEND": "torch"}
    done = run(sys.executable, "program.py", cwd=tmp_path, environment=environment)
    assert message in done.stderr
    assert "before training" in done.stderr
    assert not (tmp_path / "run" / "history.csv").exists()


def test_load_and_validate_starts_no_process(run: Run, tmp_path: Path) -> None:
    code = """
from pathlib import Path
from networks import WithRandom
from tfaip_like import train
from tfaip_like._export import saved_models
from tfaip_like.settings import Trainer
start, starts = saved_models.run_child_process, []
saved_models.run_child_process = lambda *words: starts.append(len(rows())) or start(*words)
rows = lambda: Path("run/history.csv").read_text().splitlines()
trainer = Trainer(epochs=2, lav_every_n=1, output_dir=Path("run"), sanity_check=False)
for row in train(WithRandom(trainer=trainer)).history:
    assert abs(row["lav_loss"] - row["val_loss"]) < 1e-5 * row["val_loss"]
assert starts == [3], starts  # after both epochs, for the last export
"""
    run_python(run, tmp_path, code)
