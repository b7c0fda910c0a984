"""Data and evaluators that send a real signal to their training, for tests of resuming."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from small import Largest, Noise, Points, Small

from tfaip_like import Data, Mode, Processor, Sample, Spec
from tfaip_like._runs.output_dir import NONDETERMINISTIC_COLUMNS, OutputDir
from tfaip_like._training.checkpointing.checkpoints import CheckpointData, Position, list_checkpoints


class StopAt(Processor):
    """Sends a signal to its own process when a marker appears at a sample for the n-th time."""

    index: int = 30
    """The sample."""

    times: int = 2
    """How often it is met before."""

    marker: Path = Path("stop")
    """Counts; nothing happens where its folder is missing."""

    modes = (Mode.TRAIN,)

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        if sample.meta.get("number") == self.index and self.marker.parent.is_dir():
            met = int(self.marker.read_text()) if self.marker.exists() else 0
            self.marker.write_text(str(met + 1))
            if met == self.times:
                os.kill(os.getpid(), signal.SIGTERM)
        return sample


class ExternalRandomness(Processor):
    """Draws from the machine instead of the generator that it is given."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        drawn = np.frombuffer(os.urandom(2), np.uint8).astype("float32")
        return dataclasses.replace(sample, inputs={"x": sample.inputs["x"] + drawn})


class StopsInValidation(Largest):
    """Sends a signal in its n-th validation."""

    marker: Path = Path("stop")
    """Counts."""

    times: int = 1
    """Validations before."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        met = int(self.marker.read_text()) if self.marker.exists() else 0
        self.marker.write_text(str(met + 1))
        if met == self.times:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().evaluate(samples)


class NumberedPoints(Points):
    """Points that know their number, so that processors run on each."""

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        points = super().source(mode)
        if points is None:
            return None
        numbered = [points[number] for number in range(len(points))]
        return [Sample(s.inputs, s.targets, meta={"number": number}) for number, s in enumerate(numbered)]


class RaggedPoints(Data):
    """Sequences of different lengths, and their sums."""

    inputs = {"x": Spec((None,))}
    targets = {"y": Spec(())}

    def source(self, mode: Mode) -> Sequence[Sample]:
        random = np.random.default_rng(mode is Mode.TRAIN)
        rows = [random.random(2 + number % 5, dtype="float32") for number in range(60)]
        return [Sample({"x": row}, {"y": row.sum()}, meta={"number": n}) for n, row in enumerate(rows)]


def read_last_state(run: Path) -> CheckpointData:
    """Return the last checkpoint of a run."""
    return list_checkpoints(OutputDir(run).checkpoints)[-1].read()


def copy_as_killed(run: Path, copy: Path, position: Position) -> Path:
    """Return a copy of a run as a kill just after that checkpoint leaves it."""
    shutil.copytree(run, copy)
    for checkpoint in list_checkpoints(OutputDir(copy).checkpoints):
        if checkpoint.position > position:
            shutil.rmtree(checkpoint.path)
    for later in ("export", "summary.json"):
        shutil.rmtree(copy / later, ignore_errors=True)
    return copy


def differences(run: Path, other_run: Path) -> list[str]:
    """Return the differences of two finished runs, bit for bit."""
    a, b = read_last_state(run), read_last_state(other_run)
    found = [name for name in {**a.arrays, **b.arrays} if not _same(a.arrays.get(name), b.arrays.get(name))]
    rows = [
        [{k: v for k, v in row.items() if k not in NONDETERMINISTIC_COLUMNS} for row in c.state.history] for c in (a, b)
    ]
    found += [] if rows[0] == rows[1] else ["history"]
    one, other = a.state.selection, b.state.selection
    return found + [
        name for name in ("best", "early_stopping", "plateau") if getattr(one, name) != getattr(other, name)
    ]


def _same(a: Any, b: Any) -> bool:
    return a is not None and b is not None and a.dtype == b.dtype and a.tobytes() == b.tobytes()


__all__ = [
    "Noise",
    "NumberedPoints",
    "RaggedPoints",
    "Small",
    "StopAt",
    "StopsInValidation",
    "copy_as_killed",
    "differences",
    "read_last_state",
]
