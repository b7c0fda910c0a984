"""Metric objects and weighted means: values of scikit-learn, exact resume, and errors before training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import slow, tensorflow_only
from sklearn import metrics as sklearn_metrics
from small import Line, Points, small
from stopping import copy_as_killed, differences
from test_several_devices import ONE, TWO, Call, call, trained

from tfaip_like import ArraySource, Data, Mode, Model, Scenario, Spec, Tensors, UsageError, keras, ops, train
from tfaip_like._training.checkpointing.checkpoints import Position
from tfaip_like.data import LavLoaderSettings
from tfaip_like.optimizers import SGD
from tfaip_like.schedules import Constant
from tfaip_like.settings import Resume, Trainer

__all__ = ["call"]  # a fixture

CLASSES, LENGTH = 3, 4


def make_arrays(mode: Mode) -> tuple[dict[str, Any], dict[str, Any]]:
    random = np.random.default_rng(5 + (mode is Mode.TRAIN))
    count = 96 if mode is Mode.TRAIN else 75
    x = random.normal(size=(count, 5)).astype("float32")
    targets = {
        "label": (x[:, 0] + random.normal(size=count) > 0).astype("int32"),
        "kinds": random.integers(0, CLASSES, (count, LENGTH)).astype("int32"),
        "mask": random.integers(0, 2, (count, LENGTH)).astype("float32"),
        "sample_weight": random.uniform(0.1, 3, count).astype("float32"),
    }
    return {"x": x}, targets


class Labels(Data):
    """Binary labels, a class for each position of a sequence, and weights."""

    inputs = {"x": Spec((5,))}
    targets = {
        "label": Spec((), "int32"),
        "kinds": Spec((LENGTH,), "int32"),
        "mask": Spec((LENGTH,)),
        "sample_weight": Spec(()),
    }

    def source(self, mode: Mode) -> ArraySource:
        return ArraySource(*make_arrays(mode))


class Scores(Model):
    """Predicts all of them; probabilities lie between the thresholds of the AUC, so that it is exact."""

    names: list[str] = []
    """Metrics to compute; by default all."""

    def build(self, inputs: Tensors) -> Tensors:
        logit = keras.layers.Dense(1, name="binary")(inputs["x"])[:, 0]
        kinds = keras.layers.Dense(LENGTH * CLASSES, name="kinds")(inputs["x"])
        kinds = keras.layers.Reshape((LENGTH, CLASSES))(kinds)
        return {
            "logit": logit,
            "probability": (ops.floor(ops.sigmoid(logit) * 100) + 0.5) / 100,
            "kinds": kinds,
            "kind": ops.cast(ops.argmax(kinds, axis=-1), "int32"),
        }

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": (outputs["logit"] - ops.cast(targets["label"], "float32")) ** 2 + 0 * self.sum_kinds(outputs)}

    def sum_kinds(self, outputs: Tensors) -> Any:
        return ops.sum(outputs["kinds"], axis=(1, 2))

    def make_metrics(self) -> Mapping[str, Any]:
        objects = {
            "auc": keras.metrics.AUC(num_thresholds=101),
            "weighted_auc": keras.metrics.AUC(num_thresholds=101),
            "f1": keras.metrics.F1Score(average="macro"),
            "f1_of": keras.metrics.F1Score(average=None),
            "iou": keras.metrics.MeanIoU(num_classes=CLASSES),
            "top": keras.metrics.SparseTopKCategoricalAccuracy(k=2),
        }
        return {name: metric for name, metric in objects.items() if name in (self.names or objects)}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Mapping[str, Any]:
        is_wrong = ops.cast(targets["kinds"] != outputs["kind"], "float32")
        one_hot, first = ops.one_hot(targets["kinds"][:, 0], CLASSES), outputs["kinds"][:, 0]
        values = {
            "accuracy": ops.cast(targets["kinds"][:, 0] == outputs["kind"][:, 0], "float32"),
            "auc": (targets["label"], outputs["probability"]),
            "weighted_auc": (targets["label"], outputs["probability"], targets["sample_weight"]),
            "token_error": (is_wrong, targets["mask"]),
            "f1": (one_hot, first),
            "f1_of": (one_hot, first),
            "iou": (targets["kinds"], outputs["kind"]),
            "top": (targets["kinds"][:, 0], first),
        }
        return {name: value for name, value in values.items() if name in (self.names or values)}


class Scored(Scenario):
    """Trains with a learning rate that does not change the weights."""

    data: Data = Labels()
    model: Model = Scores()
    trainer: Trainer = Trainer(epochs=1, random_seed=3, lav_every_n=1, sanity_check=False)


def scored(folder: Path | None = None, model: Model | None = None, **trainer: Any) -> Scenario:
    rate = Constant(lr=1e-30)
    scenario = Scored(optimizer=SGD(), learning_rate=rate, lav=LavLoaderSettings(batch_size=20))
    changed = dataclasses.replace(scenario.trainer, output_dir=folder, **trainer)
    batches = {name: dataclasses.replace(getattr(scenario, name), batch_size=16) for name in ("train", "val")}
    return dataclasses.replace(scenario, trainer=changed, model=model or scenario.model, **batches)


def expected(network: Any, mode: Mode) -> dict[str, float]:
    """Return the metrics of scikit-learn for the predictions of a network."""
    inputs, targets = make_arrays(mode)
    outputs = {name: keras.ops.convert_to_numpy(value) for name, value in network(inputs).items()}
    label, weight = targets["label"], targets["sample_weight"]
    kinds, kind = targets["kinds"], outputs["kind"]
    per_class = sklearn_metrics.f1_score(kinds[:, 0], kind[:, 0], average=None, labels=range(CLASSES))
    return {
        "square": np.average((outputs["logit"] - label) ** 2 * weight),
        "accuracy": np.average(kinds[:, 0] == kind[:, 0], weights=weight),
        "auc": sklearn_metrics.roc_auc_score(label, outputs["probability"]),
        "weighted_auc": sklearn_metrics.roc_auc_score(label, outputs["probability"], sample_weight=weight),
        "token_error": np.average(kinds != kind, weights=targets["mask"]),
        "f1": per_class.mean(),
        **{f"f1_of_{number}": value for number, value in enumerate(per_class)},
        "iou": sklearn_metrics.jaccard_score(kinds.ravel(), kind.ravel(), average="macro"),
        "top": sklearn_metrics.top_k_accuracy_score(kinds[:, 0], outputs["kinds"][:, 0], k=2),
    }


@pytest.mark.parametrize(
    ("names", "trainer"),
    [
        (["auc", "f1_of", "token_error"], {"jit_compile": False}),
        slow([], {}),
        slow([], {"jit_compile": False, "accumulate_steps": 3}),
        slow([], {"force_eager": True}),
        slow([], {"steps_per_execution": 1, "on_nan": "skip"}),
    ],
    ids=str,
)
def test_training_validation_and_lav_give_the_values_of_scikit_learn(names: list[str], trainer: dict[str, Any]) -> None:
    result = train(scored(model=Scores(names=names), **trainer))
    row = result.history[-1]
    for prefix, mode in (("", Mode.TRAIN), ("val_", Mode.EVALUATE), ("lav_", Mode.EVALUATE)):
        values = expected(result.network, mode)
        logged = {name: row[prefix + name] for name in values if prefix + name in row}
        assert len(logged) == (6 if names else len(values))
        assert logged == pytest.approx({name: values[name] for name in logged}, abs=1e-6)


class HalfIsNan(Scores):
    """Has a loss that is not finite for one sample."""

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        rows = super().loss(inputs, targets, outputs)["square"]
        return {"square": ops.where(inputs["x"][:, 0] > LARGEST, float("nan"), rows)}


LARGEST = float(np.sort(make_arrays(Mode.TRAIN)[0]["x"][:, 0])[-2])


def test_an_element_of_a_vector_can_be_monitored() -> None:
    class Best(Summed):
        """Monitors an element of a vector."""

        best = ("val_f1_1", "max")

        def make_metrics(self) -> Mapping[str, Any]:
            return {"f1": keras.metrics.F1Score(average=None)}

        def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Mapping[str, Any]:
            return {"f1": (ops.stack([targets["y"], 2 - targets["y"]], 1), ops.stack([inputs["x"][:, 0]] * 2, 1))}

    result = train(small(model=Best(), trainer={"epochs": 1}))
    assert result.best_value == result.history[-1]["val_f1_1"]


@pytest.mark.slow
def test_a_skipped_step_does_not_count_in_a_metric_object() -> None:
    class Counting(HalfIsNan):
        """Counts its samples."""

        def make_metrics(self) -> Mapping[str, Any]:
            return {"count": keras.metrics.Sum()}

        def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Mapping[str, Any]:
            return {"count": ops.ones_like(outputs["logit"])}

    result = train(scored(model=Counting(), on_nan="skip", lav_every_n=0, jit_compile=False))
    assert result.history[-1]["count"] == 96 - 16
    assert result.history[-1]["val_count"] == 75


@pytest.mark.slow
def test_a_run_resumes_exactly_within_an_epoch_when_keras_generates_other_names(tmp_path: Path) -> None:
    trainer = {"epochs": 1, "checkpoint_every": "2steps", "keep_checkpoints": 9}
    train(small(tmp_path / "run", model=Summed(), trainer=trainer))
    copy = copy_as_killed(tmp_path / "run", tmp_path / "copy", Position(0, 4))
    keras.metrics.AUC()  # the names of the next objects differ
    train(small(copy, model=Summed(), trainer=trainer), Resume())
    assert differences(tmp_path / "run", copy) == []


class Summed(Line):
    """Has a metric object of sums."""

    def make_metrics(self) -> Mapping[str, Any]:
        return {"auc": keras.metrics.AUC(num_thresholds=50)}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Mapping[str, Any]:
        return {"auc": (targets["y"] > 1, ops.clip(outputs["sum"], 0, 1))}


class Latest(keras.metrics.Metric):
    """Largest value."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.add_weight(shape=(), initializer="zeros", name="largest")

    def update_state(self, values: Any) -> None:
        self.largest.assign(ops.maximum(self.largest.value, ops.max(values)))

    def result(self) -> Any:
        return ops.convert_to_tensor(self.largest)


