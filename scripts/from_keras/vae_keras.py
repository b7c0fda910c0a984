"""Variational autoencoder of handwritten digits: plain Keras, with layers that add their loss."""

import sys

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 1
CODE, TRAINED = 4, 1400


@keras.saving.register_keras_serializable()
class Sampling(layers.Layer):
    """Draws a code from a normal distribution and adds the KL divergence from the standard one to the loss."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(SEED)

    def call(self, mean, log_variance):
        kl = ops.sum(ops.exp(log_variance) + ops.square(mean) - 1 - log_variance, axis=-1) / 2
        self.add_loss(ops.mean(kl))
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(log_variance / 2) * noise


def pixel_entropy(image, decoded):
    """Return the cross-entropy of each image, summed over its pixels."""
    return ops.sum(keras.losses.binary_crossentropy(image, decoded), axis=(1, 2))


keras.utils.set_random_seed(SEED)
images = (load_digits().images / 16).astype("float32")[..., None]
train, val = images[:TRAINED], images[TRAINED:]

image = keras.Input((8, 8, 1))
hidden = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(image)
hidden = layers.Dense(64, activation="relu")(layers.Flatten()(hidden))
mean, log_variance = layers.Dense(CODE, name="mean")(hidden), layers.Dense(CODE, name="log_variance")(hidden)
encoder = keras.Model(image, mean)

code = keras.Input((CODE,))
hidden = layers.Dense(4 * 4 * 16, activation="relu")(code)
hidden = layers.Reshape((4, 4, 16))(hidden)
decoded = layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid")(hidden)
decoder = keras.Model(code, decoded, name="decoder")

vae = keras.Model(image, decoder(Sampling()(mean, log_variance)))
vae.compile(keras.optimizers.Adam(0.002), loss=pixel_entropy)
vae.fit(
    train,
    train,
    epochs=40,
    batch_size=32,
    validation_data=(val, val),
    callbacks=[
        keras.callbacks.ModelCheckpoint("vae.weights.h5", save_best_only=True, save_weights_only=True),
        keras.callbacks.CSVLogger("vae.csv"),
    ],
    verbose=2,
)
vae.load_weights("vae.weights.h5")
encoder.save("encoder.keras")
decoder.save("decoder.keras")
np.save("drawn.npy", decoder.predict(np.random.default_rng(0).normal(size=(16, CODE)), verbose=0))
print(f"result: {vae.evaluate(val, val, verbose=0):.4f}")
