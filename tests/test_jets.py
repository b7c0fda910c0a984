"""The scenario that tags jets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from shipped import assert_lav_and_predict_work, opened

from scenarios.jets.curves import COLOURS, area_under_curve, background_rejection, plot_curves, roc_curve
from scenarios.jets.data import Jets
from scenarios.jets.draw import CLASSES, FEATURES, MISSING, draw_files, draw_jets
from scenarios.jets.model import Tagger, fit_scaling
from scenarios.jets.scenario import JetTagging, TaggingEvaluator
from tfaip_like import Mode, Sample, UsageError, train
from tfaip_like._training.result import TrainResult
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.params._tree import validate_params
from tfaip_like.settings import Trainer
from tfaip_like.summaries import ConfusionMatrix, Image, Text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jets")


@pytest.fixture(scope="module")
def data(folder: Path) -> Jets:
    draw_files(folder / "drawn", files=3, val_files=1, jets=400)
    return Jets(files=[f"{folder}/drawn/train_*.npz"], val_files=[f"{folder}/drawn/val_*.npz"])


@pytest.fixture(scope="module")
def result(data: Jets, folder: Path) -> TrainResult:
    trainer = Trainer(epochs=3, random_seed=3, jit_compile=False, output_dir=folder / "run")
    return train(
        JetTagging(data=data, model=Tagger(units=[16]), trainer=trainer, train=TrainLoaderSettings(batch_size=16))
    )


def test_jets_are_learnt_and_each_class_is_evaluated(result: TrainResult) -> None:
    first, last = result.history[0], result.history[-1]
    assert last["loss"] < first["loss"]
    assert last["val_mean_auc"] > 0.7
    for name in CLASSES:
        assert 0 <= last[f"val_accuracy_{name}"] <= 1
        assert ("val_rejection_" + name in last) == (name != "bottom")


def test_lav_and_predict_take_its_export(result: TrainResult, folder: Path, tmp_path: Path) -> None:
    predicted = assert_lav_and_predict_work(folder / "run", result, tmp_path)
    assert predicted["probabilities"].shape == (400, 4)


def test_the_export_accepts_missing_values_as_stored_in_files(result: TrainResult, data: Jets) -> None:
    source = data.source(Mode.TRAIN)
    assert source is not None
    scaling = fit_scaling(source, data)
    features = np.array(source.inputs["features"][:50])
    assert (features == MISSING).any()
    replaced = np.where(features == MISSING, np.float32(scaling.replacements), features)
    as_they_are, by_hand = (result.network({"features": x})["probabilities"] for x in (features, replaced))
    np.testing.assert_allclose(as_they_are, by_hand, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 2.5])
@pytest.mark.parametrize("unit", ["deviation", "feature"])
def test_a_missing_value_becomes_the_least_of_its_feature_less_the_shift(
    data: Jets, shift: float, unit: Literal["deviation", "feature"]
) -> None:
    source = data.source(Mode.TRAIN)
    assert source is not None
    scaling = fit_scaling(source, dataclasses.replace(data, default_shift=shift, default_shift_unit=unit))
    for column, replacement in zip(source.inputs["features"].T, scaling.replacements, strict=True):
        known = column[column != MISSING].astype(float)
        assert replacement == pytest.approx(known.min() - shift * (known.std() if unit == "deviation" else 1))


def test_the_three_ways_of_weighting_differ(data: Jets) -> None:
    scenario = JetTagging(data=data)
    plain, loss, sample = (opened(scenario, balance=kind, batch_size=1200) for kind in ("none", "loss", "sample"))
    counts = np.bincount(plain.batch(0).targets["class"])
    assert counts.max() > 5 * counts.min()
    assert plain.batch(0).weights is None
    weighed = loss.batch(0)
    assert weighed.weights is not None
    np.testing.assert_array_equal(np.bincount(weighed.targets["class"]), counts)
    in_all = [weighed.weights[weighed.targets["class"] == number].sum() for number in range(4)]
    np.testing.assert_allclose(in_all, 300, rtol=1e-5)
    assert sample.batch(0).weights is None
    np.testing.assert_allclose(np.bincount(sample.batch(0).targets["class"]), 300, atol=30)


def test_a_run_uses_as_many_files_as_requested(data: Jets) -> None:
    for count in (1, 2, 9):
        source = dataclasses.replace(data, num_files=count).source(Mode.TRAIN)
        assert source is not None
        assert len(source) == 400 * min(3, count)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_custom_files_and_columns_are_used(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    files, _ = draw_files(tmp_path, files=2, val_files=0, jets=50, kind=kind)
    data = Jets(files=[str(file) for file in files], features=["vertex_mass", "pt"])
    source = data.source(Mode.TRAIN)
    assert source is not None
    assert data.source(Mode.EVALUATE) is None
    jets = [draw_jets(50, np.random.default_rng([1, 0, index])) for index in range(2)]
    expected = np.concatenate([np.stack([part["vertex_mass"], part["pt"]], axis=1) for part in jets])
    np.testing.assert_allclose(source.inputs["features"], expected, rtol=1e-5)
    np.testing.assert_array_equal(source.targets["class"], np.concatenate([part["flavour"] for part in jets]))


def test_without_files_jets_are_drawn_once(tmp_path: Path) -> None:
    data = Jets(folder=tmp_path / "drawn", num_files=1)
    source = data.source(Mode.TRAIN)
    assert source is not None
    assert len(source) == 2000
    times = {file: file.stat().st_mtime_ns for file in data.folder.iterdir()}
    assert len(times) == 24
    np.testing.assert_array_equal(data.source(Mode.TRAIN).inputs["features"], source.inputs["features"])  # type: ignore[union-attr]
    assert {file: file.stat().st_mtime_ns for file in data.folder.iterdir()} == times


def test_roc_curves_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    is_signal = random.random(500) < 0.3
    scores = np.round(random.normal(is_signal), 1)  # with many ties
    curve = roc_curve(is_signal, scores)
    assert area_under_curve(curve) == pytest.approx(roc_auc_score(is_signal, scores))
    background, signal = curve
    threshold = np.sort(scores[is_signal])[::-1][int(np.ceil(0.7 * is_signal.sum())) - 1]
    assert background_rejection(curve, 0.7) == pytest.approx(1 / (scores[~is_signal] >= threshold).mean())
    picture = plot_curves([("red", curve)]).array
    assert (picture == COLOURS["red"]).all(axis=2).any()
    assert picture[0, -1].tolist() == list(COLOURS["red"])
    assert (np.diff(background) >= 0).all()
    assert (np.diff(signal) >= 0).all()


def test_an_absent_class_is_omitted() -> None:
    random = np.random.default_rng(0)
    samples = [
        Sample(targets={"class": np.int32(label)}, outputs={"probabilities": random.dirichlet(np.ones(4))})
        for label in random.integers(0, 3, 60)
    ]
    values = TaggingEvaluator().evaluate(samples)
    assert "auc_tau" not in values
    assert "rejection_tau" not in values
    assert isinstance(values["roc"], Image)
    assert values["roc"].validation_error() is None
    assert isinstance(values["curves"], Text)
    assert values["curves"].markdown.count("\n") == 4
    assert isinstance(values["confusion"], ConfusionMatrix)
    assert values["confusion"].validation_error() is None
    assert values["confusion"].counts().sum() == 60


MISTAKES = {
    "--data.val_files": JetTagging(data=Jets(val_files=["a.npz"])),
    "--data.num_files": JetTagging(data=Jets(num_files=0)),
    "--evaluator.signal": JetTagging(data=Jets(classes=["a", "b"])),
}


@pytest.mark.parametrize("flag", MISTAKES)
def test_mistakes_name_their_flag(flag: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag}"):
        validate_params(MISTAKES[flag])


def test_labels_that_are_not_classes_are_reported(data: Jets) -> None:
    wrong = dataclasses.replace(data, classes=["light", "charm", "bottom"])
    with pytest.raises(UsageError, match=r"^--data\.label flavour: .* from 0 to 2 .* got 0 to 3"):
        wrong.source(Mode.TRAIN)
    with pytest.raises(UsageError, match="has no column 'pT'"):
        dataclasses.replace(data, features=["pT"]).source(Mode.TRAIN)


def test_drawn_jets_have_every_feature(folder: Path, data: Jets) -> None:
    assert len(FEATURES) == 15
    with np.load(folder / "drawn" / "val_00.npz") as file:
        assert set(file.files) == {*FEATURES, "flavour"}
        assert (np.bincount(file["flavour"], minlength=4) > 0).all()