class WithLatest(Summed):
    """Has a metric object that is not a sum."""

    def make_metrics(self) -> Mapping[str, Any]:
        return {"auc": Latest()}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Mapping[str, Any]:
        return {"auc": ops.abs(outputs["sum"])}


@pytest.mark.slow
@tensorflow_only
def test_several_devices_give_the_metrics_of_one(call: Call) -> None:
    changes = {"model": Summed(dropout=0.0), "trainer": {"epochs": 2}}
    one, two = (call(trained, devices, changes).last for devices in (ONE, TWO))
    assert two["auc"] == pytest.approx(one["auc"], abs=1e-6)
    assert two["val_auc"] == pytest.approx(one["val_auc"], abs=1e-6)


@pytest.mark.slow
@tensorflow_only
def test_several_devices_reject_a_metric_that_is_not_a_sum(call: Call) -> None:
    with pytest.raises(UsageError, match=r"WithLatest.make_metrics: the state of 'auc' is not a sum over batches"):
        call(trained, TWO, {"model": WithLatest()})
    assert call(trained, ONE, {"model": WithLatest(), "trainer": {"epochs": 1}}).last["auc"] > 0


# Errors before training.


def scores_with(values: Callable[..., Any], objects: Any = None) -> Model:
    class Changed(Line):
        """Has other metrics."""

        def make_metrics(self) -> Any:
            return {} if objects is None else objects()

        def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Any:
            return values(targets["y"], outputs["sum"])

    return Changed()


