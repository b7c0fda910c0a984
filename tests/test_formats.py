"""Exports in other formats: they predict what the network does, or are reported as missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from conftest import slow
from small import Line, small

from tfaip_like import Tensors, UsageError, keras, load_predictor, train
from tfaip_like._export.formats.registry import FORMATS
from tfaip_like.params._docs import field_docs
from tfaip_like.settings import Trainer
from tfaip_like.settings._trainer import ExportFormat

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


RUN: dict[str, Callable[[Path], dict[str, Any]]] = {"onnx": with_onnx, "litert": with_litert}


def test_each_format_that_the_settings_name_is_defined_and_documented() -> None:
    assert list(FORMATS) == list(get_args(ExportFormat))
    text = field_docs(Trainer)["export_formats"]
    assert all(name in text and FORMATS[name].filename in text for name in FORMATS)


@pytest.mark.parametrize("name", ["onnx", slow("litert")])
def test_other_formats_predict_the_same(name: ExportFormat, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    definition = FORMATS[name]
    for package in definition.required_packages:
        pytest.importorskip(package)
    train(small(tmp_path / "run", model=Sign(), trainer={"epochs": 1, "export_formats": [name]}))
    for export in ("best", "export"):
        answers = RUN[name](tmp_path / "run" / export / definition.filename)
        for output, expected in load_predictor(tmp_path / "run" / export).outputs({"x": X}).items():
            np.testing.assert_allclose(answers[output], expected, rtol=1e-4, atol=1e-5)
    assert "differs" not in caplog.text


def test_a_format_without_its_package_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else find(name))
    with pytest.raises(
        UsageError, match=r"export_formats onnx: tf2onnx is not installed; pip install 'tfaip_like\[onnx"
    ):
        train(small(tmp_path / "run", trainer={"export_formats": ["onnx"]}))
