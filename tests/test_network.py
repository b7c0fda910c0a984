"""How a model becomes networks."""

from __future__ import annotations

import keras
from small import Line, Points

from tfaip_like import Tensors
from tfaip_like.network import build_networks, input_names


class Residual(Line):
    """Blocks that double the number of paths from the output to the input, each of them."""

    blocks: int = 40
    """How many."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = inputs["x"]
        for _ in range(self.blocks):
            hidden = hidden + keras.ops.tanh(hidden)
        return {"sum": keras.layers.Dense(1)(hidden)[:, 0]}


def test_the_inputs_of_a_deep_network_are_found_without_walking_every_path() -> None:
    """There are 2 ** 40 of them: this would not end."""
    assert input_names(build_networks(Residual(), Points()).training) == ["x"]
