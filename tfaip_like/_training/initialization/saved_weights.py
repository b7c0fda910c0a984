"""Weights on disk by their paths, in whatever a training leaves behind.

They are read without the code of the scenario that trained them, on any backend, and nothing in a file is executed.
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
"""Key of a JSON file: integers at the same level are divided by 2 to this power."""


@dataclass(frozen=True)
class SavedWeights:
    """The weights in a file."""

    file: Path

    arrays: Mapping[str, Array]
    """Values by paths; a path that two weights have is left out, since it says not which."""

    def names_in_file(self, network: keras.Model) -> dict[str, str]:
        """What the weights of a network are called in such a file, by their paths."""
        named = {path: path for path in weight_paths(network)}
        return named if self.file.suffix in (".npz", ".json") else named | numbered_paths(network)


def read_weights(place: Path) -> SavedWeights:
    """Return the weights of a run (its best epoch), of an export, a checkpoint, a Keras file or a JSON file.

    Raises:
        UsageError: when there are none, or the file that should hold them cannot be read.
    """
    file = find_weights_file(place)
    try:
        named = list(_READERS[file.suffix](file))
    except UsageError as error:
        raise UsageError(f"--warmstart.model {error}") from error
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise UsageError(f"--warmstart.model {place}: {file} cannot be read: {reason}") from error
    times = Counter(path for path, _ in named)
    return SavedWeights(file, {path: array for path, array in named if times[path] == 1})


def find_weights_file(place: Path) -> Path:
    """Return the file with the weights of a run, an export or a checkpoint, or the file that is named itself.

    Raises:
        UsageError: if there is none.
    """
    if not place.exists():
        check_links(place)
        raise UsageError(f"--warmstart.model {place}: no such file or folder")
    file = _find_weights_file_in(place)
    if file is not None:
        return file
    raise UsageError(
        f"--warmstart.model {place}: no weights are in there; give the folder of a run, an export ({WEIGHTS} or "
        f"{MODEL} in it), a checkpoint ({VARIABLES}), or a .keras, .h5, .npz or .json file"
    )


def _find_weights_file_in(place: Path) -> Path | None:
    if place.is_file():
        return place if place.suffix in _READERS else None
    for name in (WEIGHTS, MODEL, VARIABLES):
        if (place / name).is_file():
            return place / name
    run = OutputDir(place)
    exports = (_find_weights_file_in(folder) for folder in (run.best, run.export) if folder.is_dir())
    if (file := next(filter(None, exports), None)) is not None:
        return file
    newest = list_checkpoints(run.checkpoints)[-1:]
    return _find_weights_file_in(newest[0].path) if newest else None


def _read_arrays(file: Path) -> Iterator[tuple[str, Array]]:
    if file.name != VARIABLES:
        yield from read_npz(file).items()
        return
    for name, array in read_arrays(file).items():
        if name.startswith(f"{NETWORK}:") and not name.endswith("/seed_generator_state"):
            yield name.split(":", 2)[2], array


def _read_json(file: Path) -> Iterator[tuple[str, Array]]:
    """Yield the lists of numbers in a JSON file by the names and places that lead to them: `layers/0/weights`.

    Integers next to `fraction_bits` are fixed-point numbers. A matrix called `weight` is one of PyTorch, whose rows are
    the outputs: it is transposed.
    """
    named = [(path, array) for path, array in _iter_arrays(read_json(file), "") if path and array.size]
    if not named:
        raise UsageError(
            f'{file}: holds no lists of numbers with names, such as {{"hidden/kernel": [[0.5, 1], [2, 3]]}}'
        )
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
            is_of_pytorch = re.search(r"(^|[/.])weight$", path) and numbers.ndim == 2
            yield path, numbers.T if is_of_pytorch else numbers


def _to_numeric_array(value: list[Json]) -> Array | None:
    """Return nested lists of numbers as an array; None where they hold anything else."""
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
