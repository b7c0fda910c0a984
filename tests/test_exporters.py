"""Exporters: what they write predicts what the network does, or is reported as missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, Run, slow
from small import Line, small

from tfaip_like import Tensors, UsageError, keras, load_predictor, train
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like.exporters import ONNX, ExportedNetwork, Exporter, Int8, LiteRT

X = np.random.default_rng(2).random((5, 2), dtype="float32")


class Sign(Line):
    """Also says whether the sum is large, by `argmax`, for which Keras uses operations of TensorFlow alone."""

    def build(self, inputs: Tensors) -> Tensors:
        outputs = dict(super().build(inputs))
        both = keras.ops.stack([1 - outputs["sum"], outputs["sum"]], axis=-1)
        return {**outputs, "is_large": keras.ops.argmax(both, axis=-1)}


def with_onnx(file: Path) -> dict[str, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, {"x": X}), strict=True))


def with_litert(file: Path) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter

    found: dict[str, Any] = Interpreter(str(file)).get_signature_runner("serving_default")(x=X)
    return found


class Folder(Exporter):
    """The SavedModel, copied to another directory."""

    filename = "folder"

    scale: float = 1.0
    """Factor of the outputs."""

    def export(self, network: ExportedNetwork, path: Path) -> None:
        shutil.copytree(network.saved_model, path)

    def predict(self, path: Path, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        import tensorflow as tf

        outputs = tf.saved_model.load(str(path)).signatures["serving_default"](x=tf.constant(inputs["x"]))
        return {name: self.scale * output.numpy() for name, output in outputs.items()}


RUN: dict[Exporter, Callable[[Path], dict[str, Any]]] = {ONNX(opset=17): with_onnx, LiteRT(): with_litert}


@pytest.mark.slow
@pytest.mark.parametrize("exporter", [ONNX(opset=17), slow(LiteRT())])
def test_other_formats_predict_the_same(exporter: Exporter, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for package in exporter.required_packages:
        pytest.importorskip(package)
    train(small(tmp_path / "run", model=Sign(), trainer={"epochs": 1}, exporters=[exporter]))
    for export in ("best", "export"):
        answers = RUN[exporter](tmp_path / "run" / export / exporter.filename)
        for output, expected in load_predictor(tmp_path / "run" / export).outputs({"x": X}).items():
            np.testing.assert_allclose(answers[output], expected, rtol=1e-4, atol=1e-5)
    assert "differs" not in caplog.text


FORMATS = """
from test_exporters import RUN, X, Sign, load_predictor, np, small, train
from tfaip_like.exporters import ONNX, LiteRT
from pathlib import Path

