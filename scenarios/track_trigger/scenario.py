"""Finds where tracks come from, for a trigger: 27 numbers in, 2 out, a small network for each of five experts.

Samples are drawn by scenarios.track_trigger.draw, unless files are given:

train-scenario scenarios.track_trigger --data.expert 1 --trainer.output_dir runs/trigger
train-scenario scenarios.track_trigger --train.resample Uniform --train.resample.target track \
    --train.resample.component 0 --train.filter MinimumHits
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tfaip_like import ArraySource, Data, Evaluator, Mode, Model, Processor, Sample, Scenario, Spec, Tensors, keras, ops
from tfaip_like.data import Filter, TableSource, TrainLoaderSettings, ValLoaderSettings, column_names, find_files
from tfaip_like.schedules import CosineDecay, Schedule
from tfaip_like.settings import Trainer
from tfaip_like.summaries import Histogram, Image, Summary, Text

from .activation import ACTIVATION_NAMES, parse_activation
from .draw import (
    EXPERTS,
    MAX_Z_CM,
    NUM_INPUTS,
    RADII,
    draw_tracks,
    find_hit_layers,
    select_expert,
)

Floats = npt.NDArray[np.floating[Any]]

NUM_BINS = 80
"""Of a picture, in each direction."""


class ChooseExpert(Processor):
    """Notes which expert is to be asked, for predictors that were gathered of several."""

    modes = (Mode.PREDICT,)

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        return dataclasses.replace(sample, meta={**sample.meta, "expert": select_expert(sample.inputs["hits"])})


class Tracks(Data):
    """Hits of tracks in nine layers, and the z and theta of the tracks, from -1 to 1."""

    expert: Literal[0, 1, 2, 3, 4, 5] = 0
    """Use the samples of this expert only; 0 uses all."""

    files: list[str] = []
    """Tables to train on (.npz, .csv, .tsv, .parquet), patterns in quotes, with hits, track and expert as columns, or
    hits_0 to hits_26, track_0 and track_1; without any, samples are drawn."""

    val_files: list[str] = []
    """Tables to validate on; without any there is no validation, but for drawn samples."""

    samples: int = 60000
    """How many are drawn to train on, of all experts together."""

    val_samples: int = 10000
    """How many are drawn to validate on."""

    seed: int = 1
    """Draws the samples; it does not depend on the trainer's seed, so all runs see the same."""

    inputs = {"hits": Spec((NUM_INPUTS,))}
    targets = {"track": Spec((2,)), "expert": Spec((), "int32")}

    def source(self, mode: Mode) -> ArraySource | None:
        everything = self._files(mode) if self.files else self._drawn(mode)
        if everything is None or self.expert == 0:
            return everything
        return everything[np.flatnonzero(everything.targets["expert"] == self.expert)]

    def pipeline(self, mode: Mode) -> Sequence[Processor]:
        chosen = [ChooseExpert()] if mode is Mode.PREDICT else []
        return [*super().pipeline(mode), *chosen]

    def _drawn(self, mode: Mode) -> ArraySource:
        random = np.random.default_rng([self.seed, mode is Mode.TRAIN])
        hits, track, expert = draw_tracks(self.samples if mode is Mode.TRAIN else self.val_samples, random)
        return ArraySource({"hits": hits}, {"track": track, "expert": expert})

    def _files(self, mode: Mode) -> ArraySource | None:
        group = "files" if mode is Mode.TRAIN else "val_files"
        files = find_files(getattr(self, group), f"--data.{group}")
        if not files:
            return None
        names = column_names(files[0])

        def columns(name: str, count: int) -> str | Sequence[str]:
            return name if name in names else [f"{name}_{number}" for number in range(count)]

        return TableSource(
            files, {"hits": columns("hits", NUM_INPUTS)}, {"track": columns("track", 2), "expert": "expert"}
        )

    def check(self) -> None:
        super().check()
        self.require(bool(self.files) or not self.val_files, "val_files", "needs --data.files to train on, too")
        self.require(self.samples >= 100, "samples", "must be at least 100")
        self.require(self.val_samples >= 100, "val_samples", "must be at least 100")
        self.require(self.seed >= 0, "seed", "must be 0 or more")


class MinimumHits(Filter):
    """Keeps tracks that have hit so many layers."""

    layers: int = len(RADII)
    """Of nine."""

    def keep(self, sample: Sample) -> bool:
        return bool(find_hit_layers(sample.inputs["hits"]).sum() >= self.layers)

    def keep_rows(self, source: ArraySource) -> npt.NDArray[np.bool_]:
        kept: npt.NDArray[np.bool_] = find_hit_layers(source.inputs["hits"]).sum(axis=1) >= self.layers
        return kept


