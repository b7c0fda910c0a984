"""Exports, loaded for prediction: without the user's code, and with clear words when they are broken."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import Points, small

from tfaip_like import (
    ArraySource,
    Data,
    Mode,
    Model,
    Sample,
    Scenario,
    Spec,
    Tensors,
    TrainingError,
    UsageError,
    ops,
    train,
)
from tfaip_like._export.exported_model import TensorSpec, load_export
from tfaip_like._export.layout import argument_names
from tfaip_like._export.verification import check_export
from tfaip_like._export.writing import write_export
from tfaip_like._runs.package_versions import installed_versions
from tfaip_like.data._loader.batching import Batch
from tfaip_like.modeling._network import Networks, build_networks

IMAGE, SHORT = "my image", "class"
ODD = {"größe [cm]": 2, "a/b": 1, "x:0": 3}


class Odd(Data):
    """Sequences, and names that are none in Python."""

    alphabet: Path | None = None
    """A file that travels with the export."""

    resources = ("alphabet",)
    inputs = {IMAGE: Spec((None, 4)), SHORT: Spec((), "int32"), "unused": Spec((7,))}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        return None


class OddModel(Model):
    """A dense layer on a mean."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = ops.mean(inputs[IMAGE], axis=1) + ops.cast(inputs[SHORT], "float32")[:, None]
        outputs = {name: keras.layers.Dense(units)(hidden) for name, units in ODD.items()}
        return {**outputs, "largest": ops.argmax(outputs["x:0"], axis=-1), "each": inputs[IMAGE] * 2}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"size": ops.sum(outputs["a/b"])}


def unusual_scenario(folder: Path) -> tuple[Scenario, Networks]:
    (folder / "letters.txt").write_text("abcdef")
    scenario = Scenario(data=Odd(alphabet=folder / "letters.txt"), model=OddModel())
    keras.utils.set_random_seed(1)
    return scenario, build_networks(scenario.model, scenario.data)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, keras.Model]:
    folder = tmp_path_factory.mktemp("odd")
    scenario, networks = unusual_scenario(folder)
    write_export(folder / "export", networks, scenario, {"epoch": 4, "val_loss": 0.5})
    return folder / "export", networks.prediction


def unusual_batch(size: int, length: int) -> dict[str, Any]:
    random = np.random.default_rng(size)
    image = random.random((size, length, 4), dtype="float32")
    return {IMAGE: image, SHORT: random.integers(0, 5, size, dtype="int32"), "unused": np.zeros((size, 7), "float32")}


def test_names_shapes_and_types_are_those_of_the_scenario(odd: tuple[Path, keras.Model]) -> None:
    exported = load_export(odd[0])
    assert exported.inputs == {
        SHORT: TensorSpec((None,), "int32"),
        IMAGE: TensorSpec((None, None, 4), "float32"),
    }
    assert exported.outputs == {
        **{name: TensorSpec((None, units), "float32") for name, units in ODD.items()},
        "largest": TensorSpec((None,), "int32"),
        "each": TensorSpec((None, None, 4), "float32"),
    }


@pytest.mark.parametrize(("size", "length"), [(3, 5), (1, 9), (64, 1), (2, 5)])
def test_batches_of_any_size_and_length_are_predicted_as_the_network_does(
    odd: tuple[Path, keras.Model], size: int, length: int
) -> None:
    path, network = odd
    batch = unusual_batch(size, length)
    answers = load_export(path).predict_on_batch(batch)
    expected = network.predict_on_batch({name: batch[name] for name in (IMAGE, SHORT)})
    assert answers.keys() == expected.keys()
    for name, answer in answers.items():
        assert isinstance(answer, np.ndarray)
        assert answer.dtype == expected[name].dtype
        np.testing.assert_allclose(answer, expected[name], rtol=1e-5, atol=1e-6)