trainer = {"epochs": 1, "jit_compile": None}
train(small(Path("run"), model=Sign(), trainer=trainer, exporters=[ONNX(opset=17), LiteRT()]))
for export in ("best", "export"):
    for exporter, predict in RUN.items():
        answers = predict(Path("run", export, exporter.filename))
        for output, expected in load_predictor(Path("run", export)).outputs({"x": X}).items():
            np.testing.assert_allclose(answers[output], expected, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_formats_are_written_on_other_backends(backend: str, run: Run, tmp_path: Path) -> None:
    for package in (backend, *ONNX.required_packages, *LiteRT.required_packages):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    environment = {"PYTHONPATH": f"{Path(__file__).parent}:{REPOSITORY}", "KERAS_BACKEND": backend}
    done = run(sys.executable, "-c", FORMATS, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "cannot" not in done.stderr
    assert "differs" not in done.stderr


@pytest.mark.parametrize("scale", [slow(1.0), 1.01])
def test_a_directory_is_written_and_compared(scale: float, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(small(tmp_path / "run", trainer={"epochs": 1}, exporters=[Folder(scale=scale)]))
    for export in ("best", "export"):
        assert (tmp_path / "run" / export / "folder" / "saved_model.pb").is_file()
        assert load_predictor(tmp_path / "run" / export).outputs({"x": X})
    assert ("output 'sum' differs" in caplog.text) == (scale != 1.0)


def test_an_exporter_without_its_package_is_rejected_before_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else find(name))
    message = r"exporters\.0 ONNX: tf2onnx is not installed; pip install 'tfaip_like\[onnx\]'"
    with pytest.raises(UsageError, match=message):
        train(small(tmp_path / "run", exporters=[ONNX()]))


def test_two_exporters_of_one_file_are_rejected_before_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"exporters\.1 Folder: an exporter before it writes folder as well"):
        train(small(tmp_path / "run", exporters=[Folder(), Folder(scale=2.0)]))


@pytest.mark.parametrize("name", ["serve", "model.keras", "a/b", "", ".hidden", ".."])
def test_an_exporter_cannot_overwrite_other_files_of_the_export(name: str, tmp_path: Path) -> None:
    class Bad(Folder):
        filename = name

    with pytest.raises(CodeError, match=r"Bad.filename is .*; it must be the name of a file or directory"):
        train(small(tmp_path / "run", exporters=[Bad()]))


EXTENSION = '''
from pathlib import Path
import numpy as np
from tfaip_like.exporters import Exporter


class Table(Exporter):
    """Weights of the first layer as a table, from which the outputs cannot be computed."""

    filename = "weights.csv"

    digits: int = 6
    """Digits of each weight."""

    def export(self, network, path):
        np.savetxt(path, network.keras.weights[0], fmt=f"%.{self.digits}f")

    def predict(self, path, inputs):
        return {"sum": inputs["x"] @ np.loadtxt(path)[:, 0]}


class Broken(Exporter):
    """Fails."""

    filename = "broken.bin"

    def export(self, network, path):
        path.write_bytes(b"half")
        raise ValueError("cannot write this network")

    def predict(self, path, inputs):
        return {}
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Provide a folder with a scenario, in which a package with exporters is installed."""
    (tmp_path / "extension.py").write_text(EXTENSION)
    shutil.copy(Path(__file__).with_name("small.py"), tmp_path / "small.py")
    info = tmp_path / "my_extension-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-extension\nVersion: 1.2\n")
    names = "Table = extension:Table\nBroken = extension:Broken\n"
    (info / "entry_points.txt").write_text(f"[tfaip_like.exporters]\n{names}")
    return tmp_path


@pytest.mark.slow
def test_an_installed_exporter_is_chosen_by_name_and_compared_with_the_network(site: Path, quick_run: Run) -> None:
    flags = ["--trainer.epochs", "1", "--trainer.output_dir", "run", "--exporters", "Broken", "Table"]
    done = quick_run("train-scenario", "small:Small", *flags, "--exporters.1.digits", "3", cwd=site)
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    for export in (site / "run" / "best", site / "run" / "export"):
        assert np.loadtxt(export / "weights.csv").shape == (2, 8)
        assert not [path for path in export.iterdir() if "broken" in path.name]
        assert f"{export.relative_to(site)}/weights.csv: output 'sum' differs from that of the network" in text
        assert "extension.py" in text
        assert f"{export.relative_to(site)}: cannot write broken.bin: cannot write this network" in text
        assert (
            "exporters" not in (export / "scenario_params.json").read_text()
            or not json.loads((export / "scenario_params.json").read_text())["exporters"]
        )
    recorded = json.loads((site / "run" / "trainer_params.json").read_text())["exporters"]
    assert recorded[1] == {"class": "extension:Table", "digits": 3}
    done = quick_run("resume-training", "run", "--trainer.epochs", "2", cwd=site)
    assert done.returncode == 0, done.stderr
    assert "cannot write broken.bin" in done.stdout + done.stderr


class WithConvolution(Line):
    """Also has a layer that Keras cannot quantize."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Conv1D(4, 2, name="conv")(inputs["x"][..., None])
        hidden = keras.layers.Dense(16, activation="relu", name="hidden")(keras.layers.Flatten()(hidden))
        return {"sum": keras.layers.Dense(1, name="add")(hidden)[:, 0]}


@pytest.mark.slow
def test_a_quantized_network_is_an_export_for_the_predictor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train(small(tmp_path / "run", model=WithConvolution(), exporters=[Int8()]))
    assert "int8: 2 layers quantized; in floating point: conv (Conv1D)" in caplog.text
    assert "differs" not in caplog.text
    for export in (tmp_path / "run" / "best", tmp_path / "run" / "export"):
        expected, actual = (load_predictor(path).outputs({"x": X})["sum"] for path in (export, export / "int8"))
        np.testing.assert_allclose(actual, expected, rtol=0.05, atol=0.05)
        assert not np.array_equal(actual, expected)
        quantized = keras.saving.load_model(export / "int8" / "model.keras")
        assert quantized.get_layer("hidden").kernel.dtype == "int8"
        assert quantized.get_layer("conv").kernel.dtype == "float32"
        assert not (export / "int8" / "weights.npz").exists()
    # The network itself is not changed.
    assert keras.saving.load_model(tmp_path / "run" / "best" / "model.keras").get_layer("add").kernel.dtype == "float32"


@pytest.mark.parametrize(
    ("exporter", "warning"),
    [
        (Int8(layers="add", max_difference=0.0), "int8: output 'sum' differs from that of the network"),
        slow(Int8(layers="conv"), "cannot write int8: no layer can be quantized"),
    ],
)
def test_a_quantization_that_fails_or_differs_is_reported(
    exporter: Int8, warning: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(small(tmp_path / "run", model=WithConvolution(), trainer={"epochs": 1}, exporters=[exporter]))
    assert warning in caplog.text
