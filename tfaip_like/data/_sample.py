"""What flows through a pipeline: samples, their specification, and the mode they are for."""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import with_article

VALUES_PER_CHUNK = 2**20

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Named arrays."""

MAX_SHOWN_VALUES = 10
"""Numbers of an array that a line of text shows."""


DTYPES = (
    *("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bool", "complex64", "complex128"),
)
"""Of the tensors that networks take, on every backend."""


class Mode(Enum):
    """What data is for."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    PREDICT = "predict"


@dataclass(frozen=True)
class Sample:
    """One example: named arrays without a batch axis.

    A list or number is accepted wherever an array is meant.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What the network sees."""
    targets: Mapping[str, Any] = field(default_factory=dict)
    """What it should answer."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """What it did answer, after prediction."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything else that belongs to the sample (a file name); never given to the network. A loss or metric sees a value
    of it that `Data.targets` declares."""

    def __post_init__(self) -> None:
        for kind in _KINDS:
            if not isinstance(getattr(self, kind), Mapping):
                got = type(getattr(self, kind)).__name__
                raise TypeError(
                    f"Sample({kind}=...): expected named arrays, {{'name': array}}, got {with_article(got)}"
                )


_KINDS = tuple(kind.name for kind in fields(Sample))


def to_sample(given: object, inputs: Collection[str], targets: Collection[str]) -> Sample:
    """Return a sample: itself, `(x, y)` as one, or `(x,)` as one without targets.

    Args:
        given: each part of a tuple is an array or named arrays: `({"image": x}, y)`.
        inputs: their names; a single one gives an array its name. So it is with targets.

    Raises:
        ValueError: when it is anything else; the text continues a sentence about it.

    Example:
        >>> sample_of((3, {"label": 1}), ["x"], ["label"])
        Sample(inputs={'x': 3}, targets={'label': 1}, outputs={}, meta={})
    """
    if isinstance(given, Sample):
        return given
    if type(given) is not tuple:
        raise ValueError(
            f"is {with_article(type(given).__name__)}; a source holds Sample(inputs=..., targets=...) or (x, y)"
        )
    if len(given) not in (1, 2):
        raise ValueError(f"is a tuple of {len(given)}; write (x, y), or Sample(inputs=..., targets=...)")
    kinds = (("inputs", inputs), ("targets", targets))
    return Sample(*(_to_named_arrays(kind, part, names) for (kind, names), part in zip(kinds, given, strict=False)))


def _to_named_arrays(kind: str, value: Any, names: Collection[str]) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if len(names) != 1:
        what = f"the {kind} {', '.join(names)}" if names else f"no {kind}"
        raise ValueError(
            f"is a tuple with {with_article(type(value).__name__)} for {what}; name them: {{'name': array}}"
        )
    return {next(iter(names)): value}


def get_target(sample: Sample, name: str) -> Any:
    """Return a target of a sample; one that it does not have is looked up in its meta.

    Raises:
        KeyError: when it is in neither.
    """
    return sample.targets[name] if name in sample.targets else sample.meta[name]


def format_example(sample: Sample) -> str:
    """Return the targets and outputs of a predicted sample in one line."""
    kinds = (("target", sample.targets), ("output", sample.outputs))
    parts = [f"{kind} {name} {_format_value(value)}" for kind, values in kinds for name, value in values.items()]
    return ", ".join(parts)


def _format_value(value: Any) -> str:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.number):
        return reprlib.repr(value if isinstance(value, str) else array.tolist())
    numbers = " ".join(f"{number:.4g}" for number in array.ravel()[:MAX_SHOWN_VALUES].tolist())
    if array.ndim == 0:
        return numbers
    return f"[{numbers}]" if array.size <= MAX_SHOWN_VALUES else f"[{numbers} ...] of shape {array.shape}"


def as_read_only(sample: Sample) -> Sample:
    """The sample with arrays that cannot be written to, so that nobody changes the source by mistake."""
    inputs = {name: _read_only(value) for name, value in sample.inputs.items()}
    targets = {name: _read_only(value) for name, value in sample.targets.items()}
    return replace(sample, inputs=inputs, targets=targets)


def _read_only(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


@dataclass(frozen=True)
class Spec:
    """Shape and type of a named array of one sample.

    An axis of unknown length is `None`; samples of different lengths are padded with `padding` at
    their end to the longest of a batch.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    padding: float | int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _validate_shape(self.shape))
        object.__setattr__(self, "dtype", _validate_dtype(self.dtype))
        if isinstance(self.padding, bool) or not isinstance(self.padding, (int, float, np.number)):
            raise TypeError(f"Spec(..., padding={self.padding!r}): must be a number")
        if (
            not np.issubdtype(self.dtype, np.inexact)
            and self.dtype != "bfloat16"
            and not self._can_represent(self.padding)
        ):
            raise TypeError(f"Spec(..., {self.dtype!r}, padding={self.padding!r}): {self.dtype} does not hold it")

    def _can_represent(self, value: float) -> bool:
        if not math.isfinite(value) or value != int(value):
            return False
        limits = np.iinfo(self.dtype) if self.dtype != "bool" else None
        return 0 <= value <= 1 if limits is None else limits.min <= value <= limits.max

    @property
    def is_static(self) -> bool:
        """Return whether every sample has the same shape."""
        return None not in self.shape

    def validation_error(self, value: Any) -> str | None:
        """What is wrong with an array, or None: for a message that begins with its name."""
        try:
            array = to_unmasked_array(value)
        except ValueError as error:  # masked values, or lists of different lengths
            return str(error)
        if len(array.shape) != len(self.shape) or any(
            want is not None and have != want for have, want in zip(array.shape, self.shape, strict=True)
        ):
            return f"has shape {_format_shape(array.shape)}, but its Spec says {_format_shape(self.shape)}"
        return self.dtype_validation_error(array)

    def dtype_validation_error(self, array: npt.NDArray[Any]) -> str | None:
        """What is wrong with the type of values, or with their range; of one sample or of many."""
        integers = np.issubdtype(array.dtype, np.integer) and np.issubdtype(self.dtype, np.integer)
        if not integers and not np.can_cast(array.dtype, self.dtype, casting="same_kind"):
            if array.dtype.kind == "f" and np.isnan(array).any():
                return self._nan_error()
            hint = _HINTS.get(array.dtype.kind, "")
            return f"has dtype {array.dtype}, which does not fit the {self.dtype} of its Spec{hint}"
        if integers and array.dtype != self.dtype and array.size:
            limits = np.iinfo(self.dtype)
            if array.min() < limits.min or array.max() > limits.max:
                return f"has values that do not fit into the {self.dtype} of its Spec"
        return None

    def find_unrepresentable_floats(self, array: npt.NDArray[Any]) -> tuple[list[int], str]:
        """Return the rows of many samples that hold a float which this cannot hold, and what is wrong with it."""
        dtype = np.dtype(self.dtype)
        if dtype.kind in "biu":
            return _find_rows(np.isnan, array), self._nan_error()
        if dtype.kind != "f" or dtype.itemsize >= array.itemsize:
            return [], ""
        largest = np.finfo(dtype).max
        rows = _find_rows(lambda part: np.isfinite(part) & (np.abs(part) > largest), array)
        return rows, f"has a value that is too large for the {self.dtype} of its Spec"

    def _nan_error(self) -> str:
        return f"has missing values (NaN), which the {self.dtype} of its Spec cannot hold"


