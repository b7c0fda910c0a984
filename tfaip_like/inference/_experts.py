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

from tfaip_like._export.layout import EXPERTS, export_folder
from tfaip_like._export.pipeline import Pipeline
from tfaip_like._utils.errors import UsageError, some
from tfaip_like._utils.files import new_folder
from tfaip_like._utils.json_files import read_json, write_json
from tfaip_like._utils.records import decode
from tfaip_like.data import ArraySource
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Arrays, Sample
from tfaip_like.evaluation._evaluation import SampleError
from tfaip_like.inference._predictor import Given, Predictor, as_sample, given_samples


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
        expected = _outputs_of(experts[first])
        for name, expert in experts.items():
            if _outputs_of(expert) != expected:
                raise UsageError(
                    f"the experts {first!r} and {name!r} have other outputs, so they cannot be one predictor"
                )

    def one(self, sample: Given) -> Sample:
        return super().one(_with_expert(as_sample(sample)))

    def _source(self, samples: Iterable[Given] | Arrays) -> Any:
        return given_samples(ArraySource(samples) if isinstance(samples, Mapping) else samples, _with_expert)

    def outputs_of(self, batch: Batch) -> Arrays:
        names = [self._expert_of(sample, place) for place, sample in enumerate(batch.samples({}))]
        whole: dict[str, npt.NDArray[Any]] = {}
        for name in dict.fromkeys(names):
            rows = np.flatnonzero(np.array(names) == name)
            try:
                outputs = self.experts[name].outputs({key: array[rows] for key, array in batch.inputs.items()})
            except SampleError as error:
                error.row = int(rows[error.row])  # it is that among the samples of this expert
                raise
            for key, array in outputs.items():
                if key not in whole:
                    whole[key] = np.zeros((len(names), *array.shape[1:]), array.dtype)
                if array.shape[1:] != whole[key].shape[1:]:
                    raise UsageError(f"output {key!r} of the expert {name!r} has another shape than that of others")
                whole[key][rows] = array
        self.seconds = [seconds for expert in self.experts.values() for seconds in expert.seconds]
        return whole

    def _expert_of(self, sample: Sample, place: int) -> str:
        for values in (sample.meta, sample.inputs):
            if "expert" in values:
                name = str(np.asarray(values["expert"]).item())
                if name not in self.experts:
                    raise UsageError(
                        f"sample {place} of a batch is for the expert {name!r}; there are {some(self.experts)}"
                    )
                return name
        raise UsageError(
            f"sample {place} of a batch does not say which expert it is for: `expert` is neither in its meta nor among "
            "its inputs"
        )


def _with_expert(sample: Sample) -> Sample:
    """Keeps `expert` in the meta of a sample: of the inputs, only those of the network stay."""
    if "expert" not in sample.inputs or "expert" in sample.meta:
        return sample
    return replace(sample, meta={**sample.meta, "expert": np.asarray(sample.inputs["expert"]).item()})


def _outputs_of(expert: Predictor) -> dict[str, str]:
    """Names and types of its outputs."""
    return {name: spec.dtype for name, spec in expert.exports[0].outputs.items()}


def gather_experts(exports: Mapping[str, Path], folder: Path) -> None:
    """Copies the exports of experts, by their names, into one folder that `load_predictor` takes.

    Raises:
        UsageError: when the folder is there already.
    """
    if folder.exists():
        raise UsageError(f"{folder}: is there already; choose another one, or remove it first")
    with new_folder(folder) as aside:
        for name, path in exports.items():
            shutil.copytree(export_folder(path), aside / name)
        write_json(aside / EXPERTS, {name: name for name in exports})


def exports_of_experts(folder: Path) -> dict[str, Path] | None:
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
