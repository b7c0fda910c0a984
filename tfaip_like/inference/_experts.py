"""Experts: networks that are each for some of the samples, as one predictor that asks the right one.

FOLDER/
  experts.json   the folder of each expert's export, by the name of the expert
  NAME/          an export

Which expert a sample is for stands in its meta, or among its inputs, as `expert`: a processor of the pipeline can put
it there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._export.layout import EXPERTS, resolve_export_dir
from tfaip_like._export.pipeline import Pipeline
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.files import atomic_directory
from tfaip_like._utils.json_files import read_json, write_json
from tfaip_like._utils.typed_json import decode
from tfaip_like.data import ArraySource
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.evaluation._evaluation import SampleError
from tfaip_like.inference._predictor import Predictor, SampleLike, as_sample, as_source


class ExpertsPredictor(Predictor):
    """Asks for each sample the expert that it is for.

    Args:
        experts: a predictor for each name.
        pipeline: of all of them.
    """

    def __init__(self, experts: Mapping[str, Predictor], pipeline: Pipeline):
        super().__init__([exported for expert in experts.values() for exported in expert.exports], pipeline)
        self.experts = experts
        first = next(iter(experts))
        expected = _output_dtypes(experts[first])
        for name, expert in experts.items():
            if _output_dtypes(expert) != expected:
                raise UsageError(
                    f"the experts {first!r} and {name!r} have other outputs, so they cannot be one predictor"
                )

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
                error.row = int(rows[error.row])  # it is that among the samples of this expert
                raise
            for key, array in outputs.items():
                if key not in merged:
                    merged[key] = np.zeros((len(names), *array.shape[1:]), array.dtype)
                if array.shape[1:] != merged[key].shape[1:]:
                    raise UsageError(f"output {key!r} of the expert {name!r} has another shape than that of others")
                merged[key][rows] = array
        self.seconds = [seconds for expert in self.experts.values() for seconds in expert.seconds]
        return merged

    def _expert_name(self, sample: Sample, place: int) -> str:
        for values in (sample.meta, sample.inputs):
            if "expert" in values:
                name = str(np.asarray(values["expert"]).item())
                if name not in self.experts:
                    raise UsageError(
                        f"sample {place} of a batch is for the expert {name!r}; there are {truncate_list(self.experts)}"
                    )
                return name
        raise UsageError(
            f"sample {place} of a batch does not say which expert it is for: `expert` is neither in its meta nor among "
            "its inputs"
        )


def _keep_expert_in_meta(sample: Sample) -> Sample:
    """Keeps `expert` in the meta of a sample: of the inputs, only those of the network stay."""
    if "expert" not in sample.inputs or "expert" in sample.meta:
        return sample
    return replace(sample, meta={**sample.meta, "expert": np.asarray(sample.inputs["expert"]).item()})


def _output_dtypes(expert: Predictor) -> dict[str, str]:
    """Names and types of its outputs."""
    return {name: spec.dtype for name, spec in expert.exports[0].outputs.items()}


def gather_experts(exports: Mapping[str, Path], folder: Path) -> None:
    """Copies the exports of experts, by their names, into one folder that `load_predictor` takes.

    Raises:
        UsageError: when the folder is there already.
    """
    if folder.exists():
        raise UsageError(f"{folder}: is there already; choose another one, or remove it first")
    with atomic_directory(folder) as staging_dir:
        for name, path in exports.items():
            shutil.copytree(resolve_export_dir(path), staging_dir / name)
        write_json(staging_dir / EXPERTS, {name: name for name in exports})


def read_expert_exports(folder: Path) -> dict[str, Path] | None:
    """The exports in a folder of experts, by their names; None if it is no such folder.

    Raises:
        UsageError: when its list is broken, or leads out of it.
    """
    if not (folder / EXPERTS).exists() and not (folder / EXPERTS).is_symlink():
        return None
    exports = {}
    for name, place in decode(dict[str, str], read_json(folder / EXPERTS), str(folder / EXPERTS)).items():
        path = folder / place
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{folder / EXPERTS}: {name}: {place}: lies outside of the folder")
        if not path.is_dir():
            raise UsageError(f"{folder / EXPERTS}: {name}: there is no folder {place}")
        exports[name] = path
    if not exports:
        raise UsageError(f"{folder / EXPERTS}, line 1: names no expert")
    return exports
