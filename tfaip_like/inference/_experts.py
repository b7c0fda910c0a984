"""Predictor that routes each sample to one of several expert networks.

Layout of a directory of experts::

    experts.json   subdirectory of each expert's export, by the name of the expert
    NAME/          export

A sample names its expert as `expert` in its meta or inputs, for example set by a processor of the pipeline.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._export.layout import EXPERTS, EXPERTS_FORMAT, resolve_export_dir
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.files import atomic_directory
from tfaip_like.data import ArraySource, Pipeline
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.evaluation._evaluation import SampleError
from tfaip_like.inference._predictor import Predictor, SampleLike, as_sample, as_source


class ExpertsPredictor(Predictor):
    """Predictor that routes each sample to the expert that the sample names.

    Args:
        experts: Predictor of each expert by name.
        pipeline: Common pipeline of the experts.

    Raises:
        UsageError: If the experts have different outputs.
    """

    def __init__(self, experts: Mapping[str, Predictor], pipeline: Pipeline):
        super().__init__([exported for expert in experts.values() for exported in expert.exports], pipeline)
        self.experts = experts
        first = next(iter(experts))
        expected = _output_dtypes(experts[first])
        for name, expert in experts.items():
            if _output_dtypes(expert) != expected:
                raise UsageError(f"cannot combine experts {first!r} and {name!r}: their outputs differ")

    def one(self, sample: SampleLike) -> Sample:
        return super().one(_keep_expert_in_meta(as_sample(sample)))

    def _source(self, samples: Iterable[SampleLike] | Arrays) -> Any:
        return as_source(ArraySource(samples) if isinstance(samples, Mapping) else samples, _keep_expert_in_meta)

    def predict_batch(self, batch: Batch) -> Arrays:
        names = [self._expert_name(sample, place) for place, sample in enumerate(batch.samples({}))]
        merged: dict[str, npt.NDArray[Any]] = {}
        for name in dict.fromkeys(names):
            rows = np.flatnonzero(np.array(names) == name)
            try:
                outputs = self.experts[name].outputs({key: array[rows] for key, array in batch.inputs.items()})
            except SampleError as error:
                error.row = int(rows[error.row])  # from the row among the samples of this expert
                raise
            for key, array in outputs.items():
                if key not in merged:
                    merged[key] = np.zeros((len(names), *array.shape[1:]), array.dtype)
                if array.shape[1:] != merged[key].shape[1:]:
                    raise UsageError(
                        f"output {key!r} has shape {array.shape[1:]} from expert {name!r} but {merged[key].shape[1:]} "
                        "from the others"
                    )
                merged[key][rows] = array
        self.seconds = [seconds for expert in self.experts.values() for seconds in expert.seconds]
        return merged

    def _expert_name(self, sample: Sample, place: int) -> str:
        for values in (sample.meta, sample.inputs):
            if "expert" in values:
                name = str(np.asarray(values["expert"]).item())
                if name not in self.experts:
                    raise UsageError(
                        f"sample {place} of a batch: unknown expert {name!r}; available: {truncate_list(self.experts)}"
                    )
                return name
        raise UsageError(f"sample {place} of a batch names no expert: add `expert` to its meta or inputs")


def _keep_expert_in_meta(sample: Sample) -> Sample:
    """Copy `expert` from the inputs of a sample to its meta, since batches keep only the inputs of the network."""
    if "expert" not in sample.inputs or "expert" in sample.meta:
        return sample
    return replace(sample, meta={**sample.meta, "expert": np.asarray(sample.inputs["expert"]).item()})


def _output_dtypes(expert: Predictor) -> dict[str, str]:
    return {name: spec.dtype for name, spec in expert.exports[0].outputs.items()}


def gather_experts(exports: Mapping[str, Path], folder: Path) -> None:
    """Copy the exports of experts into one new directory, which `load_predictor` loads.

    Args:
        exports: Export directories, or run directories, by the name of the expert.
        folder: New directory.

    Raises:
        UsageError: If the directory already exists.
    """
    if folder.exists():
        raise UsageError(f"{folder}: already exists; choose another directory or remove it first")
    with atomic_directory(folder) as staging_dir:
        for name, path in exports.items():
            shutil.copytree(resolve_export_dir(path), staging_dir / name)
        EXPERTS_FORMAT.write(staging_dir / EXPERTS, {name: name for name in exports})


def read_expert_exports(folder: Path) -> dict[str, Path] | None:
    """Return the exports in a directory of experts by name, or None if it is not such a directory.

    Raises:
        UsageError: If its `experts.json` is invalid, or refers to a path outside the directory.
    """
    if not os.path.lexists(folder / EXPERTS):
        return None
    exports = {}
    for name, place in EXPERTS_FORMAT.read(folder / EXPERTS).items():
        path = folder / place
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{folder / EXPERTS}: {name}: {place}: outside of this directory")
        if not path.is_dir():
            raise UsageError(f"{folder / EXPERTS}: {name}: no such directory: {place}")
        exports[name] = path
    if not exports:
        raise UsageError(f"{folder / EXPERTS}, line 1: no experts listed")
    return exports
