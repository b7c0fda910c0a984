"""Load-and-validate: what an export gives on validation data."""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import slow
from small import Largest, Line, Points, Small, small

from tfaip_like import (
    ArraySource,
    Data,
    Evaluator,
    Mode,
    Model,
    Processor,
    Sample,
    Spec,
    Tensors,
    UsageError,
    keras,
    ops,
    train,
)
from tfaip_like._export.exported_model import load_export
from tfaip_like.data import LavLoaderSettings, Source
from tfaip_like.data._loader.batching import Batch
from tfaip_like.evaluation._output_metrics import OutputMetrics

LAV = {"lav_every_n": 1, "epochs": 2}


def pairs(row: Mapping[str, float], prefix: str = "lav_") -> dict[str, tuple[float, float]]:
    """Value of LAV and of validation, by name."""
    return {
        name.removeprefix(prefix): (value, row[f"val_{name.removeprefix(prefix)}"])
        for name, value in row.items()
        if name.startswith(prefix)
    }


def assert_same(row: Mapping[str, float], names: Iterable[str], prefix: str = "lav_") -> None:
    found = pairs(row, prefix)
    assert set(found) == set(names)
    for name, (lav, val) in found.items():
        assert lav == pytest.approx(val, rel=1e-5), name


# The same as validation.


@pytest.mark.parametrize("batch_size", [slow(32), 7, slow(100)])
def test_values_are_those_of_validation_also_with_a_smaller_last_batch(tmp_path: Path, batch_size: int) -> None:
    scenario = small(tmp_path / "run", trainer=LAV, lav=LavLoaderSettings(batch_size=batch_size))
    for row in train(scenario).history:
        assert_same(row, ["loss", "square", "error", "largest_error", "count"])


def test_the_loss_is_the_weighted_sum_without_regularization() -> None:
    model = Line(loss_weights={"square": 2.0}, regularization=0.1)
    row = train(small(model=model, trainer=LAV)).history[-1]
    assert row["lav_loss"] == pytest.approx(2 * row["val_square"], rel=1e-5)
    assert row["lav_loss"] < row["val_loss"]


class Sequences(Data):
    """Sequences of different lengths, their sums, and where they come from."""

    inputs = {"x": Spec((None, 1), padding=-1), "unused": Spec(())}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> Sequence[Sample]:
        random = np.random.default_rng(3)
        sequences = [random.random((length, 1), dtype="float32") for length in (3, 5, 2, 7, 4, 6, 1, 3)]
        return [Sample({"x": x, "unused": 0.0}, {"y": x.sum()}, meta={"length": len(x)}) for x in sequences]


class Sums(Model):
    """Adds what is not padding."""

    def build(self, inputs: Tensors) -> Tensors:
        valid = ops.cast(inputs["x"] >= 0, "float32")
        return {"sum": keras.layers.Dense(1)(ops.sum(inputs["x"] * valid, axis=1))[:, 0]}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": (targets["y"] - outputs["sum"]) ** 2}


class PerStep(Processor):
    """Divides the answer by the length; drops the shortest."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        if sample.meta["length"] == 1:
            return None
        outputs = {**sample.outputs, "mean": sample.outputs["sum"] / sample.meta["length"]}
        return dataclasses.replace(sample, outputs=outputs)


class Means(Evaluator):
    """Looks at what the post-processor has made."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        means = [float(sample.outputs["mean"]) for sample in samples]
        return {"mean": float(np.mean(means)), "count": len(means)}


def test_padded_sequences_and_post_processors_are_as_in_validation() -> None:
    scenario = small(
        data=Sequences(post_processors=[PerStep()]),
        model=Sums(),
        evaluator=Means(),
        trainer=LAV,
        train={"batch_size": 4},
        val={"batch_size": 3},
        lav=LavLoaderSettings(batch_size=3),
    )
    row = train(scenario).history[-1]
    assert_same(row, ["loss", "square", "mean", "count"])
    assert row["lav_count"] == 7


class Impatient(Largest):
    """Looks at three samples only."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        return super().evaluate(sample for sample, _ in zip(samples, range(3), strict=False))


@pytest.mark.parametrize("evaluator", [slow(None), Impatient()])
def test_losses_see_all_samples_of_any_evaluator(evaluator: Evaluator | None) -> None:
    row = train(small(evaluator=evaluator, trainer=LAV)).history[-1]
    found = pairs(row)
    assert {"loss", "square", "error"} <= set(found)
    assert found["loss"][0] == pytest.approx(found["loss"][1], rel=1e-5)


class Read(ArraySource):
    """Counts how often it is read."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.reads: list[int] = []

    def __getitem__(self, index: int) -> Sample:
        self.reads.append(index)
        return super().__getitem__(index)