def auc() -> dict[str, Any]:
    return {"auc": keras.metrics.AUC()}


def accuracies() -> dict[str, Any]:
    return {"f1": keras.metrics.F1Score(average=None)}


class Matrix(Latest):
    """Has a matrix as its result."""

    def result(self) -> Any:
        return ops.zeros((2, 2))


def f1_arguments(y: Any, p: Any) -> tuple[Any, Any]:
    return ops.stack([y, 1 - y], axis=1), ops.stack([p, 1 - p], axis=1)


@pytest.mark.parametrize(
    ("values", "objects", "message"),
    [
        (lambda y, p: {"auc": (y, p)}, lambda: keras.metrics.AUC(), "Changed.make_metrics returned an AUC; it must"),
        (lambda y, p: {"auc": (y, p)}, lambda: {"auc": "AUC"}, "'auc' is a str; expected a keras.metrics.Metric"),
        (lambda y, p: {}, auc, "Changed.metrics returned no arguments for the metric 'auc' of `make_metrics`"),
        (lambda y, p: {"auc": (y, 0.5)}, auc, "'auc' has a float in its arguments; expected a tuple of tensors"),
        (lambda y, p: {"auc": (y, p, y, y)}, auc, r"'auc': AUC does not accept its arguments, of the shapes \(8,\), "),
        (lambda y, p: {"f1": (y, p)}, accuracies, r"'f1': F1Score does not accept its arguments, of the shapes \(8,\)"),
        (
            lambda y, p: {"m": p},
            lambda: {"m": Matrix()},
            r"the result of Matrix is of shape \(2, 2\); expected a scalar",
        ),
        (
            lambda y, p: {"f1": f1_arguments(y, p), "f1_0": p},
            accuracies,
            "Changed.metrics: two results are named 'f1_0'; rename a metric",
        ),
        (lambda y, p: {"val_a": (y, p)}, lambda: {"val_a": keras.metrics.AUC()}, "'val_a' is reserved by the trainer"),
        (
            lambda y, p: {"e": (y, p, p)},
            None,
            r"'e' is a tuple \(.+\); expected \(values, weights\), or an object with",
        ),
        (lambda y, p: {"e": (y, ops.sum(p))}, None, r"'e' has values of shape \(8,\) and weights of shape \(\) for a"),
        (
            lambda y, p: {"e": keras.metrics.AUC()},
            None,
            "'e' is a metric object; return it from `make_metrics`, and the",
        ),
    ],
)
def test_wrong_metrics_are_rejected_before_training(values: Any, objects: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(small(model=scores_with(values, objects), data=Points(samples=16)))


# Sample weights.


class Weighted(Line):
    """Has a loss and metrics without weights."""


class WeightedPoints(Points):
    """Points with weights, as tuples of Keras or as arrays."""

    as_tuples: bool = False
    """Whether the source yields (x, y, sample_weight)."""

    targets = {"y": Spec(()), "sample_weight": Spec(())}

    def source(self, mode: Mode) -> Any:
        points = super().source(mode)
        assert isinstance(points, ArraySource)
        weights = np.random.default_rng(3).uniform(0, 3, len(points)).astype("float32")
        if not self.as_tuples:
            return ArraySource(points.inputs, {**points.targets, "sample_weight": weights})
        return list(zip(points.inputs["x"], points.targets["y"], weights, strict=True))


@pytest.mark.parametrize("as_tuples", [False, True])
def test_sample_weights_give_the_loss_and_weighted_metric_of_keras(as_tuples: bool) -> None:
    data = WeightedPoints(as_tuples=as_tuples)
    result = train(small(data=data, model=Weighted(), evaluator=None, trainer={"epochs": 1, "lav_every_n": 1}))
    arrays = WeightedPoints().source(Mode.EVALUATE)
    network = keras.Model(result.network.inputs, result.network.outputs[0])
    network.compile(loss="mse", weighted_metrics=["mae"])
    y, weight = arrays.targets["y"][:, None], arrays.targets["sample_weight"]
    loss, error = network.evaluate(arrays.inputs["x"], y, sample_weight=weight, batch_size=32, verbose=0)
    row = result.history[-1]
    for prefix in ("val_", "lav_"):
        assert (row[f"{prefix}loss"], row[f"{prefix}error"]) == pytest.approx((loss, error), abs=1e-6)


def test_a_sample_of_weight_0_does_not_change_the_weights() -> None:
    class Masked(WeightedPoints):
        """Half of the targets are wrong, and do not count."""

        wrong: float = 0.0
        """Added to targets of weight 0."""

        def source(self, mode: Mode) -> Any:
            source = super().source(mode)
            weights = np.arange(len(source)) % 2
            y = source.targets["y"] + self.wrong * (1 - weights)
            return ArraySource(source.inputs, {"y": y.astype("float32"), "sample_weight": weights.astype("float32")})

    right, wrong = (train(small(data=Masked(wrong=value), trainer={"epochs": 1})) for value in (0.0, 5.0))
    assert wrong.history[-1]["val_loss"] == right.history[-1]["val_loss"]


class ScalarLoss(Line):
    """Averages its loss."""

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": ops.mean((targets["y"] - outputs["sum"]) ** 2)}


def test_sample_weights_require_one_loss_per_sample() -> None:
    with pytest.raises(UsageError, match=r"ScalarLoss.loss: 'square' is a scalar; the target 'sample_weight' requires"):
        train(small(data=WeightedPoints(), model=ScalarLoss()))


def test_sample_weights_are_one_number_per_sample() -> None:
    class Pairs(WeightedPoints):
        """Two weights for each sample."""

        targets = {"y": Spec(()), "sample_weight": Spec((1,))}

        def source(self, mode: Mode) -> Any:
            source = super().source(mode)
            weights = source.targets["sample_weight"][:, None]
            return ArraySource(source.inputs, {**source.targets, "sample_weight": weights})

    with pytest.raises(UsageError, match=r"target 'sample_weight' has shape \(1,\); expected one number per sample"):
        train(small(data=Pairs()))


class Classes(WeightedPoints):
    """Points of two classes, of which a quarter has class 1."""

    rare_weight: float = 1.0
    """Sample weight of class 1."""

    targets = {"y": Spec(()), "label": Spec((), "int32"), "sample_weight": Spec(())}

    def source(self, mode: Mode) -> Any:
        source = super().source(mode)
        label = (np.arange(len(source)) % 4 == 0).astype("int32")
        weights = np.where(label, self.rare_weight, 1).astype("float32")
        return ArraySource(source.inputs, {"y": source.targets["y"], "label": label, "sample_weight": weights})


def test_class_weights_and_sample_weights_are_multiplied() -> None:
    settings = {"model": Line(dropout=0.0), "optimizer": SGD(), "learning_rate": Constant(lr=1e-30)}
    settings |= {"trainer": {"epochs": 1, "val_every_n": 0}}
    plain = train(small(data=Classes(samples=96), **settings)).history[-1]
    # The class weights are 2 and 2/3, so all products are 2/3.
    data = Classes(samples=96, rare_weight=1 / 3)
    weighted = train(small(data=data, train={"balance": "loss"}, **settings)).history[-1]
    assert weighted["loss"] == pytest.approx(2 / 3 * plain["loss"], abs=1e-6)
