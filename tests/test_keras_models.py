"""Existing Keras models as the model of a scenario: inputs, outputs, losses, files, applications and LoRA."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from conftest import slow
from small import Points, Small, small
from stopping import copy_as_killed, differences

from tfaip_like import ArraySource, Data, KerasModel, Mode, Model, Sample, Scenario, Spec, Tensors, UsageError, train
from tfaip_like._export.eager_network import rebuild_networks
from tfaip_like._export.exported_model import load_export
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import list_checkpoints
from tfaip_like.modeling import KerasApplication, KerasFile
from tfaip_like.modeling._keras_functions import compute_keras_functions
from tfaip_like.modeling._network import build_networks, reset_keras
from tfaip_like.optimizers import Adam
from tfaip_like.params._tree import validate_params
from tfaip_like.schedules import Constant
from tfaip_like.settings import Resume

X = np.random.default_rng(1).random((8, 2), dtype="float32")


def functional() -> keras.Model:
    x = keras.Input((2,))
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(x, keras.layers.Dense(1, name="head")(hidden), name="net")


class Subclassed(keras.Model):
    """Network that is defined by its `call`."""

    def __init__(self, units: int = 8):
        super().__init__(name="subclassed")
        self.hidden = keras.layers.Dense(units, activation="relu")
        self.head = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.head(self.hidden(x))


class Functional(KerasModel):
    """Functional model."""

    keras_losses = ["mse"]
    keras_metrics = ["mean_absolute_error"]

    def build_model(self, inputs: Tensors) -> keras.Model:
        return functional()


class Sequential(Functional):
    """Sequential model without an input layer."""

    def build_model(self, inputs: Tensors) -> keras.Model:
        return keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])


class OfSubclass(Functional):
    """Subclassed model."""

    def build_model(self, inputs: Tensors) -> keras.Model:
        return Subclassed()


def built(model: Model, data: Data | None = None) -> keras.Model:
    reset_keras("float32")
    validate_params(model)
    return build_networks(model, data or Points()).training


@pytest.mark.parametrize("model", [slow(Functional(output_names=["output"])), slow(Sequential()), OfSubclass()])
def test_a_keras_model_is_trained_exported_and_resumed(tmp_path: Path, model: Model) -> None:
    scenario = small(tmp_path / "run", model=model, evaluator=None, trainer={"keep_checkpoints": 10})
    result = train(scenario)
    assert result.history[-1]["val_mse"] == pytest.approx(result.history[-1]["val_loss"])
    assert result.history[-1]["val_mean_absolute_error"] < result.history[0]["val_mean_absolute_error"]
    np.testing.assert_allclose(
        load_export(tmp_path / "run" / "export", trust_code=True)({"x": X})["output"],
        result.network.predict_on_batch({"x": X})["output"],
        rtol=1e-5,
    )
    assert resume_from_first_epoch(scenario, tmp_path) == []


def resume_from_first_epoch(scenario: Small, folder: Path) -> list[str]:
    """Return how a run that is resumed after its first epoch differs from the one in `run`."""
    first = list_checkpoints(OutputDir(folder / "run").checkpoints)[0]
    copy_as_killed(folder / "run", folder / "resumed", first.position)
    trainer = dataclasses.replace(scenario.trainer, output_dir=folder / "resumed")
    train(dataclasses.replace(scenario, trainer=trainer), Resume())
    return differences(folder / "run", folder / "resumed")


def test_paths_of_weights_begin_with_the_name_of_the_model() -> None:
    assert list(weight_paths(built(Functional())))[:2] == ["net/hidden/kernel", "net/hidden/bias"]
    assert "sequential/dense_1/kernel" in weight_paths(built(Sequential()))
    assert "subclassed/head/kernel" in weight_paths(built(OfSubclass()))


class Pairs(Data):
    """Two inputs and two targets."""

    inputs = {"left": Spec((2,)), "right": Spec((3,))}
    targets = {"sum": Spec(()), "is_large": Spec((), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample]:
        random = np.random.default_rng(0)
        left, right = random.random((40, 2), "float32"), random.random((40, 3), "float32")
        total = left.sum(1) + right.sum(1)
        return ArraySource({"left": left, "right": right}, {"sum": total, "is_large": (total > 2.5).astype("int32")})


class TwoHeads(KerasModel):
    """Two inputs and two outputs."""

    input_names: list[str] = ["left", "right"]
    """Names of the inputs of the Keras model."""
    heads: list[str] = ["sum", "is_large"]
    """Names of the layers of the outputs."""

    keras_losses = ["sum=mse", "is_large=binary_crossentropy"]
    keras_metrics = ["is_large=binary_accuracy"]

    def build_model(self, inputs: Tensors) -> keras.Model:
        left, right = (keras.Input((size,), name=name) for size, name in zip((2, 3), self.input_names, strict=True))
        hidden = keras.layers.Dense(8, activation="relu")(keras.layers.Concatenate()([left, right]))
        names = self.heads or [None, None]
        activations = (None, "sigmoid")
        outputs = [keras.layers.Dense(1, act, name=name)(hidden) for act, name in zip(activations, names, strict=True)]
        return keras.Model([left, right], outputs)


def test_outputs_with_the_names_of_targets_have_their_losses() -> None:
    result = train(Scenario(data=Pairs(), model=TwoHeads(), trainer=small().trainer, evaluator=None))
    assert {"sum_mse", "is_large_binary_crossentropy", "binary_accuracy"} <= set(result.history[-1])


def test_inputs_are_matched_by_name_or_by_order() -> None:
    right_first = TwoHeads(input_names=["a", "b"])
    assert built(right_first, Pairs()).predict_on_batch({"left": X[:1], "right": np.ones((1, 3))})["sum"].shape == (
        1,
        1,
    )


class Columns(Points):
    """Points with an additional axis."""

    inputs = {"x": Spec((2, 1))}


class ForColumns(Functional):
    """Model for inputs with an additional axis."""

    def build_model(self, inputs: Tensors) -> keras.Model:
        return keras.Sequential([keras.Input((2, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])


def test_a_last_axis_of_length_1_is_added_or_removed() -> None:
    assert built(ForColumns()).predict_on_batch({"x": X})["output"].shape == (8, 1)
    assert built(Functional(), Columns()).predict_on_batch({"x": X[..., None]})["head"].shape == (8, 1)


@pytest.mark.parametrize(
    ("names", "described"),
    [(["right", "left"], r"right \(2,\), left \(3,\)"), (["left", "other"], r"left \(2,\), other \(3,\)")],
)
def test_inputs_that_do_not_match_are_listed_with_those_expected(names: list[str], described: str) -> None:
    message = rf"TwoHeads.build_model: the model expects the inputs {described}; the data has left \(2,\), right \(3,\)"
    with pytest.raises(UsageError, match=message):
        built(TwoHeads(input_names=names), Pairs())


def test_outputs_without_names_are_named_by_a_parameter() -> None:
    with pytest.raises(UsageError, match="the model has 2 outputs, and their layers have no names; set `output_names`"):
        built(TwoHeads(heads=[]), Pairs())
    assert list(built(TwoHeads(heads=[], output_names=["a", "b"]), Pairs()).output) == ["a", "b"]
    with pytest.raises(UsageError, match="the model has 2 outputs, and `output_names` has a"):
        built(TwoHeads(output_names=["a"]), Pairs())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"keras_losses": ["sum=msee"]},
            r"TwoHeads.keras_losses msee: not in keras.losses; did you mean mean_squared_error\?",
        ),
        (
            {"keras_losses": ["mse"]},
            r"keras_losses mse: expected OUTPUT=NAME with one of the outputs (sum|is_large), (sum|is_large)",
        ),
        ({"keras_metrics": ["is_large=AUC"]}, r"TwoHeads.keras_metrics AUC: not an average over samples"),
        ({"output_names": ["sum", "other"], "keras_losses": ["other=mse"]}, r"'other' has no target of its name"),
    ],
)
def test_a_loss_or_metric_that_cannot_be_computed_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(Scenario(data=Pairs(), model=TwoHeads(**changes), trainer=small().trainer, evaluator=None))


def test_a_model_without_a_loss_is_an_error() -> None:
    with pytest.raises(
        UsageError, match="keras_losses .*is empty; name a loss of Keras such as mse, or override `loss`"
    ):
        validate_params(Functional(keras_losses=[]))


def values(kind: Any, name: str, targets: Any, outputs: Any, from_logits: bool = False) -> np.ndarray[Any, Any]:
    tensors = [keras.ops.convert_to_tensor(np.asarray(array)) for array in (targets, outputs)]
    computed = compute_keras_functions(kind, [name], {"y": tensors[0]}, {"p": tensors[1]}, from_logits)
    return np.asarray(keras.ops.convert_to_numpy(computed[name]))


@pytest.mark.parametrize("name", ["mse", "MeanSquaredError", "mean_squared_error"])
def test_a_loss_has_one_value_per_sample_in_each_spelling(name: str) -> None:
    np.testing.assert_allclose(values("losses", name, [1.0, 2.0], [[0.0], [4.0]]), [1.0, 4.0])
    images = np.arange(16, dtype="float32").reshape(2, 2, 2, 2)
    assert values("losses", name, images, images + 2).tolist() == [4.0, 4.0]


def test_accuracy_is_that_of_the_shapes() -> None:
    one_hot, scores = np.eye(3, dtype="float32"), np.array([[2, 1, 1], [2, 1, 1], [0, 0, 1]], "float32")
    assert values("metrics", "accuracy", one_hot, scores).tolist() == [1, 0, 1]
    assert values("metrics", "accuracy", np.arange(3), scores).tolist() == [1, 0, 1]
    assert values("metrics", "accuracy", [1, 1], [[0.4], [0.6]]).tolist() == [0, 1]


def test_logits_have_the_losses_and_accuracy_of_probabilities() -> None:
    logits = np.array([[-1.0], [0.3], [2.0]], "float32")
    probabilities = 1 / (1 + np.exp(-logits))
    labels = np.array([0, 1, 0], "int32")
    for kind, name in [
        ("losses", "binary_crossentropy"),
        ("losses", "BinaryCrossentropy"),
        ("metrics", "binary_accuracy"),
    ]:
        np.testing.assert_allclose(
            values(kind, name, labels, logits, from_logits=True), values(kind, name, labels, probabilities), rtol=1e-4
        )


def test_a_part_is_frozen_by_its_path(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"model": Functional(), "evaluator": None}
    frozen = small(tmp_path / "a", trainer={"no_train_scope": "net/hidden"}, **changes)
    start = {path: np.array(weight) for path, weight in weight_paths(built(Functional())).items()}
    network = train(frozen).network
    assert not network.get_layer("net").get_layer("hidden").trainable
    assert set(start) == set(weight_paths(network))


def test_weights_of_the_original_model_are_loaded_below_a_prefix(tmp_path: Path) -> None:
    original = functional()
    original.save(tmp_path / "net.keras")
    warm_start = {"model": tmp_path / "net.keras", "rename": ["^->net/"]}
    scenario = small(model=Functional(), evaluator=None, warmstart=warm_start, trainer={"no_train_scope": "net/hidden"})
    network = train(scenario).network
    np.testing.assert_array_equal(
        network.get_layer("net").get_layer("hidden").kernel, original.get_layer("hidden").kernel
    )


def test_a_keras_file_is_trained_further_and_copied_into_the_export(tmp_path: Path) -> None:
    original = functional()
    original.save(tmp_path / "net.keras")
    model = KerasFile(file=tmp_path / "net.keras", keras_losses=["mse"], output_names=["sum"])
    np.testing.assert_allclose(built(model).predict_on_batch({"x": X})["sum"], original.predict_on_batch(X), rtol=1e-5)
    train(small(tmp_path / "run", model=model, evaluator=None))
    assert (tmp_path / "run" / "best" / "resources" / "net.keras").is_file()


def test_the_output_of_a_sequential_file_has_the_name_of_its_layer(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="sum")]).save(tmp_path / "net.keras")
    assert list(built(KerasFile(file=tmp_path / "net.keras", keras_losses=["mse"])).output) == ["sum"]


def test_a_file_without_a_keras_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "net.keras").write_text("no model")
    with pytest.raises(UsageError, match=r"--model.file .*net.keras: cannot load it"):
        built(KerasFile(file=tmp_path / "net.keras", keras_losses=["mse"]))
    with pytest.raises(UsageError, match="--file none: is required"):
        validate_params(KerasFile(keras_losses=["mse"]))


class Layers(Functional):
    """Model with layers of each kind that LoRA adapts, next to others."""

    def build_model(self, inputs: Tensors) -> keras.Model:
        x = keras.Input((2,))
        hidden = keras.layers.Embedding(4, 6, name="embedding")(keras.ops.cast(x * 3, "int32"))
        hidden = keras.layers.EinsumDense("btd,de->bte", (2, 5), bias_axes="e", name="einsum")(hidden)
        hidden = keras.layers.Conv1D(4, 2, name="conv")(hidden)
        hidden = keras.layers.BatchNormalization(name="norm")(keras.layers.Flatten()(hidden))
        return keras.Model(x, keras.layers.Dense(1, name="head")(hidden), name="net")


def lora(path: str) -> bool:
    return "/lora_" in path


@pytest.mark.slow
def test_lora_trains_low_rank_updates_only(tmp_path: Path) -> None:
    scenario = small(
        tmp_path / "run", model=Layers(lora_rank=2), evaluator=None, trainer={"epochs": 2, "keep_checkpoints": 10}
    )
    before = {path: np.array(weight) for path, weight in weight_paths(built(Layers())).items()}
    network = train(scenario).network
    after = {path: np.array(weight) for path, weight in weight_paths(network).items()}
    trained = {path for path, weight in weight_paths(network).items() if weight.trainable}
    assert trained == set(filter(lora, after))
    assert len(trained) == 8
    assert set(after) - trained == set(before)
    # What a frozen BatchNormalization counts is unchanged too.
    assert np.array_equal(after["net/norm/moving_mean"], before["net/norm/moving_mean"])
    assert after["net/head/lora_kernel_b"].any()
    assert resume_from_first_epoch(scenario, tmp_path) == []


@pytest.mark.slow
def test_an_export_has_the_low_rank_updates_merged(tmp_path: Path) -> None:
    scenario = small(tmp_path / "run", model=Layers(lora_rank=2, lora_alpha=4.0), evaluator=None, optimizer=Adam())
    scenario = dataclasses.replace(scenario, learning_rate=Constant(lr=0.05))
    network = train(scenario).network
    export = tmp_path / "run" / "export"
    expected = network.predict_on_batch({"x": X})["head"]
    np.testing.assert_allclose(load_export(export, trust_code=True)({"x": X})["head"], expected, rtol=1e-4)
    loaded = keras.saving.load_model(export / "model.keras")
    np.testing.assert_allclose(loaded.predict_on_batch({"x": X})["head"], expected, rtol=1e-4)
    assert not any("lora" in weight.path for weight in loaded.weights)
    with np.load(export / "weights.npz") as stored:
        assert not any(map(lora, stored))
        head = network.get_layer("net").get_layer("head")
        np.testing.assert_allclose(stored["net/head/kernel"], merged_kernel(head), rtol=1e-5)
    rebuilt = rebuild_networks(export, scenario).exported
    np.testing.assert_allclose(rebuilt.predict_on_batch({"x": X})["head"], expected, rtol=1e-4)
    assert head.lora_enabled
    assert not np.array_equal(stored_base(head), merged_kernel(head))


def merged_kernel(layer: keras.Layer) -> np.ndarray[Any, Any]:
    return np.asarray(keras.ops.convert_to_numpy(layer.kernel))


def stored_base(layer: keras.Layer) -> np.ndarray[Any, Any]:
    return np.asarray(keras.ops.convert_to_numpy(layer._kernel.value))


@pytest.mark.slow
def test_lora_starts_from_a_run_without_it(tmp_path: Path) -> None:
    first = train(small(tmp_path / "first", model=Layers(), evaluator=None, trainer={"epochs": 1}))
    for source in (tmp_path / "first", tmp_path / "first" / "export" / "model.keras"):
        tuned = small(model=Layers(lora_rank=2), evaluator=None, warmstart={"model": source}, trainer={"epochs": 1})
        np.testing.assert_array_equal(
            stored_base(train(tuned).network.get_layer("net").get_layer("head")),
            stored_base(first.network.get_layer("net").get_layer("head")),
        )


def test_lora_adapts_the_layers_of_a_pattern() -> None:
    network = built(Layers(lora_rank=2, lora_layers="^(einsum|head)$"))
    trained = {path for path, weight in weight_paths(network).items() if weight.trainable}
    assert {path.rpartition("/")[0] for path in trained} == {"net/einsum", "net/head"}
    with pytest.raises(UsageError, match="lora_layers wrong: no suitable layer matches; available: embedding, einsum"):
        built(Layers(lora_rank=2, lora_layers="wrong"))


def test_lora_leaves_layers_of_a_pattern_trainable() -> None:
    network = built(Layers(lora_rank=2, lora_layers="einsum", lora_unfrozen="head|norm"))
    trained = {path for path, weight in weight_paths(network).items() if weight.trainable}
    assert trained == {
        "net/einsum/lora_kernel_a",
        "net/einsum/lora_kernel_b",
        "net/head/kernel",
        "net/head/bias",
        "net/norm/gamma",
        "net/norm/beta",
    }
    assert len(network.trainable_weights) == len(trained)
    with pytest.raises(UsageError, match="lora_unfrozen top: no suitable layer matches; available: embedding"):
        built(Layers(lora_rank=2, lora_unfrozen="top"))


class TokenPairs(Data):
    """Token IDs."""

    inputs = {"token_ids": Spec((6,), "int32"), "padding_mask": Spec((6,), "int32"), "segment_ids": Spec((6,), "int32")}
    targets = {"label": Spec((), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample]:
        ids = np.random.default_rng(0).integers(0, 20, (16, 6), dtype="int32")
        ones = np.ones_like(ids)
        return ArraySource(
            {"token_ids": ids, "padding_mask": ones, "segment_ids": 0 * ones},
            {"label": np.arange(16, dtype="int32") % 2},
        )


class Bert(KerasModel):
    """Text classifier of a preset."""

    preset: Path = Path()
    """Directory of the preset of the backbone."""

    keras_losses = ["sparse_categorical_crossentropy"]
    from_logits = True

    def build_model(self, inputs: Tensors) -> keras.Model:
        models = importlib.import_module("keras_hub.models")
        backbone = models.Backbone.from_preset(str(self.preset))
        return models.BertTextClassifier(backbone=backbone, num_classes=2)  # type: ignore[no-any-return]


def test_a_preset_of_keras_hub_is_tuned(tmp_path: Path) -> None:
    pytest.importorskip("keras_hub")
    models = importlib.import_module("keras_hub.models")
    sizes = {"vocabulary_size": 20, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 8}
    models.BertBackbone(**sizes, max_sequence_length=6).save_to_preset(str(tmp_path / "preset"))
    model = Bert(preset=tmp_path / "preset", lora_rank=2, lora_layers="query|value", lora_unfrozen="logits")
    trainer = dataclasses.replace(small().trainer, output_dir=tmp_path / "run")
    result = train(Scenario(data=TokenPairs(), model=model, trainer=trainer, evaluator=None))
    paths = {path for path, weight in weight_paths(result.network).items() if weight.trainable}
    assert {path.rpartition("/")[2] for path in paths} == {"lora_kernel_a", "lora_kernel_b", "kernel", "bias"}
    assert (tmp_path / "run" / "best" / "model.keras").is_file()


class Images(Data):
    """Small colored images."""

    inputs = {"image": Spec((32, 32, 3), "uint8")}
    targets = {"label": Spec((), "int32")}

    def source(self, mode: Mode) -> Sequence[Sample]:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (8, 32, 32, 3), dtype="uint8")
        return ArraySource({"image": images}, {"label": np.arange(8, dtype="int32") % 2})


def application(**changes: Any) -> Model:
    return KerasApplication(**{"num_classes": 2, "weights": "none", **changes})


@pytest.mark.parametrize("name", ["MobileNetV3Small", "MobileNetV2"])
def test_an_application_preprocesses_images_and_has_a_new_head(name: str) -> None:
    network = built(application(name=name), Images())
    paths = list(weight_paths(network))
    assert all(path.startswith(("backbone/", "head/")) for path in paths)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype="uint8")
    module = {"MobileNetV3Small": keras.applications.mobilenet_v3, "MobileNetV2": keras.applications.mobilenet_v2}[name]
    features = network.get_layer("backbone")(module.preprocess_input(images.astype("float32")), training=False)
    expected = network.get_layer("head")(features)
    actual = network.predict_on_batch({"image": images})["probabilities"]
    np.testing.assert_allclose(actual, keras.ops.convert_to_numpy(expected), rtol=1e-4)


def test_weights_of_imagenet_are_those_that_keras_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = keras.applications.MobileNetV3Small(weights=None, include_top=False)
    backbone.save_weights(tmp_path / "small.weights.h5")
    requested = []

    def get_file(name: str, *args: Any, **kwargs: Any) -> str:
        requested.append(name)
        return str(tmp_path / "small.weights.h5")

    monkeypatch.setattr("keras.src.applications.mobilenet_v3.file_utils.get_file", get_file)
    network = built(application(weights="imagenet"), Images())
    assert requested == ["weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"]
    for loaded, original in zip(network.get_layer("backbone").weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(loaded, original)


def test_weights_that_cannot_be_downloaded_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_file(*args: Any, **kwargs: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr("keras.src.applications.mobilenet_v3.file_utils.get_file", get_file)
    with pytest.raises(UsageError, match="MobileNetV3Small: cannot create it with weights imagenet .* no network"):
        built(application(weights="imagenet"), Images())


@pytest.mark.parametrize("changes", [{"output_names": ["classes"]}, {"from_logits": True}])
def test_a_setting_without_effect_on_an_application_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="has no effect"):
        validate_params(application(**changes))


def test_an_unknown_application_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"--model.name MobileNet9: not in keras.applications; closest: MobileNet"):
        built(application(name="MobileNet9"), Images())


@pytest.mark.slow
def test_the_head_of_a_frozen_application_is_trained(tmp_path: Path) -> None:
    trainer = dataclasses.replace(small().trainer, epochs=1, no_train_scope="backbone", output_dir=tmp_path / "run")
    network = train(Scenario(data=Images(), model=application(), trainer=trainer, evaluator=None)).network
    assert [weight.path for weight in network.trainable_weights] == ["head/kernel", "head/bias"]
    assert (tmp_path / "run" / "best" / "model.keras").is_file()
