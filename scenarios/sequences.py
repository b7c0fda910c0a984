"""The scenario that needs two networks: an encoder-decoder with attention, which translates dates.

People write dates in many ways ("3 march 1998", "sat 03/07/98"); the answer is 1998-03-03. While training, the decoder
sees the right answer so far (teacher forcing); in prediction only its own, character by character. So what it is worth
shows in the evaluator alone, which judges the prediction network.

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
"""The days that occur; two digits tell each of their years."""

NUM_DAYS = (LAST_DAY - FIRST_DAY).days + 1

LONGEST_DAYS = date(2025, 9, 24), date(2025, 12, 24)
"""No other day is longer than both of these Wednesdays, whatever the format."""

MONTHS = "january february march april may june july august september october november december"
WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday"

ANSWER_LENGTH = 10
"""Characters of an answer: 1998-03-03."""

NUM_CODES = 128
"""Number of codes. Code 0 is no character: it pads texts, and stands before the first one of an answer."""


def date_fields(day: date) -> dict[str, str]:
    """What formats are made of: the parts of a day, in each way of writing them."""
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
    """Texts as codes, (texts, length)."""
    return np.array(texts, f"S{length}").view(np.uint8).reshape(-1, length).astype(np.int32)


def decode(codes: npt.NDArray[np.integer[Any]]) -> str:
    """Codes as a text."""
    return bytes(codes[codes != 0].tolist()).decode("ascii")


def is_valid_format(pattern: str) -> bool:
    """Return whether a day can be written so."""
    try:
        return pattern.format(**date_fields(FIRST_DAY)).isascii()
    except (AttributeError, LookupError, ValueError):
        return False


class Dates(Data):
    """Days of a century as people write them, and in ISO form. Those to validate on are none of those to train on."""

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
    """The ways of writing a day; each sample has one of them."""

    samples: int = 10000
    """How many to train on."""

    val_samples: int = 1000
    """How many to validate on, each another day."""

    seed: int = 1
    """Draws days and formats; it does not depend on the trainer's seed, so all runs see the same samples."""

    targets = {"answer": Spec((ANSWER_LENGTH,), "int32")}

    @property
    def inputs(self) -> Mapping[str, Spec]:
        return {"text": Spec((self.longest,), "int32")}

    @property
    def longest(self) -> int:
        """Characters of the longest text."""
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
        self.require(len(self.formats) > 0, "formats", "there must be at least one")
        for pattern in self.formats:
            self.require(is_valid_format(pattern), "formats", f"write {{NAME}} for {', '.join(date_fields(FIRST_DAY))}")
        self.require(self.samples >= 1, "samples", "there must be at least 1")
        self.require(
            0 <= self.val_samples < NUM_DAYS, "val_samples", f"must be from 0 to {NUM_DAYS - 1}, to leave some days"
        )
        self.require(self.seed >= 0, "seed", "must be 0 or more")


GetLayer = Callable[[str], Any]
"""Gives the layer of a name: both networks are made of the same ones."""


def encode_inputs(text: Any, layer: GetLayer) -> tuple[Any, list[Any]]:
    """The encoder: a code for each character, (batch, characters, units), and the state in which the decoder begins."""
    encoded, *states = layer("encode")(layer("embed")(text), mask=text != 0)
    forward, backward = states[: len(states) // 2], states[len(states) // 2 :]
    return encoded, [ops.concatenate(both, axis=-1) for both in zip(forward, backward, strict=True)]


def predict_characters(decoded: Any, encoded: Any, text: Any, layer: GetLayer) -> tuple[Any, Any]:
    """Logits of the characters of the answer, (batch, n, ASCII), and their attention, (batch, n, those of the text)."""
    inside = (text != 0)[:, None]
    seen, attention = layer("attend")(decoded, encoded, attention_mask=inside, return_attention_scores=True)
    combined = layer("combine")(ops.concatenate([decoded, seen], axis=-1))
    return layer("choose")(combined), ops.mean(attention, axis=1)


class Translator(Model):
    """A recurrent encoder and decoder, and attention of the one to the other (https://arxiv.org/abs/1508.04025)."""

    cell: Literal["GRU", "LSTM"] = "GRU"
    """Kind of recurrent cell."""

    units: int = 96
    """Width of all layers."""

    heads: int = 4
    """Heads of the attention, which share the width."""

    feed_targets = ("answer",)
    best = "val_exact", "max"

    def build(self, inputs: Tensors) -> Tensors:
        recurrent = getattr(keras.layers, self.cell)
        half = recurrent(self.units // 2, return_sequences=True, return_state=True)
        # Keras' own start, within 0.05 of 0, may cost hundreds of steps before the text is read.
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
        self.require(self.heads >= 1, "heads", "there must be at least 1")
        self.require(self.units >= 2 and self.units % 2 == 0, "units", "must be even: half of them read backwards")
        self.require(self.units % self.heads == 0, "heads", f"must divide the {self.units} units")


class AnswerEvaluator(Evaluator):
    """Which part of the answers is exact, and which part of their characters is right."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        right = np.array([sample.outputs["answer"] == sample.targets["answer"] for sample in samples])
        return {"exact": float(right.all(axis=1).mean()), "characters": float(right.mean())}


class Sequences(Scenario):
    """Translates dates as people write them into ISO form."""

    data: Data = Dates()
    model: Model = Translator()
    evaluator: Evaluator | None = AnswerEvaluator()
    trainer: Trainer = Trainer(epochs=4)
    optimizer: Optimizer = Adam(clip_global_norm=1.0)
    learning_rate: Schedule = CosineDecay(lr=5e-3, warmup_epochs=0.5)
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=64)
    val: ValLoaderSettings = ValLoaderSettings(batch_size=250)
    lav: LavLoaderSettings = LavLoaderSettings(batch_size=250)
