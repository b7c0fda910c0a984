"""Variational autoencoder of handwritten digits; best/ has the encoder, best/additional/decoder the decoder.

train-scenario vae_scenario.py --trainer.output_dir runs/vae
"""

from sklearn.datasets import load_digits

from tfaip_like import ArraySource, Data, Mode, Model, Scenario, Spec, keras, ops
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.schedules import Constant, Schedule
from tfaip_like.settings import Trainer

TRAINED = 1400


class Digits(Data):
    """Handwritten digits."""

    inputs = {"image": Spec((8, 8, 1))}

    def source(self, mode: Mode):
        images = (load_digits().images / 16)[..., None]
        return ArraySource({"image": images[:TRAINED] if mode is Mode.TRAIN else images[TRAINED:]})


@keras.saving.register_keras_serializable()
class Sampling(keras.layers.Layer):
    """Draws a code from a normal distribution."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, mean, log_variance):
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(log_variance / 2) * noise


class Autoencoder(Model):
    """Variational autoencoder."""

    code: int = 4
    """Size of the code."""

    def build(self, inputs):
        image = inputs["image"]
        hidden = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(image)
        hidden = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(hidden))
        mean = keras.layers.Dense(self.code, name="mean")(hidden)
        log_variance = keras.layers.Dense(self.code, name="log_variance")(hidden)
        decoder = keras.Sequential(
            [
                keras.Input((self.code,)),
                keras.layers.Dense(4 * 4 * 16, activation="relu"),
                keras.layers.Reshape((4, 4, 16)),
                keras.layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid"),
            ],
            name="decoder",
        )
        kl = ops.sum(ops.exp(log_variance) + ops.square(mean) - 1 - log_variance, axis=-1) / 2
        return {"code": mean, "kl": kl, "decoded": decoder(Sampling()(mean, log_variance))}

    def loss(self, inputs, targets, outputs):
        entropy = keras.losses.binary_crossentropy(inputs["image"], outputs["decoded"])
        return {"pixel_entropy": ops.sum(entropy, axis=(1, 2)), "kl": outputs["kl"]}

    def build_export(self, inputs, prediction):
        return {"code": prediction(inputs)["code"]}

    def auxiliary_models(self, trained):
        code = keras.Input((self.code,), name="code")
        return {"decoder": keras.Model({"code": code}, {"image": trained.get_layer("decoder")(code)})}


class VAE(Scenario):
    """Variational autoencoder of handwritten digits."""

    data: Data = Digits()
    model: Model = Autoencoder()
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=32)
    learning_rate: Schedule = Constant(lr=0.002)
    trainer: Trainer = Trainer(epochs=40)
