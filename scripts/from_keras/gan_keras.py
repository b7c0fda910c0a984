"""Generative adversarial network of handwritten digits: plain Keras with its own `train_step`."""

import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 1
NOISE, TRAINED = 16, 1400


class GAN(keras.Model):
    """Generator and discriminator with an optimizer each."""

    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.seed_generator = keras.random.SeedGenerator(SEED)
        self.generator_loss = keras.metrics.Mean(name="generator")
        self.discriminator_loss = keras.metrics.Mean(name="discriminator")

    def compile(self, generator_optimizer, discriminator_optimizer):
        super().compile()
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @property
    def metrics(self):
        return [self.generator_loss, self.discriminator_loss]

    def draw(self, count):
        noise = keras.random.normal((count, NOISE), seed=self.seed_generator)
        return self.generator(noise, training=True)

    def train_step(self, real):
        count = tf.shape(real)[0]
        drawn = self.draw(count)
        with tf.GradientTape() as tape:
            of_real, of_drawn = self.discriminator(real, training=True), self.discriminator(drawn, training=True)
            loss = self.entropy(tf.fill((count, 1), 0.9), of_real) + self.entropy(tf.zeros((count, 1)), of_drawn)
        weights = self.discriminator.trainable_weights
        self.discriminator_optimizer.apply(tape.gradient(loss, weights), weights)
        self.discriminator_loss.update_state(loss)

        with tf.GradientTape() as tape:
            loss = self.entropy(tf.ones((count, 1)), self.discriminator(self.draw(count), training=True))
        weights = self.generator.trainable_weights
        self.generator_optimizer.apply(tape.gradient(loss, weights), weights)
        self.generator_loss.update_state(loss)
        return {metric.name: metric.result() for metric in self.metrics}


class KeepBest(keras.callbacks.Callback):
    """Compares drawn images with held-out ones after each epoch, and saves the best generator."""

    def __init__(self, images):
        super().__init__()
        self.images, self.best = images.reshape(len(images), -1), np.inf
        self.noise = np.random.default_rng(0).normal(size=(len(images), NOISE)).astype("float32")

    def on_epoch_end(self, epoch, logs=None):
        drawn = self.model.generator.predict(self.noise, verbose=0).reshape(len(self.noise), -1)
        difference = self.images.mean(axis=0) - drawn.mean(axis=0)
        covariances = np.cov(self.images, rowvar=False) - np.cov(drawn, rowvar=False)
        logs["distance"] = distance = float(np.sum(difference**2) + np.sum(covariances**2))
        if distance < self.best:
            self.best = distance
            self.model.generator.save("generator.keras")


keras.utils.set_random_seed(SEED)
images = (load_digits().images / 16).astype("float32")[..., None]
train = tf.data.Dataset.from_tensor_slices(images[:TRAINED]).shuffle(TRAINED).batch(32, drop_remainder=True)

generator = keras.Sequential(
    [
        keras.Input((NOISE,)),
        layers.Dense(4 * 4 * 32, activation="leaky_relu"),
        layers.Reshape((4, 4, 32)),
        layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="leaky_relu"),
        layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
    ],
    name="generator",
)
discriminator = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(32, 3, strides=2, padding="same", activation="leaky_relu"),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(1),
    ],
    name="discriminator",
)
gan = GAN(generator, discriminator)
gan.compile(keras.optimizers.Adam(0.001, beta_1=0.5), keras.optimizers.Adam(0.001, beta_1=0.5))
keep_best = KeepBest(images[TRAINED:])
gan.fit(train, epochs=40, callbacks=[keep_best, keras.callbacks.CSVLogger("gan.csv")], verbose=2)
print(f"result: {keep_best.best:.4f}")
