"""What a training uses of its devices: memory, and the share of the peak FLOP/s."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from small import Line, small
from stopping import RaggedPoints

from tfaip_like import Tensors, ops, train
from tfaip_like._training import device_usage
from tfaip_like._training.device_usage import DeviceUsage
from tfaip_like._training.loop import TrainingLoop
from tfaip_like._utils import operating_system
from tfaip_like._utils.operating_system import get_memory_bytes
from tfaip_like._utils.processes import peak_resident_memory_mb, resident_memory_mb

WIDTH = 128
MIB = 1024**2
IS_JAX = keras.backend.backend() == "jax"


class Wide(Line):
    """One product of two matrices of this width per sample, and little else."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Dense(WIDTH, use_bias=False)(inputs["x"])
        hidden = keras.layers.Dense(WIDTH, use_bias=False)(hidden)
        return {"sum": hidden[:, 0]}


class Recurrent(Line):
    """A product of two matrices of this width in each of ten time steps."""

    def build(self, inputs: Tensors) -> Tensors:
        sequence = keras.layers.RepeatVector(10)(inputs["x"])
        hidden = keras.layers.SimpleRNN(WIDTH, use_bias=False)(sequence)
        return {"sum": hidden[:, 0]}


class RaggedSum(Line):
    """Sum of a sequence of any length."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": ops.sum(keras.layers.Dense(1)(inputs["x"][..., None]), axis=(1, 2))}


def train_one_epoch(trainer: dict[str, Any] | None = None, **changes: Any) -> Any:
    # Without XLA, JAX executes eagerly: there is no program.
    return train(small(trainer={"epochs": 1, "jit_compile": IS_JAX, **(trainer or {})}, **changes)).history[0]


@pytest.fixture
def flops(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that trains and returns the operations of a step."""
    monkeypatch.setattr(DeviceUsage, "measurements", lambda self, steps, seconds: {"mfu": self._cost.flops or 0.0})
    return lambda **changes: train_one_epoch(**changes)["mfu"]


@pytest.mark.parametrize(("model", "products"), [(Wide(), 1), (Recurrent(), 10)])
def test_the_operations_of_a_step_are_those_of_its_matrix_products(flops: Any, model: Line, products: int) -> None:
    batch_size = 256
    expected = 3 * products * 2 * batch_size * WIDTH**2
    assert flops(model=model, train={"batch_size": batch_size}) == pytest.approx(expected, rel=0.25)


@pytest.mark.slow
def test_a_step_of_several_batches_has_the_operations_of_all(flops: Any) -> None:
    settings: dict[str, Any] = {"model": Wide(), "train": {"batch_size": 256}}
    accumulated = flops(**settings, trainer={"accumulate_steps": 4})
    assert accumulated == pytest.approx(4 * flops(**settings), rel=0.1)


def test_the_analysis_does_not_compile_the_step_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[tuple[str, str]] = []
    loops: list[TrainingLoop] = []
    if IS_JAX:
        import jax

        jax.monitoring.register_event_duration_secs_listener(
            lambda name, *_, **details: compiled.append((name.rpartition("/")[2], details.get("fun_name", "")))
        )
    run = TrainingLoop.run
    monkeypatch.setattr(TrainingLoop, "run", lambda self: (loops.append(self), run(self)))
    train_one_epoch(model=Wide())
    if keras.backend.backend() == "tensorflow":
        step: Any = loops[0].step
        assert step._run.experimental_get_tracing_count() == 1
    else:
        assert sum(kind == "backend_compile_duration" and "run_stack" in name for kind, name in compiled) == IS_JAX


def test_batches_of_different_shapes_have_no_share_of_the_peak() -> None:
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch counts the operations of the first batch")
    assert "mfu" not in train_one_epoch(data=RaggedPoints(), model=RaggedSum(), evaluator=None)


def test_the_share_of_the_peak_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(device_usage, "measure_peak_flops", lambda on_gpu: 1.0)
    with caplog.at_level(logging.INFO):
        row = train_one_epoch()
    assert row["mfu"] > 1e3
    assert f"MFU {100 * row['mfu']:.3g} %" in caplog.text
    assert "Training step: estimated memory" in caplog.text


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_peak_of_the_device_is_that_of_a_matrix_product(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(device_usage.MATRIX_SIZES, "cpu", 128)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        assert 1e5 < device_usage.measure_peak_flops(on_gpu=False) < 1e15
    finally:
        keras.config.set_dtype_policy(before)


def test_the_summary_has_the_peak_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train(small(tmp_path / "run", trainer={"epochs": 1}))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["peak_memory_mb"]["host"] >= resident_memory_mb() / 2
    assert "Peak memory: " in caplog.text


def test_a_step_that_does_not_fit_is_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device_usage, "get_memory_bytes", lambda: (1000, 1000))
    train(small(trainer={"epochs": 1}))
    assert "may not fit into memory" in caplog.text


def test_the_peak_includes_memory_that_was_freed() -> None:
    before = peak_resident_memory_mb()
    freed = np.ones(int(before - resident_memory_mb() + 100) * MIB, "uint8")
    del freed
    assert peak_resident_memory_mb() >= before + 50


@pytest.mark.parametrize(
    ("entry", "limit", "usage", "cache"),
    [
        ("0::/job/task", "job/memory.max", "job/memory.current", "inactive_file"),
        (
            "4:memory:/job/task",
            "memory/job/memory.limit_in_bytes",
            "memory/job/memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ],
)
def test_the_limit_of_a_cluster_job_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, limit: str, usage: str, cache: str
) -> None:
    class MovedPath(type(Path())):  # type: ignore[misc]
        def __new__(cls, *parts: Any) -> Path:
            path = Path(*parts)
            moves = path.is_relative_to("/sys") or path.is_relative_to("/proc")
            return tmp_path / path.relative_to("/") if moves else path

    root = tmp_path / "sys" / "fs" / "cgroup"
    (root / limit).parent.mkdir(parents=True)
    (root / limit).write_text(str(100 * MIB))
    (root / usage).write_text(str(40 * MIB))
    (root / usage).with_name("memory.stat").write_text(f"{cache} {10 * MIB}\n")
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"{entry}\n")
    monkeypatch.setattr(operating_system, "Path", MovedPath)
    assert get_memory_bytes() == (100 * MIB, 70 * MIB)