def test_values_near_their_type_are_accepted_as_in_samples(odd: tuple[Path, keras.Model]) -> None:
    exported = load_export(odd[0])
    exact = {IMAGE: np.ones((1, 2, 4), "float32"), SHORT: np.array([3], "int32")}
    near = {IMAGE: np.ones((1, 2, 4)).tolist(), SHORT: [3]}
    assert {name: answer.tolist() for name, answer in exported(near).items()} == {
        name: answer.tolist() for name, answer in exported(exact).items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({SHORT: None}, r"input 'class' is missing; got: my image"),
        (
            {IMAGE: np.zeros((2, 4), "float32")},
            r"input 'my image' has shape \(2, 4\), but its Spec says \(any, any, 4\)",
        ),
        ({IMAGE: np.zeros((2, 9, 5), "float32")}, r"input 'my image' has shape \(2, 9, 5\)"),
        ({SHORT: np.zeros(2, "float32")}, r"input 'class' has dtype float32, which cannot be cast to the int32"),
        ({SHORT: np.full(2, 2**40)}, r"input 'class' has values out of the range of the int32"),
    ],
)
def test_a_wrong_input_is_named_in_one_line(
    odd: tuple[Path, keras.Model], change: Mapping[str, Any], message: str
) -> None:
    path, _ = odd
    batch = {IMAGE: np.zeros((2, 3, 4), "float32"), SHORT: np.zeros(2, "int32"), **change}
    with pytest.raises(UsageError, match=f"^{path}: {message}.*$") as raised:
        load_export(path)({name: array for name, array in batch.items() if array is not None})
    assert "\n" not in str(raised.value)


def test_an_export_has_its_metrics_versions_and_input_specs(odd: tuple[Path, keras.Model]) -> None:
    exported = load_export(odd[0])
    assert exported.metrics == {"epoch": 4, "val_loss": 0.5}
    assert exported.versions == installed_versions()
    data = exported.scenario_params["data"]
    assert isinstance(data, dict)
    assert data["alphabet"] == "resources/letters.txt"
    assert exported.resource("resources/letters.txt").read_text() == "abcdef"
    assert [file.name for file in exported.resources.iterdir()] == ["letters.txt"]


def test_no_path_leads_out_of_an_export(odd: tuple[Path, keras.Model], tmp_path: Path) -> None:
    shutil.copytree(odd[0], tmp_path / "export")
    exported = load_export(tmp_path / "export")
    (tmp_path / "secret").write_text("secret")
    (exported.resources / "link").symlink_to(tmp_path / "secret")
    for name in ("../secret", str(tmp_path / "secret"), "resources/link", "resources/../../secret"):
        with pytest.raises(UsageError, match="outside of the export"):
            exported.resource(name)
    with pytest.raises(UsageError, match="resources/none: missing"):
        exported.resource("resources/none")


# Broken exports.


def delete(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def corrupt(file: Path) -> None:
    """Change bytes in its middle."""
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4] = b"\x80\xff\xff\x07"
    file.write_bytes(data)


SERVED = ("serve/saved_model.pb", "serve/variables/variables.index", "serve/variables/variables.data-00000-of-00001")
NEEDED = (*SERVED, "scenario_params.json", "metrics.json", "versions.json", "resources/letters.txt")
NOT_NEEDED = ("model.keras", "weights.npz", "pipeline.json", "serve/fingerprint.pb")


@pytest.mark.parametrize("how", [delete, truncate, empty, corrupt])
@pytest.mark.parametrize("name", NEEDED)
def test_a_broken_file_is_named_in_one_line(
    odd: tuple[Path, keras.Model], tmp_path: Path, name: str, how: Callable[[Path], None]
) -> None:
    if how is corrupt and name not in (SERVED[2], "scenario_params.json"):
        pytest.skip("changed bytes are not noticed everywhere")
    export = tmp_path / "export"
    shutil.copytree(odd[0], export)
    how(export / name)
    named = str(export / name).removesuffix(".index").removesuffix(".data-00000-of-00001")
    with pytest.raises(UsageError, match=f"^{named.removesuffix('/variables')}") as raised:
        load_export(export)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("how", [delete, truncate, empty])
