"""Ids and labels out of range: a named error at exactly that step, in any layer and mode."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY, Run, slow
from keras import ops
from small import small

from tfaip_like import ArraySource, Data, Mode, Model, Sample, Spec, Tensors, UsageError, load_predictor, train
from tfaip_like._export.exported_model import load_export
from tfaip_like._keras_ext import range_checks
from tfaip_like._training.non_finite import compute_losses
from tfaip_like._training.steps.training_model import TrainingModel, to_model_inputs
from tfaip_like.data import PredictLoaderSettings, ValLoaderSettings
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import no_check
from tfaip_like.data._loader.loader_factory import open_validation
from tfaip_like.evaluation._bad_values import find_bad_value
from tfaip_like.inference._lav import load_and_validate
from tfaip_like.modeling._network import build_networks

SIZE = 5
CLASSES = 3


class Ids(Data):
    """Four ids and a label each; one of them may be out of range."""

    dtype: str = "int32"
    """Of the ids."""

    bad_id: int | None = None
    """At the third place of sample 10."""

    bad_label: int | None = None
    """Of sample 10."""

    bad_mode: str = "train"
    """The mode whose samples hold them."""

    inputs = {"x": Spec((4,), "int32")}
    targets = {"y": Spec((), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        x = np.random.default_rng(0).integers(0, SIZE, (16, 4)).astype(self.dtype)
        y = x[:, 0].astype("int32") % CLASSES
        if mode.value == self.bad_mode:
            if self.bad_id is not None:
                x[10, 2] = self.bad_id
            if self.bad_label is not None:
                y[10] = self.bad_label
        return ArraySource({"x": x}, {"y": y})


class ByteIds(Ids):
    """Ids of eight bits."""

    inputs = {"x": Spec((4,), "uint8")}


class LongIds(Ids):
    """Ids of 64 bits."""

    dtype: str = "int64"
    """Of the ids."""

    inputs = {"x": Spec((4,), "int64")}


class FloatIds(Ids):
    """Ids as floats."""

    inputs = {"x": Spec((4,), "float32")}


@keras.saving.register_keras_serializable("test_ranges")
class LookUpCell(keras.layers.Layer):
    """A recurrent cell that looks ids up."""

    state_size = 3

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.table = keras.layers.Embedding(SIZE, 3, name="inner")

    def build(self, shape: Any) -> None:
        self.table.build()
        self.built = True

    def call(self, inputs: Any, states: Sequence[Any], training: bool = False) -> tuple[Any, list[Any]]:
        state = ops.tanh(states[0] + self.table(inputs)[:, 0])
        return state, [state]


def embedding(**options: Any) -> keras.layers.Embedding:
    return keras.layers.Embedding(SIZE, 3, name="table", **options)


def shared(x: Any) -> Any:
    table = embedding()
    return table(x[:, :1]) + table(x[:, 1:])


NETWORKS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda x: embedding()(x),
    "masked, then recurrent": lambda x: keras.layers.LSTM(3)(embedding(mask_zero=True)(x)),
    "lora": lambda x: embedding(lora_rank=2)(x),
    "reversible": lambda x: keras.layers.ReversibleEmbedding(SIZE, 3, name="table")(x),
    "nested": lambda x: keras.Sequential([keras.Sequential([embedding()]), keras.layers.Dense(3)])(x),
    "time distributed": lambda x: keras.layers.TimeDistributed(embedding())(x[:, :, None]),
    "cell": lambda x: keras.layers.RNN(LookUpCell())(x[:, :, None]),
    "shared": shared,
    "lost by a maximum": lambda x: ops.max(embedding()(x), axis=1),
    "lost by pooling": lambda x: keras.layers.MaxPooling1D(4)(embedding()(x)),
    "encoding": lambda x: keras.layers.CategoryEncoding(SIZE, name="table")(x),
}


class Network(Model):
    """Ids to classes."""

    kind: str = "plain"
    """Of the layers that take the ids."""

    def build(self, inputs: Tensors) -> Tensors:
        features = keras.layers.Flatten()(NETWORKS[self.kind](inputs["x"]))
        return {"p": keras.layers.Dense(CLASSES, activation="softmax")(features)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"ce": keras.losses.sparse_categorical_crossentropy(targets["y"], outputs["p"])}


def error_of(data: Data, kind: str = "plain", **trainer: Any) -> str:
    scenario = small(
        data=data,
        model=Network(kind=kind),
        evaluator=None,
        train={"shuffle": False, "batch_size": 4},
        trainer={"epochs": 1, **trainer},
    )
    with pytest.raises(UsageError) as caught:
        train(scenario)
    return str(caught.value)


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_id_out_of_range_makes_the_loss_nan_and_is_found_in_every_network(kind: str) -> None:
    model = Network(kind=kind)
    good = Batch({"x": np.full((6, 4), SIZE - 1, "int32")}, {"y": np.zeros(6, "int32")})
    training = TrainingModel(build_networks(model, Ids()).training, model, good)

    @tf.function(jit_compile=True)
    def loss(batch: Any) -> Any:
        return training.compute_loss(x=batch, y_pred=training(batch, training=True))

    assert np.isfinite(loss(to_model_inputs(good)).numpy())
    assert find_bad_value(good, partial(compute_losses, training)) is None
    bad = copy.deepcopy(good)
    bad.inputs["x"][4, 2] = 900
    assert np.isnan(loss(to_model_inputs(bad)).numpy())
    found = find_bad_value(bad, partial(compute_losses, training))
    assert found is not None
    assert re.fullmatch(r"id 900 is out of range for (\w*Embedding|CategoryEncoding) '\w+' \(0..4\)", found.reason)
    assert (found.row, found.array) == (4, "input 'x'")


@pytest.mark.parametrize("kind", [slow("plain"), "lost by a maximum"])
def test_an_id_out_of_range_stops_at_its_step_by_name(kind: str) -> None:
    message = error_of(Ids(bad_id=900), kind)
    assert "at epoch 1, step 3" in message
    assert message.endswith(
        "id 900 is out of range for Embedding 'table' (0..4): input 'x' of training sample 10 of Ids."
    )


@pytest.mark.parametrize(
    ("data", "number"),
    [(Ids(bad_id=-1), "-1"), slow(Ids(bad_id=5), "5"), (ByteIds(bad_id=200), "200"), slow(FloatIds(bad_id=5), "5")],
)
@pytest.mark.parametrize("trainer", [{"jit_compile": True}, slow({"force_eager": True})])
def test_ids_of_every_type_are_checked(data: Data, number: str, trainer: dict[str, Any]) -> None:
    message = error_of(data, **trainer)
    assert "at epoch 1, step 3" in message
    assert f"id {number} is out of range for Embedding 'table' (0..4): input 'x' of training sample 10" in message


@pytest.mark.parametrize("label", [CLASSES, slow(-1)])
@pytest.mark.parametrize("trainer", [{}, slow({"jit_compile": True})])
def test_a_label_out_of_range_stops_at_its_step_by_name(label: int, trainer: dict[str, Any]) -> None:
    message = error_of(Ids(bad_label=label), **trainer)
    assert "at epoch 1, step 3" in message
    assert f"label {label} is out of range for 3 classes (0..2): target 'y' of training sample 10 of Ids." in message


def test_a_bad_step_is_exact_with_accumulation_and_several_steps_per_execution() -> None:
    message = error_of(Ids(bad_id=900), accumulate_steps=2, steps_per_execution=2)
    assert "at epoch 1, step 2" in message
    assert "training sample 10 of Ids" in message


def test_steps_with_an_id_out_of_range_can_be_skipped(caplog: pytest.LogCaptureFixture) -> None:
    train(small(data=Ids(bad_id=900), model=Network(), evaluator=None, trainer={"epochs": 1, "on_nan": "skip"}))
    assert "step skipped. id 900 is out of range for Embedding 'table' (0..4)" in caplog.text


@pytest.mark.parametrize("kind", [slow("plain"), "lost by a maximum"])
def test_an_id_out_of_range_in_validation_names_its_sample(kind: str) -> None:
    message = error_of(Ids(bad_id=900, bad_mode="evaluate"), kind)
    assert message.startswith("val_loss is not finite.\nid 900 is out of range")
    assert "input 'x' of validation sample 10 of Ids" in message


def test_a_label_out_of_range_in_validation_names_its_sample() -> None:
    message = error_of(Ids(bad_label=7, bad_mode="evaluate"))
    assert "label 7 is out of range for 3 classes (0..2): target 'y' of validation sample 10 of Ids" in message


def test_ignored_labels_may_be_any_number() -> None:
    losses = keras.losses.sparse_categorical_crossentropy(
        ops.convert_to_tensor([-1, 1, 7]), ops.ones((3, CLASSES)) / CLASSES, ignore_class=-1
    )
    found = ops.convert_to_numpy(losses)
    assert found[0] == 0
    assert np.isfinite(found[1])
    assert np.isnan(found[2])


def test_rows_in_range_and_their_gradients_keep_their_bits() -> None:
    layer = keras.layers.Embedding(50, 7)
    layer.build()
    ids = tf.constant(np.random.default_rng(0).integers(0, 50, (8, 6)))
    raw = keras.layers.Embedding.call.__wrapped__

    @tf.function(jit_compile=True)
    def both(call: Any) -> Any:
        with tf.GradientTape() as tape:
            rows = call(ids)
            loss = tf.reduce_sum(rows**3)
        return rows, tf.convert_to_tensor(tape.gradient(loss, layer.trainable_variables[0]))

    for checked, plain in zip(both(layer), both(lambda ids: raw(layer, ids)), strict=True):
        assert np.array_equal(checked.numpy(), plain.numpy())


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_ids_of_quantised_embeddings_are_checked(mode: str) -> None:
    layer = keras.layers.Embedding(SIZE, 4)
    layer.build()
    layer.quantize(mode)
    rows = ops.convert_to_numpy(layer(ops.convert_to_tensor([[0, 4, 5, -1]])))
    assert np.isfinite(rows[0, :2]).all()
    assert np.isnan(rows[0, 2:]).all()


def test_labels_of_ctc_are_checked_up_to_their_length() -> None:
    outputs = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32"))
    labels = ops.convert_to_tensor([[1, 2, 9], [1, 9, 2]])
    losses = ops.convert_to_numpy(ops.ctc_loss(labels, outputs, ops.array([2, 2]), ops.array([6, 6])))
    assert np.isfinite(losses[0])
    assert np.isnan(losses[1])


def test_top_k_counts_labels_out_of_range_as_missed() -> None:
    scores = ops.convert_to_tensor([[0.1, 0.2, 0.7]] * 3)
    found = keras.metrics.sparse_top_k_categorical_accuracy(ops.convert_to_tensor([2, 3, -1]), scores, k=3)
    assert ops.convert_to_numpy(found).tolist() == [1, 0, 0]


def test_checks_are_installed_once() -> None:
    before = keras.layers.Embedding.call
    range_checks.install()
    assert keras.layers.Embedding.call is before


class ByHand(Network):
    """Calls TensorFlow itself."""

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"ce": tf.nn.sparse_softmax_cross_entropy_with_logits(targets["y"], outputs["p"])}


@pytest.mark.parametrize(
    ("jit_compile", "step"),
    [(False, "training failed at epoch 1, step 3 (global step 3)."), slow(True, "at epoch 1, step 3")],
)
def test_a_value_that_an_operation_of_tensorflow_rejects_names_its_sample(jit_compile: bool, step: str) -> None:
    scenario = small(
        data=Ids(bad_label=7),
        model=ByHand(),
        evaluator=None,
        train={"shuffle": False, "batch_size": 4},
        trainer={"epochs": 1, "jit_compile": jit_compile},
    )
    with pytest.raises(UsageError) as caught:
        train(scenario)
    assert step in str(caught.value)
    assert "Received a label value of 7 which is outside the valid range of [0, 3)" in str(caught.value)
    assert str(caught.value).endswith(": training sample 10 of Ids.")


# Exports.


class Answering(Network):
    """Answers with the class, of which no value is NaN."""

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors:
        return {"p": trained.output["p"], "class": ops.argmax(trained.output["p"], axis=-1)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Provide runs of networks that would lose a NaN, by kind."""
    folder = tmp_path_factory.mktemp("runs")
    for kind in ("lost by a maximum", "cell"):
        train(small(folder / kind, data=Ids(), model=Answering(kind=kind), evaluator=None, trainer={"epochs": 1}))
    return {kind: folder / kind for kind in ("lost by a maximum", "cell")}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "layer"), [("lost by a maximum", "table"), ("cell", "inner")])
