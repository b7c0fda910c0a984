"""Pipeline of an export: processors, postprocessors and input specs.

It is stored as separate parameters, and therefore requires only the code of its processors, not of the scenario.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import cast

from tfaip_like._export.bundled_files import read_bundled_files, resolve_bundled_paths
from tfaip_like._export.layout import PIPELINE
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._scenario_lookup import make_run_code_importable, warn_code_mismatch
from tfaip_like._user_code.trust import UntrustedCodeError
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import short_json
from tfaip_like.data import ArraySpec, Data, Mode, Pipeline
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file, validate_resolved
from tfaip_like.params._base import default_instance, qualified_name
from tfaip_like.params._files import read_param_file
from tfaip_like.params._resources import map_paths
from tfaip_like.params._tree import validate_params


def make_pipeline(data: Data, inputs: Collection[str]) -> Pipeline:
    """Return the inference pipeline of a scenario's data.

    Args:
        data: Data of the scenario.
        inputs: Names of the inputs of the network.
    """
    return Pipeline(
        specs={
            name: ArraySpec(shape=list(spec.shape), dtype=spec.dtype, padding=float(spec.padding))
            for name, spec in data.inputs.items()
            if name in inputs
        },
        tables=data.table_format,
        processors=list(data.pipeline(Mode.PREDICT)),
        post_processors=list(data.post_pipeline(Mode.PREDICT)),
        on_bad_sample=data.on_bad_sample,
        max_bad_samples=data.max_bad_samples,
    )


def load_pipeline(export: Path) -> Pipeline:
    """Return the pipeline of an export.

    Raises:
        UsageError: If it is missing or corrupt, or the code of a processor cannot be imported.
    """
    values = read_param_file(export / PIPELINE)
    tag = values.pop("class", None)
    if tag != qualified_name(Pipeline):
        raise UsageError(f"{export / PIPELINE}: class: expected {qualified_name(Pipeline)}, got {short_json(tag)}")
    run = OutputDir(export.parent)
    make_run_code_importable(run)
    try:
        tree = validate_resolved(
            apply_settings(
                ResolvedParams(default_instance(Pipeline)), settings_from_file(values, str(export / PIPELINE))
            )
        )
    except UntrustedCodeError:
        raise
    except UsageError as error:
        error.add_note(
            "The processors are defined in the scenario's code: run where it can be imported, or add its directory to "
            "PYTHONPATH."
        )
        raise
    warn_code_mismatch(run)
    try:
        return validate_params(cast(Pipeline, resolve_bundled_paths(tree, export)))
    except UsageError as error:
        problem = str(error)
        is_named = problem.startswith(str(export))
        raise error if is_named else UsageError(f"{export / PIPELINE}: {problem}") from error


def is_same_pipeline(one: Pipeline, two: Pipeline) -> bool:
    """Return whether two pipelines process samples identically, regardless of the location of their files."""
    return _fingerprint(one) == _fingerprint(two)


def _fingerprint(pipeline: Pipeline) -> tuple[object, list[tuple[str, bytes]]]:
    without_locations = map_paths(pipeline, lambda value: Path(value.path.name))
    values = dataclasses.replace(without_locations, on_bad_sample="raise", max_bad_samples=0).to_dict()
    return values, read_bundled_files(pipeline)