class Perceptron(Model):
    """Dense layers with an activation that firmware looks up in a table; also behind the last one, up to its range."""

    units: list[int] = [81]
    """Width of each hidden layer."""

    activation: str = "tanh"
    """Of the hidden layers: a name, or an expression such as tanh/2, tanh(x/2) or 2*sigmoid-1."""

    out_size: Literal[1, 2] = 2
    """What is found: 1 z only, 2 z and theta."""

    loss_function: Literal["mean_squared_error", "mean_absolute_error", "huber", "log_cosh"] = "mean_squared_error"
    """Of `keras.losses`, for z and theta each."""

    z_weight: float = 1.0
    """How much z counts in the loss, where theta counts 1."""

    best = "val_z_resolution", "min"

    def build(self, inputs: Tensors) -> Tensors:
        activate = parse_activation(self.activation)
        functions = {name: getattr(keras.activations, name) for name in ACTIVATION_NAMES}
        hidden = inputs["hits"]
        for number, units in enumerate(self.units):
            hidden = activate(keras.layers.Dense(units, name=f"layer_{number}")(hidden), functions)
        last = keras.layers.Dense(self.out_size, activation="tanh", name=f"layer_{len(self.units)}")
        return {"track": last(hidden)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        measure = getattr(keras.losses, self.loss_function)
        track, answer = targets["track"], outputs["track"]
        losses = [measure(track[:, number, None], answer[:, number, None]) for number in range(self.out_size)]
        return {self.loss_function: sum([self.z_weight * losses[0], *losses[1:]])}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        errors = ops.abs(targets["track"][:, : self.out_size] - outputs["track"])
        theta = {"theta_error": errors[:, 1]} if self.out_size == 2 else {}
        return {"z_error": MAX_Z_CM * errors[:, 0], **theta}

    def check(self) -> None:
        self.require(self.z_weight > 0, "z_weight", "must be above 0")
        try:
            parse_activation(self.activation)
        except ValueError as problem:
            self.require(False, "activation", str(problem))

    def ignored_params(self) -> Mapping[str, str]:
        return {"z_weight": "z is all that is found (--model.out_size 1)"} if self.out_size == 1 else {}


class ResolutionEvaluator(Evaluator):
    """Resolution in z for each expert, compared to a baseline, with plots."""

    baseline: bool = True
    """Also fit the best linear function to the validation samples themselves, and compare: z_gain is how many times as
    wide its errors are."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        rows = [
            (sample.inputs["hits"], sample.targets["track"], sample.outputs["track"], sample.targets["expert"])
            for sample in samples
        ]
        hits, truth, answers, experts = map(np.array, zip(*rows, strict=True))
        truth = truth[:, : answers.shape[1]]
        errors = truth - answers
        values = {"z_resolution": MAX_Z_CM * half_width_68(errors[:, 0])}
        if answers.shape[1] == 2:
            values["theta_resolution"] = half_width_68(errors[:, 1])
        there = [expert for expert in EXPERTS if (experts == expert).any()]
        if len(there) > 1:
            values |= {
                f"z_resolution_{expert}": MAX_Z_CM * half_width_68(errors[experts == expert, 0]) for expert in there
            }
        if self.baseline:
            linear = np.column_stack([hits, np.ones(len(hits))])
            fitted = linear @ np.linalg.lstsq(linear, truth, rcond=None)[0]
            values["z_gain"] = MAX_Z_CM * half_width_68((truth - fitted)[:, 0]) / values["z_resolution"]
        return {**values, **make_plots(MAX_Z_CM * truth[:, 0], MAX_Z_CM * answers[:, 0])}


def make_plots(truth: Floats, answers: Floats) -> dict[str, Summary]:
    """Return the z that was found over the true one, in cm, and how the errors are distributed."""
    edges = np.linspace(-MAX_Z_CM, MAX_Z_CM, NUM_BINS + 1)
    counts, _, _ = np.histogram2d(answers, truth, [edges, edges])
    shown: dict[str, Summary] = {
        "z_found_over_true": Image(np.sqrt(counts[::-1] / max(1, counts.max()))),  # large z at the top
        "z_errors": Histogram(answers - truth),
    }
    rows = [
        [f"{low:.0f} to {high:.0f}", str(int(inside.sum())), f"{half_width_68((answers - truth)[inside]):.3g}"]
        for low, high in itertools.pairwise(edges[:: NUM_BINS // 10])
        if (inside := (truth >= low) & (truth <= high)).sum() > 1
    ]
    shown["z_resolution_by_z"] = Text.table(["z / cm", "tracks", "resolution / cm"], rows)
    return shown


def half_width_68(errors: npt.NDArray[Any]) -> float:
    """Half the width of the middle 68 % of some errors: the standard deviation, if they are normal."""
    low, high = np.percentile(errors, [16, 84])
    return float(high - low) / 2


class TrackTrigger(Scenario):
    """Finds where tracks come from."""

    data: Data = Tracks()
    model: Model = Perceptron()
    evaluator: Evaluator | None = ResolutionEvaluator()
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=64)
    val: ValLoaderSettings = ValLoaderSettings(batch_size=1024)
    trainer: Trainer = Trainer(epochs=20)
    learning_rate: Schedule = CosineDecay(lr=1e-2)