@pytest.mark.parametrize("number", [900, -1])
def test_an_export_rejects_an_id_out_of_range_by_its_sample(
    runs: dict[str, Path], kind: str, layer: str, number: int
) -> None:
    predictor = load_predictor(runs[kind])
    ids = np.zeros((7, 4), "int32")
    assert len(list(predictor({"x": ids}))) == 7
    ids[5, 1] = number
    with pytest.raises(UsageError) as caught:
        list(predictor({"x": ids}, PredictLoaderSettings(batch_size=4)))
    assert str(caught.value) == f"id {number} is out of range for Embedding '{layer}' (0..4): prediction sample 5"
    with pytest.raises(UsageError, match=rf"id {number} is out of range for Embedding '{layer}' \(0\.\.4\)"):
        predictor.one({"x": ids[5]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            Ids(bad_id=900, bad_mode="evaluate"),
            "id 900 is out of range for Embedding 'table' (0..4): validation sample 10",
        ),
        (
            Ids(bad_label=3, bad_mode="evaluate"),
            "ce is not finite.\nlabel 3 is out of range for 3 classes (0..2): target 'y' of validation sample 10",
        ),
    ],
)
def test_lav_names_the_sample_with_an_id_or_label_out_of_range(runs: dict[str, Path], data: Data, message: str) -> None:
    batches = open_validation(data, data.source(Mode.EVALUATE), ValLoaderSettings(batch_size=4), 0, no_check, "lav")
    assert batches is not None
    exported = load_export(runs["lost by a maximum"] / "best")
    with closing(batches), pytest.raises(UsageError) as caught:
        load_and_validate(exported, batches, Answering(kind="lost by a maximum"), None)
    assert str(caught.value).startswith(message)


