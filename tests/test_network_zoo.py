"""The zoo of networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shipped import assert_lav_and_predict_work

from scenarios.network_zoo.architectures import AUTOENCODERS, CLASSIFIERS
from scenarios.network_zoo.draw import SHAPES, draw_shapes
from scenarios.network_zoo.scenario import Autoencoder, Classifier, NetworkZoo, ShapeImages, ZooModel
from tfaip_like import Mode, UsageError, train
from tfaip_like._training.result import TrainResult
from tfaip_like.modeling._network import build_networks
from tfaip_like.params._apply import ResolvedParams, apply_settings
from tfaip_like.params._base import default_instance
from tfaip_like.params._flags import settings_from_flags, tokenize
from tfaip_like.params._tree import validate_params
from tfaip_like.settings import Trainer

DATA = ShapeImages(samples=400, val_samples=80, noise=0.0)
MODELS: list[ZooModel] = [
    *(Classifier(architecture=name, units=24, classes=6) for name in CLASSIFIERS),  # type: ignore[arg-type]
    *(Autoencoder(architecture=name, units=24) for name in AUTOENCODERS),  # type: ignore[arg-type]
]


def trained(model: ZooModel, output_dir: Path) -> TrainResult:
    trainer = Trainer(epochs=4, random_seed=3, jit_compile=False, output_dir=output_dir)
    return train(NetworkZoo(data=DATA, model=model, trainer=trainer))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module")
def classifier(folder: Path) -> TrainResult:
    return trained(Classifier(architecture="classical", units=64), folder / "classifier")


@pytest.fixture(scope="module")
def autoencoder(folder: Path) -> TrainResult:
    return trained(Autoencoder(units=64, code=6, input_noise=0.1), folder / "autoencoder")


def test_a_classifier_learns_and_its_export_predicts(classifier: TrainResult, folder: Path, tmp_path: Path) -> None:
    assert classifier.history[-1]["loss"] < classifier.history[0]["loss"]
    assert classifier.history[-1]["val_accuracy"] > 0.3
    predicted = assert_lav_and_predict_work(folder / "classifier", classifier, tmp_path)
    assert predicted["probabilities"].shape == (80, 6)


@pytest.mark.slow
def test_an_autoencoder_learns_and_exports_its_encoder(autoencoder: TrainResult, folder: Path, tmp_path: Path) -> None:
    assert autoencoder.history[-1]["val_loss"] < 0.9 * autoencoder.history[0]["val_loss"]
    predicted = assert_lav_and_predict_work(folder / "autoencoder", autoencoder, tmp_path)
    assert predicted["reconstruction"].shape == (80, 16, 16)
    assert predicted["code"].shape == (80, 6)
    assert (folder / "autoencoder" / "best" / "additional" / "encoder" / "model.keras").exists()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{type(model).__name__}.{model.architecture}")
@pytest.mark.parametrize("size", [9, 16])
def test_every_architecture_takes_pictures_of_any_size(model: ZooModel, size: int) -> None:
    data = ShapeImages(samples=3, size=size)
    network = build_networks(model, data).training
    outputs = network({"image": data.source(Mode.TRAIN).inputs["image"]})  # type: ignore[union-attr]
    if isinstance(model, Classifier):
        np.testing.assert_allclose(np.sum(outputs["probabilities"], axis=1), 1, rtol=1e-5)
    else:
        assert outputs["reconstruction"].shape == (3, size, size)
        assert outputs["code"].shape == (3, 8)


def test_random_channels_are_never_trained_and_always_the_same() -> None:
    def filters() -> np.ndarray:  # type: ignore[type-arg]
        network = build_networks(Classifier(architecture="chransynth", classes=6), ShapeImages()).training
        [fixed] = [weight for weight in network.non_trainable_variables if weight.path.endswith("kernel")]
        return np.array(fixed)

    np.testing.assert_array_equal(filters(), filters())


@pytest.mark.parametrize("name", ["Classifier.clu_one", "classifier.chransynth", "autoencoder.classical"])
def test_networks_are_chosen_by_class_and_architecture(name: str) -> None:
    words = [word for pair in zip(NetworkZoo.batch_flags, name.split("."), strict=True) for word in pair]
    words = [f"--{word}" if word in NetworkZoo.batch_flags else word for word in words]
    tree = validate_params(
        apply_settings(ResolvedParams(default_instance(NetworkZoo)), settings_from_flags(tokenize(words)[1])).tree
    )
    assert isinstance(tree, NetworkZoo)
    assert isinstance(tree.model, (Classifier, Autoencoder))
    assert f"{type(tree.model).__name__}.{tree.model.architecture}".lower() == name.lower()


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_custom_files_are_used(kind: str, tmp_path: Path) -> None:
    images, labels = draw_shapes(20, 12, 0.1, np.random.default_rng(4))
    stored = np.rint(images * 255).astype("uint8") if kind == "uint8" else images
    np.savez(tmp_path / "mine.npz", image=stored, label=labels)
    data = ShapeImages(files=[str(tmp_path / "mine.npz")], size=12)
    source = data.source(Mode.TRAIN)
    assert source is not None
    assert data.source(Mode.EVALUATE) is None
    np.testing.assert_allclose(source.inputs["image"], images, atol=1 / 255)
    assert source.inputs["image"].dtype == np.float32
    np.testing.assert_array_equal(source.targets["label"], labels)
    with pytest.raises(UsageError, match=r"^--data\.files: labels must be from 0 to 1; set --data\.classes"):
        ShapeImages(files=[str(tmp_path / "mine.npz")], size=12, classes=2).source(Mode.TRAIN)


MISTAKES = {
    "--data.val_files": ShapeImages(val_files=["a.npz"]),
    "--data.size": ShapeImages(size=4),
    "--data.classes": ShapeImages(classes=3),
}


@pytest.mark.parametrize("flag", MISTAKES)
def test_mistakes_name_their_flag(flag: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag}"):
        validate_params(NetworkZoo(data=MISTAKES[flag]))


def test_shapes_differ() -> None:
    images, labels = draw_shapes(600, 16, 0.0, np.random.default_rng(0))
    assert set(labels.tolist()) == set(range(len(SHAPES)))
    assert 0 <= images.min() <= images.max() <= 1
    ink = [images[labels == number].mean() for number in range(len(SHAPES))]
    assert min(ink) > 0.02
    assert ink[SHAPES.index("bar")] < ink[SHAPES.index("cross")] < ink[SHAPES.index("square")]
