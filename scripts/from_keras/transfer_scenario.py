"""Transfer learning: a base trained on the digits 0 to 4, with a new head for 5 to 9.

train-scenario transfer_scenario.py --trainer.output_dir runs/first
train-scenario transfer_scenario.py --data.first 5 --data.size 100 --trainer.epochs 30 \
    --warmstart.model runs/first --warmstart.include ^base/ \
    --trainer.no_train_scope base --learning_rate.lr 0.03 --trainer.output_dir runs/head
train-scenario transfer_scenario.py --data.first 5 --data.size 100 --trainer.epochs 30 \
    --warmstart.model runs/head --trainer.no_train_scope base/batch_normalization --trainer.output_dir runs/tuned
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tfaip_like import Data, Graph, Mode, Model, Scenario, Spec, keras
from tfaip_like.schedules import Constant, Schedule
from tfaip_like.settings import Trainer


class HalfOfDigits(Data):
    """Images of five digits."""

    first: int = 0
    """First of the five digits."""

    size: int = 600
    """Number of training samples."""

    inputs = {"image": Spec((8, 8, 1))}
    targets = {"label": Spec((), "int32")}

    def source(self, mode: Mode):
        images, digits = load_digits(return_X_y=True)
        chosen = (digits >= self.first) & (digits < self.first + 5)
        images = images[chosen].reshape(-1, 8, 8, 1) / 16
        parts = train_test_split(images, digits[chosen] - self.first, train_size=self.size, random_state=0)
        return tuple(parts[::2] if mode is Mode.TRAIN else parts[1::2])


class Base(Graph):
    """Convolutions."""

    def build(self, inputs):
        hidden = keras.layers.Conv2D(16, 3, activation="relu")(inputs)
        hidden = keras.layers.BatchNormalization()(hidden)
        hidden = keras.layers.Conv2D(32, 3, activation="relu")(hidden)
        return keras.layers.GlobalAveragePooling2D()(hidden)


class Classifier(Model):
    """Base and head."""

    base: Graph = Base()
    """Part that is transferred."""

    best = "val_accuracy", "max"

    def build(self, inputs):
        features = self.base.build(inputs["image"])
        return {"class": keras.layers.Dense(5, activation="softmax", name="head")(features)}

    def loss(self, inputs, targets, outputs):
        return {"entropy": keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["class"])}

    def metrics(self, inputs, targets, outputs):
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["class"])}


class Transfer(Scenario):
    """Classification of five digits."""

    data: Data = HalfOfDigits()
    model: Model = Classifier()
    learning_rate: Schedule = Constant(lr=0.003)
    trainer: Trainer = Trainer(epochs=20)