# JAX.


@pytest.mark.slow
def test_ids_and_labels_out_of_range_are_named_on_jax(run: Run, tmp_path: Path) -> None:
    code = (
        "import sys; from test_ranges import *\n"
        "for data in (Ids(bad_id=900), Ids(bad_id=-1), Ids(bad_label=3), Ids(bad_id=900, bad_mode='evaluate'),\n"
        "             LongIds(bad_id=2**32 + 1)):\n"
        "    print('ERROR', error_of(data, 'lost by a maximum'))\n"
    )
    environment = {"KERAS_BACKEND": "jax", "PYTHONPATH": f"{Path(__file__).parent}:{REPOSITORY}"}
    done = run(sys.executable, "-c", code, environment=environment, cwd=tmp_path)
    found = " ".join(done.stdout.split()).split("ERROR ")[1:]
    assert len(found) == 5, done.stderr
    step = "non-finite loss (ce) at epoch 1, step 3 (global step 3)."
    place = "input 'x' of training sample 10 of Ids."
    assert found[0].strip() == f"{step} id 900 is out of range for Embedding 'table' (0..4): {place}"
    assert found[1].strip() == f"{step} id -1 is out of range for Embedding 'table' (0..4): {place}"
    assert "label 3 is out of range for 3 classes (0..2): target 'y' of training sample 10" in found[2]
    assert "id 900 is out of range for Embedding 'table' (0..4): input 'x' of validation sample 10" in found[3]
    assert "input 'x' has values from" in found[4]
