"""What an export folder holds, under which names.

serve/                SavedModel with named inputs and outputs
model.keras           the same network for Keras
scenario_params.json  the parameters of the scenario
pipeline.json         what samples become before and behind the network; enough to predict without the scenario
resources/            files that its pipeline needs, which the parameters name
weights.npz           the weights of the trained network by their paths, for a warm start
metrics.json          epoch and values that the network reached
versions.json         of what wrote it, sizes of resources, inputs that must be finite, shapes of outputs
network.onnx          the network as ONNX, if asked for (--trainer.export_formats)
network.tflite        the same for LiteRT
additional/NAME/      further networks of the model, each with serve/ and model.keras
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypedDict

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import check_links
from tfaip_like._utils.json_files import read_json
from tfaip_like._utils.typed_json import Count, decode, read_typed_json
from tfaip_like.params._resources import RESOURCES_DIR

Shape: TypeAlias = tuple[int | None, ...]
"""None stands for any length."""

SERVE = "serve"
MODEL = "model.keras"
WEIGHTS = "weights.npz"
PARAMS = "scenario_params.json"
PIPELINE = "pipeline.json"
METRICS = "metrics.json"
VERSIONS = "versions.json"
ADDITIONAL = "additional"

EXPERTS = "experts.json"
"""In a folder of exports that are experts for different samples: the folder of each, by its name."""

FINITE_INPUTS = "finite_inputs"
"""Key in versions.json: the inputs in which a NaN or infinity is refused."""

OUTPUTS = "outputs"
"""Key in versions.json: the shapes of the outputs."""

SIGNATURE = "serving_default"
"""The function of a SavedModel that predicts."""

WITH_LOGITS = "with_logits"
"""The function of a SavedModel that predicts and also returns logits, for losses; its outputs are named KIND:NAME."""


def resolve_export_dir(path: Path) -> Path:
    """Return the export that a folder means: itself, or the best one of a run.

    Raises:
        UsageError: when there is no such folder.
    """
    if not path.exists():
        check_links(path)
        raise UsageError(f"{path}: there is no such folder")
    if (path / "checksums.json").exists() and not (path / PARAMS).exists():
        raise UsageError(
            f"{path}: is a checkpoint, not an export; lav-scenario and predict-scenario take it, and export_checkpoint "
            "(tfaip_like._training.checkpoint_export) makes an export of it"
        )
    run = OutputDir(path)
    if not run.trainer_params.exists():
        return path
    if not run.best.exists() and run.export.exists():
        raise UsageError(
            f"{path}: this run has no best/: what finds its best epoch was NaN in every epoch; the model of its last "
            f"epoch is {run.export}"
        )
    if not run.best.exists():
        raise UsageError(f"{path}: this run has no export yet: no epoch has ended")
    return run.best


def read_metrics(export: Path) -> dict[str, float]:
    """Return the epoch and the values that an export's network reached; nothing if there is no export.

    Raises:
        UsageError: if they are damaged; it names the file and the key or line.
    """
    file = export / METRICS
    if not file.exists() and not file.is_symlink():
        return {}
    metrics = decode(dict[str, float], read_json(file), str(file))
    return {**metrics, "epoch": int(metrics["epoch"])} if "epoch" in metrics else metrics


@dataclass(frozen=True)
class Versions:
    """`versions.json` of an export: what wrote it, and what of it must be as it was."""

    packages: Mapping[str, str]
    """Versions by the names of the packages."""
    resources: Mapping[str, int]
    """Bytes of the files in `resources/`, by their paths below it."""
    finite_inputs: frozenset[str]
    """Inputs in which a NaN or infinity is refused."""
    outputs: Mapping[str, Shape]
    """Shapes of the outputs of its network, without the batch axis."""


class _VersionsFile(TypedDict, total=False):
    tfaip_like: str
    keras: str
    tensorflow: str
    resources: dict[str, Count]
    finite_inputs: list[str]
    outputs: dict[str, tuple[Count | None, ...]]


def read_versions(export: Path) -> Versions:
    """Return what `versions.json` of an export says.

    Raises:
        UsageError: if it is missing or damaged; it names the file and the key or line.
    """
    file = require_file(export, VERSIONS)
    values = read_typed_json(_VersionsFile, file)
    packages = {name: value for name, value in values.items() if name not in (RESOURCES_DIR, FINITE_INPUTS, OUTPUTS)}
    return Versions(
        decode(dict[str, str], packages, str(file)),  # type: ignore[arg-type]  # JSON values
        values.get("resources", {}),
        frozenset(values.get("finite_inputs", [])),
        values.get("outputs", {}),
    )


def require_file(folder: Path, name: str | Path) -> Path:
    """A file of a folder; neither its name nor a link leads out of it.

    Raises:
        UsageError: when it is not there, or lies elsewhere.
    """
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{file}: lies outside of the export")
    if not file.is_file():
        raise UsageError(f"{file}: is missing; copy the whole export again")
    return file


_RESERVED_ARGUMENT_NAMES = (*keyword.kwlist, "self")


def argument_names(inputs: Iterable[str]) -> dict[str, str]:
    """For each input of a network, the name of its argument in the signature of a SavedModel.

    An argument must be a name in Python, or TensorFlow changes it (`a-b` becomes `a_b`) or fails, and differ
    from the others in more than upper and lower case. Names of outputs survive as they are.
    """
    arguments: dict[str, str] = {}
    for name in sorted(inputs, key=lambda name: (_to_argument_name(name) != name, name)):  # fitting names stay
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
