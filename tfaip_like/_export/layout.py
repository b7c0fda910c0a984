"""Layout of an export directory.

serve/                SavedModel with named inputs and outputs
model.keras           the same network in Keras' format
scenario_params.json  parameters of the scenario
pipeline.json         processors and postprocessors; enough for inference without the scenario
resources/            files that the pipeline needs; the parameters refer to them
weights.npz           weights of the trained network by path, for warm starts
metrics.json          epoch and metrics of the network
versions.json         package versions, sizes of resources, inputs that must be finite, output shapes
network.onnx          network in another format (--exporters ONNX); other exporters write other files
additional/NAME/      additional networks of the model, each with serve/ and model.keras
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import METRICS
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.files import check_links
from tfaip_like._utils.typed_json import AtLeast, Count
from tfaip_like.params._resources import RESOURCES_DIR

Shape: TypeAlias = tuple[int | None, ...]
"""Axis lengths; None for any length."""

SERVE = "serve"
MODEL = "model.keras"
WEIGHTS = "weights.npz"
PARAMS = "scenario_params.json"
PIPELINE = "pipeline.json"
VERSIONS = "versions.json"
ADDITIONAL = "additional"

RESERVED_NAMES = frozenset({SERVE, MODEL, WEIGHTS, PARAMS, PIPELINE, VERSIONS, ADDITIONAL, METRICS, RESOURCES_DIR})
"""Names that an exporter cannot write."""

EXPERTS = "experts.json"
"""File of a directory of experts: the subdirectory of each export by its name."""

SIGNATURE = "serving_default"
"""Name of the SavedModel function for inference."""

WITH_LOGITS = "with_logits"
"""Name of the SavedModel function that also returns logits, for losses; its outputs are named KIND:NAME."""


def resolve_export_dir(path: Path) -> Path:
    """Return an export directory: the path itself, or `best/` of a run directory.

    Raises:
        UsageError: If the directory does not exist, or the run has no export.

    Example:
        >>> resolve_export_dir(Path("runs/tutorial"))  # doctest: +SKIP
        PosixPath('runs/tutorial/best')
    """
    if not path.exists():
        check_links(path)
        raise UsageError(f"{path}: no such directory")
    if (path / "checksums.json").exists() and not (path / PARAMS).exists():
        raise UsageError(
            f"{path}: is a checkpoint, not an export; pass it to lav-scenario or predict-scenario, or convert it with "
            "export_checkpoint (tfaip_like._training.checkpoint_export)"
        )
    run = OutputDir(path)
    if not run.trainer_params.exists():
        return path
    if not run.best.exists() and run.export.exists():
        raise UsageError(
            f"{path}: this run has no best/: the monitored metric was NaN in every epoch; use the model of the last "
            f"epoch: {run.export}"
        )
    if not run.best.exists():
        raise UsageError(f"{path}: this run has no export yet: its first epoch is not complete")
    return run.best


@dataclass(frozen=True)
class Versions:
    """Contents of `versions.json` of an export."""

    packages: Mapping[str, str]
    """Package versions by name."""
    resources: Mapping[str, Count]
    """Sizes in bytes of the files in `resources/` by relative path."""
    finite_inputs: tuple[str, ...]
    """Names of the inputs that must not contain NaN or infinity."""
    outputs: Mapping[str, tuple[Count | None, ...]]
    """Shapes of the outputs without the batch axis."""
    position: tuple[Annotated[float, AtLeast(0)], Annotated[float, AtLeast(0)]]
    """Step and epoch of the training, the constants of `context` in the export."""


VERSIONS_FORMAT = FileFormat("versions.json", Versions)
EXPERTS_FORMAT = FileFormat("experts.json", dict[str, str])


def read_versions(export: Path) -> Versions:
    """Return the contents of `versions.json` of an export.

    Raises:
        UsageError: If it is missing or corrupt; names the file and the key or line.
    """
    return VERSIONS_FORMAT.read(require_file(export, VERSIONS))


def require_file(folder: Path, name: str | Path) -> Path:
    """Return the path of a file in a directory.

    Args:
        folder: Directory, usually an export.
        name: Path of the file relative to the directory.

    Raises:
        UsageError: If it is missing, or outside of the directory (after resolving links).
    """
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{file}: outside of the export; an export may only refer to files inside it")
    if not file.is_file():
        raise UsageError(f"{file}: missing; copy the whole export again")
    return file


_RESERVED_ARGUMENT_NAMES = (*keyword.kwlist, "self")


def argument_names(inputs: Iterable[str]) -> dict[str, str]:
    """Return the argument name of each input in the signature of a SavedModel.

    TensorFlow changes argument names that are not Python identifiers (`a-b` becomes `a_b`) or fails, and requires
    them to be unique ignoring case. Output names are unrestricted.

    Example:
        >>> argument_names(["x", "my-input"])
        {'x': 'x', 'my-input': 'my_input'}
    """
    arguments: dict[str, str] = {}
    for name in sorted(
        inputs, key=lambda name: (_to_argument_name(name) != name, name)
    ):  # valid names first, unchanged
        argument = unique = _to_argument_name(name)
        number = 1
        while unique.lower() in (other.lower() for other in arguments.values()):
            number += 1
            unique = f"{argument}_{number}"
        arguments[name] = unique
    return arguments


def _to_argument_name(name: str) -> str:
    argument = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not re.match("[A-Za-z]", argument):
        argument = f"input_{argument.lstrip('_')}"
    return f"{argument}_" if argument in _RESERVED_ARGUMENT_NAMES else argument