@pytest.mark.parametrize("name", NOT_NEEDED)
def test_optional_files_of_an_export_are_not_required(
    odd: tuple[Path, keras.Model], tmp_path: Path, name: str, how: Callable[[Path], None]
) -> None:
    export = tmp_path / "export"
    shutil.copytree(odd[0], export)
    how(export / name)
    answers = load_export(export)(unusual_batch(2, 3))
    assert answers["each"].tolist() == load_export(odd[0])(unusual_batch(2, 3))["each"].tolist()


def test_every_file_of_an_export_is_in_one_of_these_tables(odd: tuple[Path, keras.Model]) -> None:
    files = {str(file.relative_to(odd[0])) for file in odd[0].rglob("*") if file.is_file()}
    assert files == {*NEEDED, *NOT_NEEDED}


@pytest.mark.parametrize(("make", "message"), [(False, "no such directory"), (True, "not an export directory")])
def test_a_directory_that_is_not_an_export_is_rejected(tmp_path: Path, make: bool, message: str) -> None:
    if make:
        (tmp_path / "run").mkdir()
    with pytest.raises(UsageError, match=f"^{tmp_path}/run: {message}"):
        load_export(tmp_path / "run")


# Operations that prediction does not need.


def writes_a_file(x: tf.Tensor) -> tf.Tensor:
    tf.io.write_file("stolen.txt", "mine")
    return x


def saves_a_checkpoint(x: tf.Tensor) -> tf.Tensor:
    tf.raw_ops.SaveV2(prefix="stolen", tensor_names=["x"], shape_and_slices=[""], tensors=[x])
    return x


def runs_python(x: tf.Tensor) -> tf.Tensor:
    return tf.py_function(lambda y: y, [x], tf.float32)


@pytest.mark.parametrize(
    ("function", "operation"),
    [(writes_a_file, "WriteFile"), (saves_a_checkpoint, "SaveV2"), (runs_python, "EagerPyFunc")],
)
def test_a_network_that_could_touch_files_is_rejected(
    odd: tuple[Path, keras.Model], tmp_path: Path, function: Callable[[tf.Tensor], tf.Tensor], operation: str
) -> None:
    export = tmp_path / "export"
    shutil.copytree(odd[0], export)
    shutil.rmtree(export / "serve")
    module = tf.Module()
    module.f = tf.function(
        lambda x: {"y": tf.function(function)(x)}, input_signature=[tf.TensorSpec((None,), tf.float32, "x")]
    )
    tf.saved_model.save(module, str(export / "serve"), signatures={"serving_default": module.f})
    with pytest.raises(UsageError, match=f"export/serve: contains the operation {operation}, which inference does not"):
        load_export(export)


# Without us.


