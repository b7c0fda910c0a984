"""Classification of short reports, of the weather or of the stock market.

train-scenario texts_scenario.py --trainer.output_dir runs/texts
echo '{"text": "strong wind and rain in the north"}' | predict-scenario runs/texts --predict.files -
"""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfaip_like import Data, KerasModel, Mode, Model, Scenario, Spec, keras
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.schedules import Constant, Schedule
from tfaip_like.settings import EarlyStopping, Trainer

TRAINED = 1600
COMMON = "a the and in of today again this week low high pressure falls rises turns strong weak steady"
TOPICS = ["rain wind clouds north storm sun frost", "shares bank index trade bonds profit north"]


def reports(count: int = 2000) -> tuple[list[str], np.ndarray]:
    """Return texts of mostly common words, and their topic."""
    random = np.random.default_rng(0)
    topics = random.integers(0, 2, count)
    texts = []
    for topic in topics:
        few = random.choice(TOPICS[topic].split(), random.integers(1, 4))
        other = random.choice(TOPICS[1 - topic].split(), random.integers(0, 2))
        texts.append(" ".join(random.permutation([*few, *other, *random.choice(COMMON.split(), 15)])))
    return texts, topics.astype("float32")


class Reports(Data):
    """Short reports and their topic."""

    inputs = {"text": Spec((), "str")}
    targets = {"topic": Spec(())}

    def source(self, mode: Mode):
        texts, topics = reports()
        if mode is Mode.TRAIN:
            return tf.data.Dataset.from_tensor_slices((texts[:TRAINED], topics[:TRAINED])).shuffle(TRAINED).batch(32)
        return tf.data.Dataset.from_tensor_slices((texts[TRAINED:], topics[TRAINED:])).batch(32)


class Classifier(KerasModel):
    """Convolution over word vectors."""

    vocabulary: Path | None = None
    """File with the words of the training texts, one per line."""

    resources = ("vocabulary",)
    best = "val_accuracy", "max"

    def build_model(self, inputs):
        text = keras.Input((), dtype="string", name="text")
        vectorize = keras.layers.TextVectorization(output_sequence_length=20, vocabulary=str(self.vocabulary))
        hidden = keras.layers.Embedding(1000, 16)(vectorize(text))
        hidden = keras.layers.Conv1D(16, 3, activation="relu")(hidden)
        hidden = keras.layers.Dropout(0.3)(keras.layers.GlobalMaxPooling1D()(hidden))
        return keras.Model(text, keras.layers.Dense(1, activation="sigmoid", name="topic")(hidden))


class Texts(Scenario):
    """Classification of reports."""

    data: Data = Reports()
    model: Model = Classifier(keras_losses=["binary_crossentropy"], keras_metrics=["accuracy"])
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=32)
    learning_rate: Schedule = Constant(lr=0.003)
    early_stopping: EarlyStopping = EarlyStopping(n_to_go=5)
    trainer: Trainer = Trainer(epochs=15)

    def adapt(self, train, folder: Path):
        vectorize = keras.layers.TextVectorization(max_tokens=1000)
        vectorize.adapt([str(sample.inputs["text"]) for sample in train])
        vocabulary = folder / "vocabulary.txt"
        vocabulary.write_text("\n".join(vectorize.get_vocabulary()[2:]))
        return dataclasses.replace(self, model=dataclasses.replace(self.model, vocabulary=vocabulary))
