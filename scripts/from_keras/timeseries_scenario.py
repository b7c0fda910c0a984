"""Forecast of a load curve six hours ahead, from windows of two days.

train-scenario timeseries_scenario.py --trainer.output_dir runs/timeseries
"""

import numpy as np

from tfaip_like import Data, KerasModel, Mode, Model, Scenario, Spec, keras
from tfaip_like.schedules import ReduceOnPlateau, Schedule
from tfaip_like.settings import EarlyStopping, Trainer

WINDOW, HORIZON, TRAINED = 48, 6, 3000


def load_curve(hours: int = 4000) -> np.ndarray:
    """Return a trend with a daily and a weekly season, and noise."""
    hour = np.arange(hours)
    seasons = np.sin(2 * np.pi * hour / 24) + 0.5 * np.sin(2 * np.pi * hour / 168)
    noise = np.random.default_rng(0).normal(0, 0.2, hours)
    return (hour / 5000 + seasons + noise).astype("float32")


class Windows(Data):
    """Windows of a load curve and the value six hours after each."""

    inputs = {"past": Spec((WINDOW, 1))}
    targets = {"load": Spec(())}

    def source(self, mode: Mode):
        series = load_curve()
        series = (series - series[:TRAINED].mean()) / series[:TRAINED].std()
        series = series[:TRAINED] if mode is Mode.TRAIN else series[TRAINED:]
        return keras.utils.timeseries_dataset_from_array(
            series[:, None], series[WINDOW + HORIZON - 1 :], WINDOW, batch_size=64, shuffle=mode is Mode.TRAIN
        )


class Forecaster(KerasModel):
    """Convolution and recurrent layer."""

    def build_model(self, inputs):
        return keras.Sequential(
            [
                keras.Input((WINDOW, 1)),
                keras.layers.Conv1D(16, 5, activation="relu"),
                keras.layers.GRU(16),
                keras.layers.Dense(1, name="load"),
            ]
        )


class Forecast(Scenario):
    """Forecast of a load curve."""

    data: Data = Windows()
    model: Model = Forecaster(keras_losses=["mse"], keras_metrics=["mae"])
    learning_rate: Schedule = ReduceOnPlateau(lr=0.005, factor=0.5, patience=3)
    early_stopping: EarlyStopping = EarlyStopping(n_to_go=6)
    trainer: Trainer = Trainer(epochs=15)
