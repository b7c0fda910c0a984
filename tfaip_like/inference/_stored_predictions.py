"""Reader of prediction files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._export.layout import Shape
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import parse_json_line, read_lines
from tfaip_like._utils.numpy_files import read_npz
from tfaip_like.data._sample import Sample
from tfaip_like.data._writers import INDEX_KEY, INPUTS_PREFIX, TARGETS_PREFIX

JSON_LINES_SUFFIX, NPZ_SUFFIX = ".jsonl", ".npz"
GROUPS = ("inputs", "targets", "outputs", "meta")
NON_FINITE_TEXTS = ("nan", "inf", "-inf")
"""Strings that stand for non-finite numbers, which JSON lacks."""


def read_predictions(file: Path) -> Iterator[Sample]:
    """Yield the samples in a file of predictions, with targets and inputs if they were stored.

    Raises:
        UsageError: If it is not a valid file of predictions; names the line or array.
    """
    if not file.exists():
        raise UsageError(f"{file}: no such file")
    if file.is_dir() or file.suffix not in (JSON_LINES_SUFFIX, NPZ_SUFFIX):
        problem = "is a directory" if file.is_dir() else "not a file of predictions"
        raise UsageError(f"{file}: {problem}; expected a {JSON_LINES_SUFFIX} or {NPZ_SUFFIX} file")
    yield from _read_json_lines(file) if file.suffix == JSON_LINES_SUFFIX else _read_npz(file)


def check_shapes(sample: Sample, expected: Mapping[str, Mapping[str, Shape]], where: str) -> None:
    """Check the shapes of the arrays of a stored sample; missing arrays are ignored.

    Args:
        sample: Stored sample.
        expected: Shapes by name of the groups `targets` and `outputs`.
        where: Description of the sample, for messages.

    Raises:
        UsageError: If a shape differs; names the array.
    """
    for group, shapes in expected.items():
        for name, shape in shapes.items():
            value = getattr(sample, group).get(name)
            # An empty JSON list has lost its further axes.
            if isinstance(value, (np.ndarray, np.generic)) and value.size and not _matches_shape(value.shape, shape):
                kind = group.removesuffix("s")
                raise UsageError(f"{where}: {kind} {name!r} has shape {value.shape}, expected {shape}")


def _matches_shape(actual: tuple[int, ...], expected: Shape) -> bool:
    return len(actual) == len(expected) and all(
        size in (None, actual_size) for actual_size, size in zip(actual, expected, strict=True)
    )


def _read_json_lines(file: Path) -> Iterator[Sample]:
    for number, line in read_lines(file):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        values = parse_json_line(line, where)
        if not isinstance(values, dict) or "outputs" not in values:
            raise UsageError(
                f'{where}: expected an object with outputs: {{"outputs": {{"NAME": ...}}, "targets": ...}}'
            )
        groups = {group: values.get(group, {}) for group in GROUPS}
        for group, named in groups.items():
            if not isinstance(named, dict):
                raise UsageError(f"{where}: {group}: expected an object: {{NAME: value, ...}}")
        inputs, targets, outputs, meta = groups.values()
        yield Sample(_to_arrays(inputs), _to_arrays(targets), _to_arrays(outputs), meta)  # type: ignore[arg-type]


def _to_arrays(values: Any) -> dict[str, Any]:
    return {name: to_array(value) for name, value in values.items()}


def to_array(value: Any) -> Any:
    """Return a JSON value as the array that was written; strings and ragged lists are returned unchanged.

    Floats become float32 if all of them are the shortest decimals of float32 numbers, as network outputs are written;
    so do float64 numbers of few digits. An .npz keeps all types.
    """
    if value in NON_FINITE_TEXTS:
        return np.float32(value)
    if not isinstance(value, list):
        return _narrow_to_float32(value) if isinstance(value, (int, float)) else value
    try:
        array = np.array(value)
    except ValueError:  # a ragged list
        return value
    if array.dtype.kind == "U" and all(not isinstance(one, str) or one in NON_FINITE_TEXTS for one in _leaves(value)):
        array = array.astype(np.float64)
    return _narrow_to_float32(array) if array.dtype.kind in "biuf" else value


def _leaves(value: Any) -> Iterable[Any]:
    return (leaf for part in value for leaf in _leaves(part)) if isinstance(value, list) else [value]


def _narrow_to_float32(value: Any) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return array
    narrow = array.astype(np.float32)
    is_written = np.array_equal(narrow.astype("U").astype(np.float64), array, equal_nan=True)
    return narrow if is_written else array


def _read_npz(file: Path) -> Iterator[Sample]:
    arrays = read_npz(file)
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if not counts or len(set(counts.values())) != 1:
        lengths = ", ".join(f"{name}: {count}" for name, count in counts.items()) or "no arrays"
        raise UsageError(f"{file}: each array needs one row per sample; number of rows: {lengths}")
    index = arrays.get(INDEX_KEY)
    if index is not None and (index.ndim != 1 or index.dtype.kind not in "iu"):
        raise UsageError(f"{file}: {INDEX_KEY}: expected an integer per sample, got {index.dtype}{list(index.shape)}")
    for row in range(next(iter(counts.values()))):
        values = {name: array[row] for name, array in arrays.items()}
        meta = {INDEX_KEY: int(values.pop(INDEX_KEY))} if INDEX_KEY in values else {}
        groups: dict[str, dict[str, Any]] = {INPUTS_PREFIX: {}, TARGETS_PREFIX: {}, "": {}}
        for name, value in values.items():
            prefix = next(prefix for prefix in groups if name.startswith(prefix))
            groups[prefix][name.removeprefix(prefix)] = value
        yield Sample(inputs=groups[INPUTS_PREFIX], targets=groups[TARGETS_PREFIX], outputs=groups[""], meta=meta)