@pytest.mark.slow
def test_an_export_is_loaded_without_the_code_of_its_network(odd: tuple[Path, keras.Model], tmp_path: Path) -> None:
    path, network = odd
    batch = {name: unusual_batch(3, 2)[name] for name in (IMAGE, SHORT)}
    np.savez(tmp_path / "batch.npz", **batch)
    code = (
        "import sys, pathlib, numpy as np; from tfaip_like._export.exported_model import load_export;"
        f"answers = load_export(pathlib.Path('{path}'))(np.load('{tmp_path}/batch.npz'));"
        f"np.save('{tmp_path}/y.npy', answers['größe [cm]']);"
        "assert not {'tfaip_like.modeling._network', 'test_exported'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), network.predict_on_batch(batch)["größe [cm]"], rtol=1e-5)


def test_unusual_input_names_become_python_arguments_of_the_saved_model(odd: tuple[Path, keras.Model]) -> None:
    import tensorflow as tf

    served = tf.saved_model.load(str(odd[0] / "serve"))
    batch = unusual_batch(2, 3)
    answers = served.signatures["serving_default"](my_image=batch[IMAGE], class_=batch[SHORT])
    by_names = served.serve({IMAGE: batch[IMAGE], SHORT: batch[SHORT]})
    assert set(answers) == set(by_names) == {*ODD, "largest", "each"}


def test_arguments_are_different_names_in_python_and_good_ones_stay() -> None:
    names = ["x", "my_image", "my image", "my-image", "X", "_x", "1", "ü", "class", "self", "ä"]
    arguments = argument_names(names)
    assert list(arguments) != names
    assert {"X": "X", "my_image": "my_image"}.items() <= arguments.items()
    assert all(argument.isidentifier() and argument.isascii() for argument in arguments.values())
    assert len({argument.lower() for argument in arguments.values()}) == len(names)
    assert argument_names(reversed(names)) == arguments


@pytest.mark.slow
def test_jax_exports_networks_that_join_sequences_of_unknown_length(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    code = f"""
import numpy as np, pathlib
from tfaip_like import *
from tfaip_like._export.exported_model import load_export
from tfaip_like.settings import Trainer

class Pairs(Data):
    inputs = {{"a": Spec((None,)), "b": Spec((None,))}}
    targets = {{"y": Spec(())}}
    def source(self, mode):
        return [Sample({{"a": np.ones(n, "float32"), "b": np.ones(n, "float32")}}, {{"y": 1.0}}) for n in (1, 2, 3, 4)]

class Joined(Model):
    def build(self, inputs):
        return {{"y": keras.layers.Dense(1)(ops.sum(inputs["a"] + inputs["b"], axis=1, keepdims=True))[:, 0]}}
    def loss(self, inputs, targets, outputs):
        return {{"square": (targets["y"] - outputs["y"]) ** 2}}

class Both(Scenario):
    data: Data = Pairs()
    model: Model = Joined()

if __name__ == "__main__":
    run = pathlib.Path("{tmp_path}/run")
    result = train(Both(trainer=Trainer(epochs=1, lav_every_n=1, output_dir=run)))
    row = result.history[0]
    assert abs(row["lav_loss"] - row["val_loss"]) < 1e-5 * row["val_loss"]
    assert load_export(run / "best")({{"a": np.ones((2, 9)), "b": np.ones((2, 9))}})["y"].shape == (2,)
"""
    (tmp_path / "both.py").write_text(code)
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, tmp_path / "both.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# The check of an export.


class Noisy(keras.layers.Layer):
    """Adds random numbers, in prediction too."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = keras.random.SeedGenerator(5)

    def call(self, x: Any) -> Any:
        return x + keras.random.normal(ops.shape(x), seed=self.seeds)


def export_of(folder: Path, build: Callable[[Any], Mapping[str, Any]], units: int = 2) -> tuple[Path, keras.Model]:
    """Return an export of a network with one input of two numbers."""
    image = keras.Input((units,), name="x")
    network = keras.Model({"x": image}, dict(build(image)), name="network")
    write_export(folder / "export", Networks(network, network), Scenario(data=Points(), model=OddModel()), {"epoch": 1})
    return folder / "export", network


def two_numbers(size: int = 16) -> Batch:
    return Batch({"x": np.random.default_rng(0).random((size, 2), dtype="float32")}, {})


def test_an_export_like_its_network_passes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export, network = export_of(tmp_path, lambda x: {"y": keras.layers.Dense(3)(x), "z": ops.argmax(x, axis=-1)})
    difference = check_export(export, network, two_numbers())
    assert not [record for record in caplog.records if record.name.startswith("tfaip_like")]
    assert difference < 1e-5
    assert load_export(export).metrics["epoch"] == 1


def test_a_different_export_is_rejected_with_output_size_and_place(tmp_path: Path) -> None:
    layer = keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    export, network = export_of(tmp_path, lambda x: {"y": layer(x), "same": x * 2, "largest": ops.argmax(layer(x), -1)})
    layer.kernel.assign(layer.kernel + np.array([[0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]))
    batch = two_numbers()
    with pytest.raises(
        TrainingError, match="^export verification failed: outputs differ from the trained network: "
    ) as raised:
        check_export(export, network, batch)
    expected, answer = network.predict_on_batch(batch.inputs)["y"], load_export(export)(batch.inputs)["y"]
    text = str(raised.value)
    place = text.split("(relative), at ")[1].split(":")[0]
    row, column = json.loads(place)
    assert column == 1
    assert f"{place}: {expected[row, column]}, {answer[row, column]} in the export" in text
    assert "output 'largest' in " in text
    assert "'same'" not in text


def test_outputs_that_are_missing_or_of_another_shape_are_rejected(tmp_path: Path) -> None:
    export, _ = export_of(tmp_path, lambda x: {"y": x, "gone": x})
    x = keras.Input((2,), name="x")
    other = keras.Model({"x": x}, {"y": ops.sum(x, axis=1), "new": x})
    with pytest.raises(TrainingError, match="only the export has output 'gone'; only the network has output"):
        check_export(export, other, two_numbers())
    with pytest.raises(TrainingError, match=r"output 'y' has shape \(16,\) and dtype float32, but \(16, 2\) and"):
        check_export(export, other, two_numbers())


def test_a_mask_of_huge_numbers_hides_no_difference(tmp_path: Path) -> None:
    layer = keras.layers.Dense(4, use_bias=False)
    mask = np.array([0, -1e9, 0, 0], "float32")
    export, network = export_of(tmp_path, lambda x: {"logits": layer(x) + mask})
    layer.kernel.assign(layer.kernel + 0.01)
    with pytest.raises(TrainingError, match="output 'logits' by"):
        check_export(export, network, two_numbers())


def test_random_outputs_are_not_compared_and_the_network_is_unchanged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    noisy = Noisy()
    export, network = export_of(tmp_path, lambda x: {"noise": noisy(x), "y": x * 2})
    before = np.asarray(noisy.seeds.state)
    difference = check_export(export, network, two_numbers())
    assert np.array_equal(before, np.asarray(noisy.seeds.state))
    assert [record.getMessage() for record in caplog.records if record.name.startswith("tfaip_like")] == [
        "output 'noise' not verified: it changes between calls (random numbers or state)"
    ]
    assert difference == 0


def test_near_ties_of_integer_outputs_may_differ_by_rounding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two classes are equally likely but for roundings, and the rest follows from the choice."""
    layer = keras.layers.Dense(2, use_bias=False, kernel_initializer="ones")

    def choose(x: Any) -> dict[str, Any]:
        choice = ops.argmax(layer(x), axis=-1)
        return {"class": choice, "follows": ops.cast(choice, "float32") * 5 + x[:, 0]}

    export, network = export_of(tmp_path, choose)
    layer.kernel.assign(layer.kernel + np.array([[0.0, 1e-6], [0.0, 1e-6]]))
    batch = two_numbers()
    answers = network.predict_on_batch(batch.inputs)["class"], load_export(export)(batch.inputs)["class"]
    assert not np.array_equal(*answers)
    difference = check_export(export, network, batch)
    assert not [record for record in caplog.records if record.name.startswith("tfaip_like")]
    assert difference < 1e-4


def test_a_training_checks_its_exports_and_keeps_what_it_found(tmp_path: Path) -> None:
    result = train(small(tmp_path / "run", trainer={"epochs": 1}))
    best, last = (load_export(tmp_path / "run" / name).metrics for name in ("best", "export"))
    assert best["val_loss"] == last["val_loss"] == result.history[-1]["val_loss"]
    assert 0 <= last["export_difference"] < 1e-4
    assert "export_difference" not in best  # whether it was checked depends on where a run was killed


class Slash(Points):
    """An input that Keras cannot have."""

    inputs = {"a/b": Spec((2,))}

    def source(self, mode: Mode) -> Sequence[Sample]:
        return ArraySource({"a/b": np.zeros((64, 2), "float32")}, {"y": np.zeros(64, "float32")})


def test_a_name_that_no_network_can_have_is_rejected_immediately() -> None:
    with pytest.raises(UsageError, match="^Slash.inputs: 'a/b' is not a valid input name"):
        train(small(data=Slash()))
