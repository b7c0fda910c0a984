"""Generative adversarial network that draws 8x8-pixel digits: its own training step with two optimizers.

train-scenario scenarios.gan --trainer.output_dir runs/gan
train-scenario scenarios.gan --model.discriminator_steps 2 --optimizers.generator RMSprop
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfaip_like import ArraySource, Data, Evaluator, Mode, Model, Sample, Scenario, Spec, Tensors, keras, ops
from tfaip_like.modeling import TrainingBatch, TrainingStep
from tfaip_like.optimizers import Adam, Optimizer, Optimizers
from tfaip_like.schedules import Constant, Schedule
from tfaip_like.settings import Trainer
from tfaip_like.summaries import Image, Summary


class Digits(Data):
    """Handwritten digits from scikit-learn, with noise to draw digits from; every fifth is held out."""

    noise: int = 16
    """Numbers of noise per digit."""

    targets = {"image": Spec((8, 8))}

    @property
    def inputs(self) -> Mapping[str, Spec]:
        return {"noise": Spec((self.noise,))}

    def source(self, mode: Mode) -> Sequence[Sample]:
        from sklearn.datasets import load_digits

        images = load_digits().images / 16
        images = images[[(i % 5 == 0) != (mode is Mode.TRAIN) for i in range(len(images))]]
        noise = np.random.default_rng(0).normal(size=(len(images), self.noise))
        return ArraySource({"noise": noise}, {"image": images})


def cross_entropy(logits: Any, target: float) -> Any:
    """Return the loss of each sample if all of them should have the target 0 (drawn) or 1 (real)."""
    logits = ops.cast(logits, "float32")  # also in mixed precision
    return ops.mean(ops.softplus(logits) - target * logits, axis=-1)


class GAN(Model):
    """Generative adversarial network (Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661)."""

    units: int = 128
    """Units of the hidden layers."""

    penalty: float = 0.1
    """Weight of the gradient penalty of the discriminator at real images (R1, https://arxiv.org/abs/1801.04406)."""

    discriminator_steps: int = 1
    """Updates of the discriminator per update of the generator."""

    feed_targets = ("image",)
    best = "val_frechet_distance", "min"

    def build(self, inputs: Tensors) -> Tensors:
        noise, image = inputs["noise"], inputs["image"]
        shape = image.shape[1:]
        generator = keras.Sequential(
            [
                keras.Input(noise.shape[1:]),
                keras.layers.Dense(self.units, activation="leaky_relu"),
                keras.layers.Dense(self.units, activation="leaky_relu"),
                keras.layers.Dense(shape[0] * shape[1], activation="sigmoid"),
                keras.layers.Reshape(shape),
            ],
            name="generator",
        )
        discriminator = keras.Sequential(
            [
                keras.Input(shape),
                keras.layers.Flatten(),
                keras.layers.Dense(self.units, activation="leaky_relu"),
                keras.layers.Dense(self.units, activation="leaky_relu"),
                keras.layers.Dense(1),
            ],
            name="discriminator",
        )
        drawn = generator(noise)
        return {"image": drawn, "real": discriminator(image), "drawn": discriminator(drawn)}

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors:
        return {"image": trained.get_layer("generator")(inputs["noise"])}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        real, drawn = cross_entropy(outputs["real"], 1), cross_entropy(outputs["drawn"], 0)
        return {"generator": cross_entropy(outputs["drawn"], 1), "discriminator": real + drawn}

    def train_step(self, batch: TrainingBatch, step: TrainingStep) -> Tensors:
        generator, discriminator = (step.network.get_layer(name) for name in ("generator", "discriminator"))
        image = batch.targets["image"]

        def draw() -> Any:
            return generator(keras.random.normal(ops.shape(batch.inputs["noise"]), seed=step.seed), training=True)

        def discriminator_loss() -> Any:
            loss = cross_entropy(discriminator(image), 1) + cross_entropy(discriminator(draw()), 0)
            slope = step.gradient(discriminator, image)
            return ops.mean(loss + self.penalty * ops.sum(ops.square(slope), axis=(1, 2)))

        def generator_loss() -> Any:
            return ops.mean(cross_entropy(discriminator(draw()), 1))

        for _ in range(self.discriminator_steps):
            loss = step.minimize(discriminator_loss, discriminator, optimizer="discriminator")
        return {
            "generator": step.minimize(generator_loss, generator, optimizer="generator"),
            "discriminator": loss,
        }

    def summaries(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Mapping[str, Summary]:
        return {"drawn": Image.grid(outputs["image"][:16])}

    def check(self) -> None:
        self.require(self.discriminator_steps >= 1, "discriminator_steps", "must be at least 1")
        self.require(self.penalty >= 0, "penalty", "must not be negative")


class FrechetDistance(Evaluator):
    """Fréchet distance of normal distributions fitted to the pixels of real and of drawn images; 0 if they are equal.

    That of network features (FID, https://arxiv.org/abs/1706.08500) needs a network for such images.
    """

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        pairs = [(sample.targets["image"].ravel(), sample.outputs["image"].ravel()) for sample in samples]
        real, drawn = (np.asarray(images, np.float64) for images in zip(*pairs, strict=True))
        covariances = np.cov(real, rowvar=False), np.cov(drawn, rowvar=False)
        # The trace of the square root of their product, from its eigenvalues.
        eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1]).real
        spread = sum(map(np.trace, covariances)) - 2 * np.sqrt(np.maximum(eigenvalues, 0)).sum()
        return {"frechet_distance": float(np.sum((real.mean(0) - drawn.mean(0)) ** 2) + spread)}


class OfGAN(Optimizers):
    """Optimizers of the two parts of the network."""

    generator: Optimizer = Adam(beta_1=0.5)
    discriminator: Optimizer = Adam(beta_1=0.5)


class DigitGAN(Scenario):
    """Generative adversarial network of handwritten digits."""

    data: Data = Digits()
    model: Model = GAN()
    evaluator: Evaluator | None = FrechetDistance()
    optimizers: Optimizers = OfGAN()
    trainer: Trainer = Trainer(epochs=60)
    learning_rate: Schedule = Constant(lr=5e-4)
