"""Variational autoencoder of 8x8-pixel digits, with an annealed KL term.

train-scenario scenarios.vae --trainer.output_dir runs/vae
train-scenario scenarios.vae --model.code 2 --model.kl_epochs 20

The encoder is the exported network; the decoder, which draws digits from random codes, is in best/additional/decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfaip_like import ArraySource, Data, Mode, Model, Sample, Scenario, Spec, Tensors, context, keras, ops
from tfaip_like.schedules import CosineDecay, Schedule
from tfaip_like.settings import Trainer
from tfaip_like.summaries import Image, Summary


class Digits(Data):
    """Handwritten digits from scikit-learn; every fifth is held out for validation."""

    inputs = {"image": Spec((8, 8))}

    def source(self, mode: Mode) -> Sequence[Sample]:
        from sklearn.datasets import load_digits

        images = load_digits().images / 16
        return ArraySource({"image": images[[(i % 5 == 0) != (mode is Mode.TRAIN) for i in range(len(images))]]})


@keras.saving.register_keras_serializable("scenarios.vae")
class Sampling(keras.layers.Layer):
    """Draws codes from a normal distribution in training; returns its mean in inference."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, mean: Any, log_variance: Any, training: bool = False) -> Any:
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator)
        return mean + ops.exp(log_variance / 2) * noise


class VariationalAutoencoder(Model):
    """Variational autoencoder (Kingma and Welling 2014, https://arxiv.org/abs/1312.6114)."""

    units: int = 128
    """Units of the hidden layer of encoder and decoder."""

    code: int = 8
    """Size of the code."""

    kl_epochs: float = 10
    """Epochs over which the weight of the KL term rises linearly from 0 to 1; 0 starts with 1."""

    # The loss grows with the weight of the KL term, so it does not compare epochs.
    best = "val_negative_elbo", "min"

    def build(self, inputs: Tensors) -> Tensors:
        image = inputs["image"]
        hidden = keras.layers.Dense(self.units, activation="relu")(keras.layers.Flatten()(image))
        mean = keras.layers.Dense(self.code, name="mean")(hidden)
        log_variance = keras.layers.Dense(self.code, name="log_variance")(hidden)
        decoder = keras.Sequential(
            [
                keras.Input((self.code,)),
                keras.layers.Dense(self.units, activation="relu"),
                keras.layers.Dense(image.shape[1] * image.shape[2], activation="sigmoid"),
                keras.layers.Reshape(image.shape[1:]),
            ],
            name="decoder",
        )
        kl = ops.sum(ops.exp(log_variance) + ops.square(mean) - 1 - log_variance, axis=-1) / 2
        return {"code": mean, "kl": kl, "reconstruction": decoder(Sampling()(mean, log_variance))}

    def kl_weight(self) -> Any:
        """Return the weight of the KL term in this step."""
        return ops.minimum(1.0, context.epoch / self.kl_epochs) if self.kl_epochs else 1.0

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        pixels = [keras.layers.Flatten()(image) for image in (inputs["image"], outputs["reconstruction"])]
        reconstruction = keras.losses.binary_crossentropy(*pixels) * pixels[0].shape[1]
        return {"reconstruction": reconstruction, "weighted_kl": self.kl_weight() * outputs["kl"]}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        reconstruction = self.loss(inputs, targets, outputs)["reconstruction"]
        return {"negative_elbo": reconstruction + outputs["kl"], "kl": outputs["kl"]}

    def auxiliary_models(self, trained: keras.Model) -> Mapping[str, keras.Model]:
        code = keras.Input((self.code,), name="code")
        return {"decoder": keras.Model({"code": code}, {"image": trained.get_layer("decoder")(code)})}

    def summaries(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Mapping[str, Summary]:
        pairs = zip(inputs["image"][:18], outputs["reconstruction"][:18], strict=True)
        return {"before_and_after": Image.grid([picture for pair in pairs for picture in pair])}

    def check(self) -> None:
        self.require(self.code >= 1, "code", "must be at least 1")
        self.require(self.kl_epochs >= 0, "kl_epochs", "must not be negative")


class VAE(Scenario):
    """Variational autoencoder of handwritten digits."""

    data: Data = Digits()
    model: Model = VariationalAutoencoder()
    trainer: Trainer = Trainer(epochs=30)
    learning_rate: Schedule = CosineDecay(lr=2e-3)
