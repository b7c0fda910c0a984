"""Generative adversarial network of handwritten digits, with its own training step.

train-scenario gan_scenario.py --trainer.output_dir runs/gan
"""

import numpy as np
from sklearn.datasets import load_digits

from tfaip_like import ArraySource, Data, Evaluator, Mode, Model, Scenario, Spec, keras, ops
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.optimizers import Adam, Optimizer, Optimizers
from tfaip_like.schedules import Constant, Schedule
from tfaip_like.settings import Trainer

NOISE, TRAINED = 16, 1400


class Digits(Data):
    """Handwritten digits, and noise to draw digits from."""

    inputs = {"noise": Spec((NOISE,))}
    targets = {"image": Spec((8, 8, 1))}

    def source(self, mode: Mode):
        images = (load_digits().images / 16)[..., None]
        images = images[:TRAINED] if mode is Mode.TRAIN else images[TRAINED:]
        return ArraySource({"noise": np.random.default_rng(0).normal(size=(len(images), NOISE))}, {"image": images})


def entropy(logits, target):
    """Return the loss of logits that should all have a target."""
    return keras.losses.binary_crossentropy(target * ops.ones_like(logits), logits, from_logits=True)


class GAN(Model):
    """Generator and discriminator."""

    feed_targets = ("image",)
    best = "val_distance", "min"

    def build(self, inputs):
        generator = keras.Sequential(
            [
                keras.Input((NOISE,)),
                keras.layers.Dense(4 * 4 * 32, activation="leaky_relu"),
                keras.layers.Reshape((4, 4, 32)),
                keras.layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="leaky_relu"),
                keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
            ],
            name="generator",
        )
        discriminator = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="leaky_relu"),
                keras.layers.Flatten(),
                keras.layers.Dropout(0.3),
                keras.layers.Dense(1),
            ],
            name="discriminator",
        )
        drawn = generator(inputs["noise"])
        return {"image": drawn, "of_real": discriminator(inputs["image"]), "of_drawn": discriminator(drawn)}

    def build_prediction(self, inputs, trained):
        return {"image": trained.get_layer("generator")(inputs["noise"])}

    def loss(self, inputs, targets, outputs):
        of_real, of_drawn = outputs["of_real"], outputs["of_drawn"]
        return {"generator": entropy(of_drawn, 1), "discriminator": entropy(of_real, 0.9) + entropy(of_drawn, 0)}

    def train_step(self, batch, step):
        generator, discriminator = (step.network.get_layer(name) for name in ("generator", "discriminator"))

        def judge_drawn():
            noise = keras.random.normal(ops.shape(batch.inputs["noise"]), seed=step.seed)
            return discriminator(generator(noise, training=True), training=True)

        def discriminator_loss():
            of_real = discriminator(batch.targets["image"], training=True)
            return ops.mean(entropy(of_real, 0.9) + entropy(judge_drawn(), 0))

        def generator_loss():
            return ops.mean(entropy(judge_drawn(), 1))

        loss = step.minimize(discriminator_loss, discriminator, optimizer="discriminator")
        return {
            "discriminator": loss,
            "generator": step.minimize(generator_loss, generator, optimizer="generator"),
        }


class Distance(Evaluator):
    """Distance of drawn images from held-out ones, in their means and covariances."""

    def evaluate(self, samples):
        pairs = [(sample.targets["image"].ravel(), sample.outputs["image"].ravel()) for sample in samples]
        real, drawn = map(np.stack, zip(*pairs, strict=True))
        difference = real.mean(axis=0) - drawn.mean(axis=0)
        covariances = np.cov(real, rowvar=False) - np.cov(drawn, rowvar=False)
        return {"distance": float(np.sum(difference**2) + np.sum(covariances**2))}


class GANOptimizers(Optimizers):
    """An optimizer for each part."""

    generator: Optimizer = Adam(beta_1=0.5)
    discriminator: Optimizer = Adam(beta_1=0.5)


class DigitGAN(Scenario):
    """Generative adversarial network of handwritten digits."""

    data: Data = Digits()
    model: Model = GAN()
    evaluator: Evaluator | None = Distance()
    optimizers: Optimizers = GANOptimizers()
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=32)
    learning_rate: Schedule = Constant(lr=0.001)
    trainer: Trainer = Trainer(epochs=40)
