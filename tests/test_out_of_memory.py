"""Out-of-memory errors, and the search for the largest batch size that fits."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import keras
import pytest
from conftest import REPOSITORY, Run
from small import Line, small

from tfaip_like import Tensors, UsageError, ops, train
from tfaip_like._training import batch_size_search, loop
from tfaip_like._training.batch_size_search import BatchSizeRange
from tfaip_like._training.out_of_memory import is_out_of_memory_error
from tfaip_like._utils.processes import child_code
from tfaip_like.settings import Resume

WIDTH = 200_000


class Large(Line):
    """Several megabytes of activations per sample."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Dense(WIDTH, activation="relu")(inputs["x"])
        return {"sum": ops.mean(keras.layers.Activation("tanh")(hidden), axis=1)}


@pytest.mark.parametrize("unit", [1, 3])
@pytest.mark.parametrize("largest", [1, 2, 15, 16, 17, 100, 5000])
def test_the_search_finds_a_size_close_to_the_largest(largest: int, unit: int) -> None:
    search, trials = BatchSizeRange(unit=unit), 0
    while (size := search.next_size()) is not None:
        assert size % unit == 0
        search, trials = search.with_result(size, is_fitting=size <= largest), trials + 1
    assert trials < 25
    assert search.fits <= largest < search.fits + max(unit, search.fits // 15 + unit)


@pytest.mark.parametrize("limit", [1, 10, 100])
def test_the_search_ends_at_the_size_of_the_dataset(limit: int) -> None:
    search = BatchSizeRange(limit=limit)
    while (size := search.next_size()) is not None:
        search = search.with_result(size, is_fitting=True)
    assert search.fits == limit


class ResourceExhaustedError(Exception):
    """TensorFlow's."""


class OutOfMemoryError(RuntimeError):
    """PyTorch's."""


class JaxRuntimeError(RuntimeError):
    """JAX's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (ResourceExhaustedError("OOM when allocating tensor with shape[40000,40000]"), True),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."), True),
        (JaxRuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 6400000000 bytes."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 6400000000 bytes."), True),
        (ResourceExhaustedError("/runs/1/checkpoints; No space left on device"), False),
        (RuntimeError("shapes differ"), False),
        (ValueError("Out of memory"), False),
    ],
)
def test_the_errors_of_all_backends_are_recognized(error: Exception, expected: bool) -> None:
    assert is_out_of_memory_error(error) == expected


def test_an_error_in_a_step_names_batch_size_accumulation_and_rematerialization(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise ResourceExhaustedError("OOM when allocating tensor")

    monkeypatch.setattr(loop.TrainingLoop, "_run_executions", fail)
    with pytest.raises(UsageError) as caught:
        train(small(train={"batch_size": 32}, trainer={"accumulate_steps": 2}))
    first, second, third = str(caught.value).splitlines()
    assert first == "out of memory (TrainLoaderSettings.batch_size 32): OOM when allocating tensor"
    assert "auto finds the largest batch size that fits" in second
    assert "batch_size 16 " in third
    assert "accumulate_steps 4" in third
    assert "remat" in third


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_step_that_cannot_allocate_its_memory_is_explained(run: Run, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(backend)
    code = f"""
from tfaip_like._training import loop
from tfaip_like._training.batch_size_process import limit_memory
from tfaip_like._training import batch_size_process
from test_out_of_memory import Large, small
from tfaip_like import UsageError, train
batch_size_process.get_memory_bytes = lambda: (10**9, 10**9)
begin = loop.TrainingLoop._begin_training
def begin_with_limit(self):
    begin(self)
    limit_memory(0.3)
loop.TrainingLoop._begin_training = begin_with_limit
try:
    trainer = {{"val_every_n": 0, "jit_compile": {backend == "jax"}}}
    train(small(model=Large(), train={{"batch_size": 1000}}, trainer=trainer))
except UsageError as error:
    print("explained", error)
"""
    environment = {"PYTHONPATH": f"{Path(__file__).parent}:{REPOSITORY}", "KERAS_BACKEND": backend}
    done = run("python", "-c", code, cwd=tmp_path, environment=environment)
    assert "explained out of memory" in done.stdout, done.stderr[-2000:]


@pytest.mark.slow
def test_the_batch_size_of_a_small_dataset_is_limited_by_its_samples(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"train": {"batch_size": "auto"}, "trainer": {"epochs": 1, "accumulate_steps": 2}}
    with caplog.at_level(logging.INFO):
        train(small(tmp_path / "run", **settings))
    assert "batch size 32 fits" in caplog.text
    stored = json.loads((tmp_path / "run" / "trainer_params.json").read_text())
    assert stored["train"]["batch_size"] == 50
    again = {**settings, "train": {"batch_size": 50}, "trainer": {**settings["trainer"], "epochs": 2}}
    assert len(train(small(tmp_path / "run", **again), Resume()).history) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_batch_size_that_exhausts_the_memory_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limited = "from tfaip_like._training import batch_size_process\n"
    limited += "batch_size_process.get_memory_bytes = lambda: (250_000_000, 250_000_000)\n"
    monkeypatch.setattr(batch_size_search, "child_code", lambda module: limited + child_code(module))
    scenario = small(model=Large(), train={"batch_size": "auto"}, trainer={"epochs": 1, "val_every_n": 0})
    with caplog.at_level(logging.INFO):
        train(scenario)
    assert "does not fit" in caplog.text
    assert "the largest that fits" in caplog.text


def test_a_scenario_in_a_script_cannot_search(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = small(train={"batch_size": "auto"})
    monkeypatch.setattr(type(scenario), "__module__", "__main__")
    with pytest.raises(UsageError, match="define it in a module"):
        train(scenario)


def test_other_commands_want_a_number(quick_run: Run) -> None:
    done = quick_run("benchmark-input-pipeline", "scenarios.minimal", "--train.batch_size", "auto")
    assert done.returncode == 2
    assert "--train.batch_size auto: only a new training finds the batch size; pass a number" in done.stderr


@pytest.mark.slow
def test_an_error_in_the_trial_is_reported_without_a_training(tmp_path: Path) -> None:
    scenario = small(tmp_path / "run", train={"batch_size": "auto"}, data={"samples": 0})
    with pytest.raises(UsageError, match=r"batch_size auto: Points.source\(Mode.TRAIN\) returned an empty source"):
        train(scenario)
    assert not (tmp_path / "run" / "trainer_params.json").exists()


@pytest.mark.slow
def test_a_short_epoch_limits_the_batch_size(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train(small(train={"batch_size": "auto"}, trainer={"epochs": 1, "samples_per_epoch": 8}))
    assert "Using batch size 8," in caplog.text
