"""Model with nested layers of every kind."""

from __future__ import annotations

from typing import Any

from small import Line

from tfaip_like import Tensors, keras

layers = keras.layers


class Scaled(layers.Layer):
    """Custom layer: layers in a list, one in an attribute, and weights of one name."""

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.parts = [layers.Dense(4, name="first"), layers.Dense(4, name="second")]
        self.norm = layers.BatchNormalization(name="norm")
        self.scale = self.add_weight(shape=(4,), initializer="ones", name="scale")
        self.shift = self.add_weight(shape=(4,), initializer="zeros", name="scale")

    def call(self, x: Any, training: bool = False) -> Any:
        for part in self.parts:
            x = part(x)
        return self.norm(x, training=training) * self.scale + self.shift


class Nested(Line):
    """Layers within layers."""

    def build(self, inputs: Tensors) -> Tensors:
        def dense(name: str) -> Any:
            return layers.Dense(4, name=name, activation="tanh")

        x = keras.Input((2, 1))
        # The names of two layers are the same: `hidden` in the encoder and in the network.
        encoder = keras.Model(x, layers.Dropout(0.1)(dense("hidden")(x)), name="encoder")
        hidden = dense("hidden")(encoder(layers.Reshape((2, 1))(inputs["x"])))
        hidden = keras.Sequential([dense("one"), layers.BatchNormalization(name="norm")], name="stack")(hidden)
        hidden = layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True, unroll=True, name="rnn"), name="both")(
            hidden
        )
        hidden = layers.MultiHeadAttention(1, 2, name="attention")(hidden, hidden)
        hidden = layers.TimeDistributed(dense("shared"), name="each")(hidden)
        hidden = Scaled(name="scaled")(hidden)
        return {"sum": layers.Dense(1, name="add")(layers.Flatten()(hidden))[:, 0]}
