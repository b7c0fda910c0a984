"""Forecast of a load curve six hours ahead, from windows of two days: plain Keras."""

import sys

import keras
import numpy as np

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 1
WINDOW, HORIZON, TRAINED = 48, 6, 3000


def load_curve(hours: int = 4000) -> np.ndarray:
    """Return a trend with a daily and a weekly season, and noise."""
    hour = np.arange(hours)
    seasons = np.sin(2 * np.pi * hour / 24) + 0.5 * np.sin(2 * np.pi * hour / 168)
    noise = np.random.default_rng(0).normal(0, 0.2, hours)
    return (hour / 5000 + seasons + noise).astype("float32")


def windows(series: np.ndarray, shuffle: bool):
    """Return windows of the series and the value six hours after each."""
    return keras.utils.timeseries_dataset_from_array(
        series[:, None], series[WINDOW + HORIZON - 1 :], WINDOW, batch_size=64, shuffle=shuffle, seed=SEED
    )


keras.utils.set_random_seed(SEED)
series = load_curve()
series = (series - series[:TRAINED].mean()) / series[:TRAINED].std()
train, val = windows(series[:TRAINED], shuffle=True), windows(series[TRAINED:], shuffle=False)

model = keras.Sequential(
    [
        keras.Input((WINDOW, 1)),
        keras.layers.Conv1D(16, 5, activation="relu"),
        keras.layers.GRU(16),
        keras.layers.Dense(1, name="load"),
    ]
)
model.compile(keras.optimizers.Adam(0.005), loss="mse", metrics=["mae"])
model.fit(
    train,
    epochs=15,
    validation_data=val,
    callbacks=[
        keras.callbacks.ModelCheckpoint("forecast.keras", save_best_only=True),
        keras.callbacks.EarlyStopping(patience=6),
        keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=3),
        keras.callbacks.CSVLogger("forecast.csv"),
        keras.callbacks.TensorBoard("logs"),
    ],
    verbose=2,
)

best = keras.models.load_model("forecast.keras")
np.save("forecast.npy", best.predict(val, verbose=0))
print(f"result: {best.evaluate(val, verbose=0, return_dict=True)['mae']:.4f}")