_HINTS = {
    "U": "; texts become numbers by categories (TableFormat) or in a processor",
    "S": "; make numbers of the bytes in a processor",
    "O": "; make arrays of numbers of the Python objects",
    "M": "; make numbers of the dates in a processor",
    "m": "; make numbers of the durations in a processor",
}
"""What to do with an array that is not of numbers, by the kind of its dtype."""


def to_unmasked_array(value: Any) -> npt.NDArray[Any]:
    """Return a value as an array without a mask: masked floats are NaN.

    Raises:
        ValueError: for other masked values, which an array without a mask cannot hold, and lists of different lengths.
    """
    if not isinstance(value, np.ma.MaskedArray):
        try:
            return np.asarray(value)
        except ValueError as error:
            raise ValueError(f"is no array ({error})") from error
    if not np.ma.getmaskarray(value).view(bool).any():
        return value.data
    if value.dtype.kind not in "fc":
        raise ValueError(f"has masked values, which {value.dtype} cannot hold; fill them, as in array.filled(0)")
    filled: npt.NDArray[Any] = value.filled(np.nan)
    return filled


def _find_rows(condition: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]], array: npt.NDArray[Any]) -> list[int]:
    """Return the rows with any value that meets a condition; a part of them is in memory at a time."""
    step = max(1, VALUES_PER_CHUNK // max(1, array[:1].size))
    rows: list[int] = []
    for begin in range(0, len(array), step):
        part = condition(array[begin : begin + step])
        rows += (begin + np.flatnonzero(part.reshape(len(part), -1).any(axis=1))).tolist()
    return rows


def _validate_shape(shape: Any) -> tuple[int | None, ...]:
    try:
        axes = tuple(None if axis is None else operator.index(axis) for axis in shape)
    except TypeError:
        axes = (-1,)
    if not isinstance(shape, tuple) or any(axis is not None and axis < 0 for axis in axes):
        raise TypeError(f"Spec({shape!r}): the shape is a tuple of lengths, such as (28, 28), (None, 3) or ()")
    return axes


def _validate_dtype(dtype: Any) -> str:
    """Return the name of a dtype that tensors can have; NumPy knows more."""
    if dtype in (float, int, "float", "int"):
        name = dtype if isinstance(dtype, str) else dtype.__name__
        raise TypeError(f"Spec(..., {name}): say how many bits, {name}32 or {name}64")
    try:
        name = str(dtype) if str(dtype) in DTYPES else np.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in DTYPES or dtype is None:
        raise TypeError(f"Spec(..., {dtype!r}): no dtype of a tensor; write one of {', '.join(DTYPES)}")
    return name


def _format_shape(shape: tuple[int | None, ...]) -> str:
    axes = ["any" if axis is None else str(axis) for axis in shape]
    return f"({axes[0]},)" if len(axes) == 1 else f"({', '.join(axes)})"
