"""Transfer learning: a base trained on the digits 0 to 4, with a new head for 5 to 9: plain Keras."""

import sys

import keras
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 1


def load_half(first: int, size: int):
    """Return training and validation images of five digits, and their classes from 0 to 4."""
    images, digits = load_digits(return_X_y=True)
    chosen = (digits >= first) & (digits < first + 5)
    images = (images[chosen] / 16).astype("float32").reshape(-1, 8, 8, 1)
    return train_test_split(images, digits[chosen] - first, train_size=size, random_state=0)


def make_base() -> keras.Model:
    """Return the base, which both classifiers use."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
        ],
        name="base",
    )


def add_head(base: keras.Model) -> keras.Model:
    """Return a classifier with a new head."""
    image = keras.Input((8, 8, 1))
    return keras.Model(image, layers.Dense(5, activation="softmax", name="head")(base(image)))


def fit(model: keras.Model, rate: float, epochs: int, data, file: str) -> None:
    """Train a classifier; save its best epoch and return to it."""
    train_x, val_x, train_y, val_y = data
    model.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    best = keras.callbacks.ModelCheckpoint(
        f"{file}.weights.h5", monitor="val_accuracy", mode="max", save_best_only=True, save_weights_only=True
    )
    log = keras.callbacks.CSVLogger(f"{file}.csv")
    model.fit(train_x, train_y, 16, epochs, validation_data=(val_x, val_y), callbacks=[best, log], verbose=2)
    model.load_weights(f"{file}.weights.h5")


keras.utils.set_random_seed(SEED)
base = make_base()
fit(add_head(base), 0.003, 20, load_half(0, 600), "first")
base.save("base.keras")

data = load_half(5, 100)
base = keras.models.load_model("base.keras")
base.trainable = False
model = add_head(base)
fit(model, 0.03, 30, data, "head")
for layer in base.layers:  # BatchNormalization keeps its statistics
    layer.trainable = not isinstance(layer, layers.BatchNormalization)
fit(model, 0.003, 30, data, "tuned")

model.save("tuned.keras")
print(model.predict(data[1][:3], verbose=0).argmax(axis=-1) + 5)
print(f"result: {model.evaluate(data[1], data[3], verbose=0, return_dict=True)['accuracy']:.4f}")
