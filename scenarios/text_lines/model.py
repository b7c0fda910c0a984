"""Network of convolutions and a bidirectional LSTM, trained with the CTC loss.

Graves et al., Connectionist Temporal Classification, 2006. Code 0 is the blank and the padding of targets; the
characters of the codec have the codes 1, 2, ...
"""

from __future__ import annotations

from typing import Any

from tfaip_like import Model, Tensors, keras, ops

BLANK = 0
SORT_TO_END = 1 << 24


def clear_padding(hidden: Any, length: Any) -> Any:
    """Return `hidden` of shape (batch, width, height, channels) with zeros in the padding of each line.

    A convolution writes its bias into the padding, from where the next one would carry it into the line.
    """
    inside = make_mask(hidden[:, :, 0, 0], length)
    return hidden * ops.cast(inside[:, :, None, None], hidden.dtype)


def make_mask(sequence: Any, length: Any) -> Any:
    """Return a mask of shape (batch, time): whether a step is within the length (batch,) of its line."""
    return make_positions(sequence) <= ops.expand_dims(length, -1)


def make_positions(sequence: Any) -> Any:
    """Return positions 1, 2, 3, ... of shape (batch, time); not by `arange`, since a symbolic length is unknown."""
    return ops.cumsum(ops.ones_like(sequence, dtype="int32"), axis=1)


def greedy_decode(logits: Any, length: Any) -> Any:
    """Return the most likely codes (batch, time) without repetitions and blanks, padded with -1."""
    likeliest = ops.cast(ops.argmax(logits, axis=-1), "int32")
    before = ops.pad(likeliest[:, :-1], ((0, 0), (1, 0)), constant_values=BLANK)
    kept = make_mask(likeliest, length) & (likeliest != BLANK) & (likeliest != before)
    order = ops.argsort(ops.where(kept, 0, SORT_TO_END) + make_positions(likeliest), axis=1)
    return ops.take_along_axis(ops.where(kept, likeliest, -1), order, axis=1)


class LineRecognition(Model):
    """Convolutions with pooling and a bidirectional LSTM; predicts a character or blank for each step."""

    filters: list[int] = [40, 60]
    """Filters of each convolution, which is followed by 2x2 max pooling."""

    units: int = 200
    """Units of the LSTM in each direction."""

    dropout: float = 0.5
    """Dropout rate after the LSTM, in [0, 1)."""

    classes: int | None = None
    """Number of characters of the codec plus the blank; set from the codec."""

    best = "val_character_error_rate", "min"

    def build(self, inputs: Tensors) -> Tensors:
        assert self.classes is not None
        length = inputs["width"]
        hidden = ops.expand_dims(ops.cast(inputs["image"], "float32"), -1) / 255.0
        for filters in self.filters:
            hidden = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(hidden)
            hidden = keras.layers.MaxPooling2D(2)(hidden)
            length = length // 2
            hidden = clear_padding(hidden, length)
        hidden = keras.layers.Reshape((-1, hidden.shape[2] * hidden.shape[3]))(hidden)
        inside = make_mask(hidden[:, :, 0], length)
        lstm = keras.layers.LSTM(self.units, return_sequences=True)
        hidden = keras.layers.Bidirectional(lstm)(hidden, mask=inside)
        hidden = keras.layers.Dropout(self.dropout)(hidden)
        return {"logits": keras.layers.Dense(self.classes, name="logits")(hidden), "steps": length}

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors:
        outputs = trained(dict(inputs))
        return {"codes": greedy_decode(outputs["logits"], outputs["steps"])}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {
            "ctc": ops.ctc_loss(
                targets["codes"], outputs["logits"], targets["length"], outputs["steps"], mask_index=BLANK
            )
        }
