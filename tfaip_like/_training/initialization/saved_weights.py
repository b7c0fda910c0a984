"""Readers of saved weights: run directories, exports, checkpoints, Keras files, .npz and JSON.

They work on any backend, need no code of the scenario, and execute nothing from a file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tfaip_like._export.layout import MODEL, WEIGHTS
from tfaip_like._keras_ext.paths import join_path, weight_paths
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import NETWORK, VARIABLES, list_checkpoints, read_arrays
from tfaip_like._training.initialization.keras_files import numbered_paths, read_model_file, read_weights_file
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import check_links
from tfaip_like._utils.json_files import Json, read_json
from tfaip_like._utils.numpy_files import UNREADABLE, read_npz

Array = npt.NDArray[Any]

FRACTION_BITS = "fraction_bits"
"""JSON key: integers at the same level are fixed-point numbers with this many fraction bits."""


@dataclass(frozen=True)
class SavedWeights:
    """Weights of a file."""

    file: Path

    arrays: Mapping[str, Array]
    """Values by path, without ambiguous paths (several weights with the same path)."""

    def names_in_file(self, network: keras.Model) -> dict[str, str]:
        """Return the name of each weight of a network in this kind of file, by its path."""
        names = {path: path for path in weight_paths(network)}
        return names if self.file.suffix in (".npz", ".json") else names | numbered_paths(network)


def read_weights(path: Path) -> SavedWeights:
    """Read the weights of a run (its best epoch), an export, a checkpoint, a Keras file or a JSON file.

    Raises:
        UsageError: if there are no weights, or their file cannot be read.
    """
    file = find_weights_file(path)
    try:
        named = list(_READERS[file.suffix](file))
    except UsageError as error:
        raise UsageError(f"--warmstart.model {error}") from error
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise UsageError(f"--warmstart.model {path}: cannot read {file}: {reason}") from error
    counts = Counter(name for name, _ in named)
    return SavedWeights(file, {name: array for name, array in named if counts[name] == 1})


def find_weights_file(path: Path) -> Path:
    """Return the weights file of a run, an export or a checkpoint; a weights file is returned as is.

    Raises:
        UsageError: if there is none.
    """
    if not path.exists():
        check_links(path)
        raise UsageError(f"--warmstart.model {path}: no such file or directory")
    file = _find_weights_file_in(path)
    if file is not None:
        return file
    raise UsageError(
        f"--warmstart.model {path}: contains no weights; expected a run directory, an export ({WEIGHTS} or {MODEL}), "
        f"a checkpoint ({VARIABLES}), or a .keras, .h5, .npz or .json file"
    )


def _find_weights_file_in(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix in _READERS else None
    for name in (WEIGHTS, MODEL, VARIABLES):
        if (path / name).is_file():
            return path / name
    run = OutputDir(path)
    exports = (_find_weights_file_in(export) for export in (run.best, run.export) if export.is_dir())
    if (file := next(filter(None, exports), None)) is not None:
        return file
    latest = list_checkpoints(run.checkpoints)[-1:]
    return _find_weights_file_in(latest[0].path) if latest else None


def _read_arrays(file: Path) -> Iterator[tuple[str, Array]]:
    if file.name != VARIABLES:
        yield from read_npz(file).items()
        return
    for name, array in read_arrays(file).items():
        if name.startswith(f"{NETWORK}:") and not name.endswith("/seed_generator_state"):
            yield name.split(":", 2)[2], array


def _read_json(file: Path) -> Iterator[tuple[str, Array]]:
    """Yield the numeric arrays in a JSON file by their path of keys and indices: `layers/0/weights`.

    Integers next to `fraction_bits` are fixed-point numbers. A matrix named `weight` comes from PyTorch, which stores
    (outputs, inputs), and is transposed.
    """
    named = [(path, array) for path, array in _iter_arrays(read_json(file), "") if path and array.size]
    if not named:
        raise UsageError(f'{file}: contains no named lists of numbers, such as {{"hidden/kernel": [[0.5, 1], [2, 3]]}}')
    yield from named


def _iter_arrays(value: Json, path: str) -> Iterator[tuple[str, Array]]:
    if isinstance(value, dict):
        fraction = value.get(FRACTION_BITS)
        scale = 2.0**-fraction if isinstance(fraction, int) else 1.0
        for name, part in value.items():
            for inner, array in _iter_arrays(part, join_path(path, name)):
                yield inner, array * np.float32(scale)
    elif isinstance(value, list):
        if (numbers := _to_numeric_array(value)) is None:
            for number, part in enumerate(value):
                yield from _iter_arrays(part, join_path(path, str(number)))
        else:
            is_from_pytorch = re.search(r"(^|[/.])weight$", path) and numbers.ndim == 2
            yield path, numbers.T if is_from_pytorch else numbers


def _to_numeric_array(value: list[Json]) -> Array | None:
    """Return nested lists of numbers as an array; None if they contain anything else."""
    try:
        array = np.array(value)
    except ValueError:  # lists of different lengths
        return None
    return array.astype(np.float32) if array.dtype.kind in "iuf" else None


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Array]]]] = {
    ".npz": _read_arrays,
    ".keras": read_model_file,
    ".h5": read_weights_file,
    ".json": _read_json,
}
