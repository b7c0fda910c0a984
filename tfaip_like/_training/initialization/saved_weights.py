"""Readers of saved weights: run directories, exports, checkpoints, Keras files, .npz and JSON.

They work on any backend, need no code of the scenario, and execute nothing from a file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from tfaip_like._export.layout import MODEL, WEIGHTS
from tfaip_like._keras_ext.paths import SEED_STATE, join_path, weight_paths
from tfaip_like._runs.fetching import fetch_exports
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import NETWORK, STATE, VARIABLES, list_checkpoints, read_arrays
from tfaip_like._training.checkpointing.state_schema import STATE_FORMAT
from tfaip_like._training.initialization.keras_files import (
    Array,
    Entry,
    is_numeric,
    numbered_paths,
    read_model_file,
    read_weights_file,
)
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import check_links
from tfaip_like._utils.json_files import Json, read_json, short_json
from tfaip_like._utils.numpy_files import UNREADABLE, read_npz

MAX_FRACTION_BITS = 126
"""Largest number of fraction bits whose unit is a normal float32."""
MAX_FLOAT32 = float(np.finfo(np.float32).max)

FRACTION_BITS = "fraction_bits"
"""JSON key: integers at the same level are fixed-point numbers with this many fraction bits."""


@dataclass(frozen=True)
class SavedWeights:
    """Weights of a file."""

    file: Path

    arrays: Mapping[str, Array]
    """Values by path, without ambiguous paths (several weights with the same path)."""

    invalid: Mapping[str, str]
    """Reasons why other entries of the file cannot be weights, by path."""

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
    return SavedWeights(
        file,
        arrays={name: value for name, value in named if counts[name] == 1 and not isinstance(value, str)},
        invalid={name: value for name, value in named if isinstance(value, str)},
    )


def find_weights_file(path: Path) -> Path:
    """Return the weights file of a run, an export or a checkpoint; a weights file is returned as is.

    Raises:
        UsageError: if there is none.
    """
    if not path.exists():
        check_links(path)
        raise UsageError(f"--warmstart.model {path}: no such file or directory")
    file = _find_weights_file_in(fetch_exports(path))
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


def _read_arrays(file: Path) -> Iterator[tuple[str, Entry]]:
    if file.name != VARIABLES:
        for name, array in read_npz(file).items():
            yield name, array if is_numeric(array) else f"{name}: expected numbers, got an array of dtype {array.dtype}"
        return
    if (state := file.with_name(STATE)).exists():
        STATE_FORMAT.upgrade(read_json(state), str(state))  # other versions have other names
    for name, array in read_arrays(file).items():
        if name.startswith(f"{NETWORK}:") and not name.endswith(f"/{SEED_STATE}"):
            yield name.partition(":")[2], array


def _read_json(file: Path) -> Iterator[tuple[str, Entry]]:
    """Yield the entries of a JSON file by their path of keys and indices: `layers/0/weights`.

    Integers next to `fraction_bits` are fixed-point numbers. A matrix named `weight` comes from PyTorch, which stores
    (outputs, inputs), and is transposed.
    """
    yield from _iter_entries(read_json(file), "")


def _iter_entries(value: Json, path: str) -> Iterator[tuple[str, Entry]]:
    if isinstance(value, dict):
        scale = _read_scale(value, path)
        for name, part in value.items():
            for inner, entry in _iter_entries(part, join_path(path, name)):
                yield inner, _scale_entry(entry, scale)
        return
    entry = _to_numeric_array(value, path)
    if path:
        yield path, entry
    if isinstance(value, list) and isinstance(entry, str):  # a list of weights, or of layers
        for number, part in enumerate(value):
            if isinstance(part, (list, dict)):
                yield from _iter_entries(part, join_path(path, str(number)))


def _read_scale(value: dict[str, Json], path: str) -> Entry:
    """Return the unit of the fixed-point numbers in an object; 1 for other numbers."""
    fraction = value.get(FRACTION_BITS, 0)
    if isinstance(fraction, bool) or not isinstance(fraction, int) or abs(fraction) > MAX_FRACTION_BITS:
        expected = f"an integer from {-MAX_FRACTION_BITS} to {MAX_FRACTION_BITS}"
        return f"{join_path(path, FRACTION_BITS)}: expected {expected}, got {short_json(fraction)}"
    return np.array(2.0**-fraction, np.float32)


def _scale_entry(entry: Entry, scale: Entry) -> Entry:
    return entry if isinstance(entry, str) else scale if isinstance(scale, str) else entry * scale


def _to_numeric_array(value: Json, path: str) -> Entry:
    """Return a number or nested lists of numbers as an array; for other values the reason, naming the path."""
    for inner, part in _iter_leaves(value, path):
        if isinstance(part, bool) or not isinstance(part, (int, float)):
            return f"{inner}: expected a number, got {short_json(part)}"
        if abs(part) > MAX_FLOAT32:
            return f"{inner}: {short_json(part)} is too large for float32"
    try:
        array = np.array(value).astype(np.float32)
    except ValueError:
        return f"{path}: its lists differ in length, so they are not a single array"
    if not array.size:
        return f"{path}: contains no numbers"
    is_from_pytorch = re.search(r"(^|[/.])weight$", path) and array.ndim == 2
    return array.T if is_from_pytorch else array


def _iter_leaves(value: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Yield what nested lists contain, by path."""
    if isinstance(value, list):
        for number, part in enumerate(value):
            yield from _iter_leaves(part, join_path(path, str(number)))
    else:
        yield path, value


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Entry]]]] = {
    ".npz": _read_arrays,
    ".keras": read_model_file,
    ".h5": read_weights_file,
    ".json": _read_json,
}