class Keep(Processor):
    """Changes nothing: samples are made one by one."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        return sample


class Lists(Small):
    """Two sources for LAV."""

    def lav_sources(self) -> Mapping[str, Source]:
        x = np.random.default_rng(9).random((10, 2), dtype="float32")
        return {"even": READS, "odd": ArraySource({"x": x}, {"y": x.sum(axis=1) + 1})}


READS = Read({"x": np.ones((10, 2), "float32")}, {"y": np.full(10, 2, "float32")})


def test_several_sources_have_separate_values_in_one_pass_each(tmp_path: Path) -> None:
    lav = LavLoaderSettings(num_processes=0)
    base = small(tmp_path / "run", data=Points(processors=[Keep()]), trainer={**LAV, "sanity_check": False}, lav=lav)
    values = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    READS.reads.clear()
    history = train(Lists(**values)).history
    names = {f"lav_{source}_{name}" for source in ("even", "odd") for name in ("loss", "square", "error", "count")}
    assert names <= set(history[0])
    assert history[-1]["lav_even_loss"] != history[-1]["lav_odd_loss"]
    assert {(tmp_path / "run" / "tensorboard" / f"lav_{source}").is_dir() for source in ("even", "odd")} == {True}
    of_a_pass = [READS.reads.count(index) for index in range(1, 10)]  # the first is looked at before, too
    assert of_a_pass == [2] * 9, "in two epochs"


# What cannot be measured.


class Repeat(Data):
    """Sequences to be repeated."""

    inputs = {"x": Spec((4,), "int32")}
    targets = {"y": Spec((4,), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample]:
        x = np.random.default_rng(mode is Mode.TRAIN).integers(1, 5, (40, 4))
        return ArraySource({"x": x}, {"y": x})


class Decoder(Model):
    """Trains logits, predicts answers."""

    best = "lav_right", "max"

    def build(self, inputs: Tensors) -> Tensors:
        return {"logits": keras.layers.Dense(5)(keras.layers.Embedding(5, 8)(inputs["x"]))}

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors:
        return {"answer": ops.argmax(trained(dict(inputs))["logits"], axis=-1)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        loss = keras.losses.sparse_categorical_crossentropy(targets["y"], outputs["logits"], True)
        return {"ce": ops.mean(loss, axis=1)}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        answer = outputs["answer"] if "answer" in outputs else ops.argmax(outputs["logits"], axis=-1)
        return {"right": ops.mean(ops.cast(ops.cast(answer, "int32") == targets["y"], "float32"), axis=1)}


class Lengths(Evaluator):
    """Counts."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        return {"answers": sum(len(sample.outputs["answer"]) for sample in samples)}


def test_lav_computes_the_metrics_available_from_the_prediction_network(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scenario = small(tmp_path / "run", data=Repeat(), model=Decoder(), evaluator=Lengths(), trainer=LAV)
    result = train(scenario)
    for row in result.history:
        assert_same(row, ["right", "answers"])
    assert caplog.text.count("skips Decoder.loss: the export has no output 'logits' (available: answer).") == 1
    assert result.best_value == max(row["lav_right"] for row in result.history)


class OnlyLogits(Decoder):
    """Cannot be measured without logits."""

    best = "val_loss", "min"

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"largest": ops.max(outputs["logits"])}


def test_lav_without_any_computable_metric_is_reported() -> None:
    with pytest.raises(UsageError, match="nothing to compute: skipped OnlyLogits.loss and OnlyLogits.metrics: the"):
        train(small(data=Repeat(), model=OnlyLogits(), evaluator=None, trainer=LAV))


def test_a_key_error_of_user_code_is_not_hidden() -> None:
    class Wrong(Line):
        def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
            return {"error": targets["z"] - outputs["sum"]}

    metrics = OutputMetrics(Wrong())
    metrics.reset_state(log=pytest.fail)
    ones = np.ones(3, "float32")
    with pytest.raises(KeyError, match="'z'"):
        metrics.add(Batch({"x": np.ones((3, 2), "float32")}, {"y": ones}), {"sum": ones})


# Best.


class BestByLav(Line):
    """The export with the largest error is the best."""

    best = "lav_error", "max"


@pytest.mark.slow
def test_the_best_epoch_can_be_chosen_by_lav_and_its_export_is_the_one_that_was_validated(tmp_path: Path) -> None:
    result = train(small(tmp_path / "run", model=BestByLav(), trainer={"epochs": 4, "lav_every_n": 3}))
    rows = [row for row in result.history if "lav_error" in row]
    assert [row["epoch"] for row in rows] == [1, 3, 4]
    best = max(rows, key=lambda row: row["lav_error"])
    exported = load_export(tmp_path / "run" / "best")
    assert exported.metrics["epoch"] == result.best_epoch == best["epoch"]
    assert exported.metrics["lav_error"] == best["lav_error"] == result.best_value
    source = Points().source(Mode.EVALUATE)
    assert isinstance(source, ArraySource)
    error = np.abs(exported({"x": source.inputs["x"]})["sum"] - source.targets["y"]).mean()
    assert error == pytest.approx(best["lav_error"], rel=1e-5)
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.slow
def test_lav_leaves_no_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    train(small(trainer=LAV))
    assert not list(tmp_path.iterdir())

    class Fails(Largest):
        def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        train(small(tmp_path / "run", evaluator=Fails(), trainer={**LAV, "val_every_n": 0}))
    assert not list((tmp_path / "run").glob(".*"))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("name", ["error", slow("loss")])
def test_an_evaluator_cannot_take_the_name_of_a_loss(name: str) -> None:
    class Clashes(Largest):
        def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
            return {name if sum(1 for _ in samples) == 5 else "other": 0.0}

    lav = LavLoaderSettings(batch_size=2, limit=5)
    with pytest.raises(UsageError, match=f"Clashes.evaluate: '{name}' is already a loss or metric of the model"):
        train(small(evaluator=Clashes(), trainer=LAV, lav=lav))


def test_lav_without_samples_is_reported() -> None:
    class DropAll(Keep):
        modes = (Mode.EVALUATE,)

        def process(self, sample: Sample, random: np.random.Generator) -> None:  # type: ignore[override]
            return None

    with pytest.raises(UsageError, match="validation set is empty: every sample was dropped or failed"):
        train(small(data=Points(processors=[DropAll()]), trainer={**LAV, "val_every_n": 0}))
