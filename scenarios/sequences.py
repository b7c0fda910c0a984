"""Encoder-decoder with attention and separate training and prediction networks, which normalizes dates.

The input is a date in one of many formats ("3 march 1998", "sat 03/07/98"), the output its ISO form (1998-03-03). In
training, the decoder gets the correct previous characters (teacher forcing); in prediction it gets its own ones, one
by one. Only the evaluator measures the prediction network.

train-scenario scenarios.sequences --trainer.output_dir runs/sequences --trainer.lav_every_n 1
train-scenario scenarios.sequences --model.cell LSTM --data.formats '{d} {month} {yyyy}' '{m}/{d}/{yy}'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tfaip_like import ArraySource, Data, Evaluator, Mode, Model, Sample, Scenario, Spec, Tensors, keras, ops
from tfaip_like.data import LavLoaderSettings, TrainLoaderSettings, ValLoaderSettings
from tfaip_like.optimizers import Adam, Optimizer
from tfaip_like.schedules import CosineDecay, Schedule
from tfaip_like.settings import Trainer
from tfaip_like.summaries import Image, Summary

FIRST_DAY, LAST_DAY = date(1950, 1, 1), date(2049, 12, 31)
"""Range of the dates; two digits identify each of its years."""

NUM_DAYS = (LAST_DAY - FIRST_DAY).days + 1

LONGEST_DAYS = date(2025, 9, 24), date(2025, 12, 24)
"""Dates (Wednesdays) of which one has the longest text, in every format."""

MONTHS = "january february march april may june july august september october november december"
WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday"

ANSWER_LENGTH = 10
"""Number of characters of an answer: 1998-03-03."""

NUM_CODES = 128
"""Number of codes. Code 0 is padding, and the start symbol of answers."""


def date_fields(day: date) -> dict[str, str]:
    """Return the values of all placeholders that formats may use."""
    ending = "th" if day.day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    month, weekday = MONTHS.split()[day.month - 1], WEEKDAYS.split()[day.weekday()]
    return {
        "d": f"{day.day}",
        "dd": f"{day.day:02}",
        "nth": f"{day.day}{ending}",
        "m": f"{day.month}",
        "mm": f"{day.month:02}",
        "mon": month[:3],
        "month": month,
        "yy": f"{day.year % 100:02}",
        "yyyy": f"{day.year}",
        "day": weekday[:3],
        "weekday": weekday,
    }


def encode(texts: list[str], length: int) -> npt.NDArray[np.int32]:
    """Return texts as ASCII codes of shape (texts, length), padded with 0."""
    return np.array(texts, f"S{length}").view(np.uint8).reshape(-1, length).astype(np.int32)


def decode(codes: npt.NDArray[np.integer[Any]]) -> str:
    """Return the text of ASCII codes, without padding."""
    return bytes(codes[codes != 0].tolist()).decode("ascii")


def is_valid_format(pattern: str) -> bool:
    """Return whether a format has known placeholders only and yields ASCII."""
    try:
        return pattern.format(**date_fields(FIRST_DAY)).isascii()
    except (AttributeError, LookupError, ValueError):
        return False


class Dates(Data):
    """Dates of a century in various formats, and their ISO form; training and validation dates are disjoint."""

    formats: list[str] = [
        "{d} {month} {yyyy}",
        "{nth} {mon} {yyyy}",
        "{month} {nth}, {yyyy}",
        "{mon} {d} {yy}",
        "{day} {mm}/{dd}/{yy}",
        "{m}/{d}/{yyyy}",
        "{day} {d}.{m}.{yy}",
        "{dd}.{mm}.{yyyy}",
    ]
    """Formats of the input text; one is drawn for each sample."""

    samples: int = 10000
    """Number of training samples."""

    val_samples: int = 1000
    """Number of validation samples, each with a different date."""

    seed: int = 1
    """Seed of dates and formats; independent of --trainer.random_seed, so that all runs get the same samples."""

    targets = {"answer": Spec((ANSWER_LENGTH,), "int32")}

    @property
    def inputs(self) -> Mapping[str, Spec]:
        return {"text": Spec((self.longest,), "int32")}

    @property
    def longest(self) -> int:
        """Return the length of the longest text."""
        return max(len(pattern.format(**date_fields(day))) for pattern in self.formats for day in LONGEST_DAYS)

    def source(self, mode: Mode) -> ArraySource:
        shuffled = np.random.default_rng(self.seed).permutation(NUM_DAYS)
        random = np.random.default_rng([self.seed, mode is Mode.TRAIN])
        if mode is Mode.TRAIN:
            chosen = random.choice(shuffled[self.val_samples :], self.samples)
        else:
            chosen = shuffled[: self.val_samples]
        days = [FIRST_DAY + timedelta(int(number)) for number in chosen]
        patterns = random.choice(self.formats, len(days))
        texts = [pattern.format(**date_fields(day)) for pattern, day in zip(patterns, days, strict=True)]
        answers = [day.isoformat() for day in days]
        return ArraySource({"text": encode(texts, self.longest)}, {"answer": encode(answers, ANSWER_LENGTH)})

    def check(self) -> None:
        super().check()
        self.require(len(self.formats) > 0, "formats", "must not be empty")
        for pattern in self.formats:
            self.require(
                is_valid_format(pattern),
                "formats",
                f"must use placeholders {{NAME}} of {', '.join(date_fields(FIRST_DAY))}",
            )
        self.require(self.samples >= 1, "samples", "must be at least 1")
        self.require(
            0 <= self.val_samples < NUM_DAYS,
            "val_samples",
            f"must be from 0 to {NUM_DAYS - 1}, which leaves dates for training",
        )
        self.require(self.seed >= 0, "seed", "must not be negative")


GetLayer = Callable[[str], Any]
"""Returns a layer by its name; both networks share their layers."""


def encode_inputs(text: Any, layer: GetLayer) -> tuple[Any, list[Any]]:
    """Return the encoded characters and the initial states of the decoder.

    Args:
        text: codes of shape (batch, characters).
        layer: returns a layer by its name.

    Returns:
        A tensor of shape (batch, characters, units), and the states of the decoder of shape (batch, units).
    """
    encoded, *states = layer("encode")(layer("embed")(text), mask=text != 0)
    forward, backward = states[: len(states) // 2], states[len(states) // 2 :]
    return encoded, [ops.concatenate(both, axis=-1) for both in zip(forward, backward, strict=True)]


def predict_characters(decoded: Any, encoded: Any, text: Any, layer: GetLayer) -> tuple[Any, Any]:
    """Return the logits of answer characters, and their attention to the text.

    Args:
        decoded: outputs of the decoder of shape (batch, n, units).
        encoded: outputs of the encoder of shape (batch, characters, units).
        text: codes of shape (batch, characters); 0 is masked.
        layer: returns a layer by its name.

    Returns:
        Logits of shape (batch, n, NUM_CODES) and attention weights of shape (batch, n, characters).
    """
    inside = (text != 0)[:, None]
    seen, attention = layer("attend")(decoded, encoded, attention_mask=inside, return_attention_scores=True)
    combined = layer("combine")(ops.concatenate([decoded, seen], axis=-1))
    return layer("choose")(combined), ops.mean(attention, axis=1)


class Translator(Model):
    """Recurrent encoder-decoder with attention (https://arxiv.org/abs/1508.04025)."""

    cell: Literal["GRU", "LSTM"] = "GRU"
    """Kind of recurrent cell."""

    units: int = 96
    """Units of all layers; must be even and a multiple of `heads`."""

    heads: int = 4
    """Number of attention heads, of units / heads units each."""

    feed_targets = ("answer",)
    best = "val_exact", "max"

    def build(self, inputs: Tensors) -> Tensors:
        recurrent = getattr(keras.layers, self.cell)
        half = recurrent(self.units // 2, return_sequences=True, return_state=True)
        # With Keras' default (uniform within 0.05) it may take hundreds of steps until the text has any influence.
        start = keras.initializers.RandomNormal(stddev=1.0)
        layers = {
            "embed": keras.layers.Embedding(NUM_CODES, self.units, start, name="embed"),
            "encode": keras.layers.Bidirectional(half, name="encode"),
            "decode": recurrent(self.units, return_sequences=True, name="decode"),
            "attend": keras.layers.MultiHeadAttention(self.heads, self.units // self.heads, name="attend"),
            "combine": keras.layers.Dense(self.units, activation="tanh", name="combine"),
            "choose": keras.layers.Dense(NUM_CODES, name="choose"),
        }
        layer = layers.__getitem__
        encoded, state = encode_inputs(inputs["text"], layer)
        before = ops.pad(inputs["answer"][:, :-1], [(0, 0), (1, 0)])
        decoded = layer("decode")(layer("embed")(before), initial_state=state)
        logits, _ = predict_characters(decoded, encoded, inputs["text"], layer)
        return {"logits": logits}

    def build_prediction(self, inputs: Tensors, trained: keras.Model) -> Tensors:
        layer = trained.get_layer
        encoded, state = encode_inputs(inputs["text"], layer)
        character = ops.zeros_like(inputs["text"][:, 0])
        characters, attentions = [], []
        for _ in range(ANSWER_LENGTH):
            decoded, state = layer("decode").cell(layer("embed")(character), state)
            logits, attention = predict_characters(decoded[:, None], encoded, inputs["text"], layer)
            character = ops.argmax(logits[:, 0], axis=-1)
            characters.append(character)
            attentions.append(attention[:, 0])
        return {"answer": ops.stack(characters, axis=1), "attention": ops.stack(attentions, axis=1)}

    def summaries(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Mapping[str, Summary]:
        return {"attention": Image.grid(list(outputs["attention"][:8]))}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        loss = keras.losses.sparse_categorical_crossentropy(targets["answer"], outputs["logits"], from_logits=True)
        return {"cross_entropy": ops.mean(loss, axis=-1)}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        right = keras.metrics.sparse_categorical_accuracy(targets["answer"], outputs["logits"])
        return {"forced_accuracy": ops.mean(right, axis=-1)}

    def check(self) -> None:
        super().check()
        self.require(self.heads >= 1, "heads", "must be at least 1")
        self.require(self.units >= 2 and self.units % 2 == 0, "units", "must be even: half of the units read backwards")
        self.require(self.units % self.heads == 0, "heads", f"must divide --model.units ({self.units})")


class AnswerEvaluator(Evaluator):
    """Fraction of exact answers, and of correct characters."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        right = np.array([sample.outputs["answer"] == sample.targets["answer"] for sample in samples])
        return {"exact": float(right.all(axis=1).mean()), "characters": float(right.mean())}


class Sequences(Scenario):
    """Conversion of written dates into ISO format."""

    data: Data = Dates()
    model: Model = Translator()
    evaluator: Evaluator | None = AnswerEvaluator()
    trainer: Trainer = Trainer(epochs=4)
    optimizer: Optimizer = Adam(clip_global_norm=1.0)
    learning_rate: Schedule = CosineDecay(lr=5e-3, warmup_epochs=0.5)
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=64)
    val: ValLoaderSettings = ValLoaderSettings(batch_size=250)
    lav: LavLoaderSettings = LavLoaderSettings(batch_size=250)
